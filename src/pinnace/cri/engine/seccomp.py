"""Seccomp profiles: the RuntimeDefault one, those of files, and their translation to classic BPF.

RuntimeDefault refuses what containerd's and Docker's default profiles refuse (key rings, kernel modules, mounts, new
namespaces, clocks, BPF, …), each call released by the capability that is meant for it. Profiles have the OCI runtime
specification's form ("Linux seccomp"); the program is that of seccomp(2), on x86_64 and arm64. As with libseccomp, an
unconditional rule for a call overrides those with conditions, and rules that only repeat the default do nothing.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnace.cri.engine.seccomp_calls import numbers

if TYPE_CHECKING:
    from pinnace.cri.api import SecurityProfile

# The calls refused to a container that lacks the capability; the first ones to every container.
_REFUSED = {
    "": (
        "add_key keyctl request_key kexec_load kexec_file_load io_uring_setup io_uring_enter "
        "io_uring_register userfaultfd swapon swapoff ustat sysfs _sysctl nfsservctl uselib create_module "
        "query_module get_kernel_syms move_pages migrate_pages pivot_root clock_adjtime "
    ),
    "CAP_SYS_ADMIN": (
        "bpf clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr "
        "move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog "
        "umount2 unshare "
    ),
    "CAP_SYS_BOOT": ("reboot "),
    "CAP_SYS_CHROOT": ("chroot "),
    "CAP_SYS_MODULE": ("delete_module init_module finit_module "),
    "CAP_SYS_PACCT": ("acct "),
    "CAP_SYS_PTRACE": ("kcmp pidfd_getfd process_madvise "),
    "CAP_SYS_RAWIO": ("iopl ioperm "),
    "CAP_SYS_TIME": ("settimeofday clock_settime "),
    "CAP_SYS_TTY_CONFIG": ("vhangup "),
    "CAP_SYS_NICE": ("get_mempolicy mbind set_mempolicy set_mempolicy_home_node "),
    "CAP_DAC_READ_SEARCH": ("open_by_handle_at "),
}
_REFUSED_UNLESS_ALSO = {"bpf": "CAP_BPF", "perf_event_open": "CAP_PERFMON", "syslog": "CAP_SYSLOG"}
_NAMESPACE_FLAGS = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
_AF_ALG, _AF_VSOCK = 38, 40

_EPERM, _ENOSYS = 1, 38
_MACHINE = os.uname().machine
_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_ERRNO, _TRACE = 0x00050000, 0x7FF00000
_ACTIONS = {
    "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_TRAP": 0x00030000,
}
_FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}

Rule = dict[str, Any]


def profile(asked: SecurityProfile | None, capabilities: list[str]) -> dict[str, Any] | None:
    """The OCI profile for what the pod asks; None for Unconfined. CriError where it cannot be had."""
    if asked is None or asked.profile_type == "Unconfined":
        return None
    if asked.profile_type == "RuntimeDefault":
        return runtime_default(set(capabilities))
    return read_profile(Path(asked.localhost_ref))


def read_profile(path: Path) -> dict[str, Any]:
    """A profile from its file. CriError in containerd's words where it is not there, or is none."""
    from pinnace.cri.api import CriError

    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        why = f"open {path}: {(error.strerror or '').lower()}"
        raise CriError("UNKNOWN", f'cannot load seccomp profile "{path}": {why}') from None
    except ValueError as error:
        raise CriError("UNKNOWN", f'decoding seccomp profile failed "{path}": {error}') from None
    problem = check_profile(found)
    if problem:
        raise CriError("UNKNOWN", f'decoding seccomp profile failed "{path}": {problem}')
    return dict(found)


def check_profile(found: Any) -> str:
    """What is wrong with a profile; empty for a good one."""
    if not isinstance(found, dict) or not isinstance(found.get("syscalls") or [], list):
        return "it is not a profile"
    rules = found.get("syscalls") or []
    for action in (found.get("defaultAction"), *(rule.get("action") for rule in rules)):
        if action not in _ACTIONS:
            return f"invalid seccomp action: {action or ''}"
    for rule in rules:
        if not isinstance(rule.get("names"), list):
            return "a rule names no system calls"
        for argument in rule.get("args") or []:
            if argument.get("op") not in _OPERATORS:
                return f"invalid seccomp operator: {argument.get('op') or ''}"
            if not 0 <= argument.get("index", -1) < 6:
                return f"invalid seccomp argument index: {argument.get('index')}"
    for flag in found.get("flags") or []:
        if flag not in _FLAGS:
            return f"seccomp flag {flag} is not supported"
    return ""


def runtime_default(capabilities: set[str]) -> dict[str, Any]:
    """The default profile for a container with these capabilities."""
    refused = [
        name
        for capability, names in _REFUSED.items()
        if not capability or capability not in capabilities
        for name in names.split()
        if _REFUSED_UNLESS_ALSO.get(name) not in capabilities and name != "clone3"
    ]
    rules: list[Rule] = [{"names": refused, "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM}]
    if "CAP_SYS_ADMIN" not in capabilities:
        # A filter cannot look into clone3's arguments; without it C libraries use clone, whose flags are in a register.
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
        rules += [
            _refuse("clone", {"index": 0, "value": flag, "valueTwo": flag, "op": "SCMP_CMP_MASKED_EQ"})
            for flag in _NAMESPACE_FLAGS
        ]
    rules += [_refuse("socket", {"index": 0, "value": family, "op": "SCMP_CMP_EQ"}) for family in (_AF_ALG, _AF_VSOCK)]
    others = [{"index": 0, "value": value, "op": "SCMP_CMP_NE"} for value in _PERSONALITIES]
    rules.append({**_refuse("personality", *others), "every": True})
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}


def _refuse(name: str, *arguments: dict[str, Any]) -> Rule:
    return {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM, "args": list(arguments)}


def _instruction(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, jump_true, jump_false, k)


_LOAD, _EQUAL, _GREATER, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x54, 0x06
_OPERATORS = {
    "SCMP_CMP_EQ",
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
}


def flags(profile_: dict[str, Any]) -> int:
    """The flags of seccomp(2) that a profile asks for; speculation is allowed where it asks for none, as by runc."""
    asked = profile_.get("flags")
    return sum(_FLAGS[flag] for flag in set(asked)) if asked is not None else _FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]


def compile_filter(profile_: dict[str, Any]) -> bytes:
    """A BPF program for a profile; empty on a machine whose call numbers are not known here."""
    if _MACHINE not in _ARCH:
        return b""
    program = [
        _instruction(_LOAD, 4),
        _instruction(_EQUAL, _ARCH[_MACHINE], 1, 0),
        _instruction(_RETURN, _ERRNO | _ENOSYS),  # another architecture's calls would be misread
        _instruction(_LOAD, 0),
    ]
    if _MACHINE == "x86_64":
        program += [_instruction(_AT_LEAST, 0x40000000, 0, 1), _instruction(_RETURN, _ERRNO | _ENOSYS)]  # x32
    default = _verdict(profile_["defaultAction"], profile_.get("defaultErrnoRet"))
    for number, rules in _by_call(profile_, default).items():
        program += _call(number, rules)
    program.append(_instruction(_RETURN, default))
    return b"".join(program)


def _by_call(profile_: dict[str, Any], default: int) -> dict[int, list[tuple[list[Rule], int]]]:
    """For every call its rules, each as conditions and verdict, in the order in which they are tried."""
    known = numbers()
    found: dict[int, list[tuple[list[Rule], int]]] = {}
    for rule in profile_.get("syscalls") or []:
        verdict = _verdict(rule["action"], rule.get("errnoRet"))
        if verdict == default:
            continue
        for name in rule["names"]:
            if name in known:
                entries = found.setdefault(known[name], [])
                entries += [(conditions, verdict) for conditions in _alternatives(rule)]
    for number, entries in found.items():
        always = next((entry for entry in entries if not entry[0]), None)
        if always is not None:
            found[number] = [always]
    return found


def _alternatives(rule: Rule) -> list[list[Rule]]:
    """Conditions of which all must hold; those on one argument that is named twice are alternatives, as for runc.

    The extension `every` makes them hold together all the same.
    """
    arguments = rule.get("args") or []
    indexes = [argument["index"] for argument in arguments]
    if len(set(indexes)) == len(indexes) or rule.get("every"):
        return [arguments]
    return [[argument] for argument in arguments]


def _verdict(action: str, errno: int | None) -> int:
    value = _ACTIONS[action]
    return value | (_EPERM if errno is None else errno) if value in (_ERRNO, _TRACE) else value


def _call(number: int, rules: list[tuple[list[Rule], int]]) -> list[bytes]:
    """`if nr == number`, then the first rule whose conditions hold returns its verdict; falls through otherwise."""
    body: list[bytes] = []
    for conditions, verdict in rules:
        body += _rule(conditions, verdict)
    if len(body) < 250:  # a jump leads over 255 instructions at most
        reload = [_instruction(_LOAD, 0)] if rules[-1][0] else []
        return [_instruction(_EQUAL, number, 0, len(body) + len(reload)), *body, *reload]
    return [part for rule in rules for part in _call(number, [rule])]


def _rule(conditions: list[Rule], verdict: int) -> list[bytes]:
    """`if every condition holds: return verdict`; the accumulator is lost where there are conditions."""
    body = [_instruction(_RETURN, verdict)]
    for condition in reversed(conditions):
        body = _condition(condition, len(body)) + body
    return body


def _condition(argument: Rule, out: int) -> list[bytes]:
    """Falls through where the condition holds, else leaps over `out` instructions more; 64 bits in two halves."""
    low, high = 16 + 8 * argument["index"], 20 + 8 * argument["index"]
    value, operator = int(argument["value"]) & _LONG, argument["op"]
    if operator == "SCMP_CMP_MASKED_EQ":
        wanted = int(argument.get("valueTwo") or 0) & _LONG
        return [
            _instruction(_LOAD, high),
            _instruction(_AND, value >> 32),
            _instruction(_EQUAL, wanted >> 32, 0, out + 3),
            _instruction(_LOAD, low),
            _instruction(_AND, value & _INT),
            _instruction(_EQUAL, wanted & _INT, 0, out),
        ]
    top, bottom = value >> 32, value & _INT
    if operator == "SCMP_CMP_EQ":
        decide = [_instruction(_EQUAL, top, 0, out + 2), _instruction(_LOAD, low), _instruction(_EQUAL, bottom, 0, out)]
    elif operator == "SCMP_CMP_NE":
        decide = [_instruction(_EQUAL, top, 0, 2), _instruction(_LOAD, low), _instruction(_EQUAL, bottom, out, 0)]
    else:
        code = _GREATER if operator in ("SCMP_CMP_GT", "SCMP_CMP_LE") else _AT_LEAST
        above = operator in ("SCMP_CMP_GT", "SCMP_CMP_GE")
        if_true, if_false = (0, out) if above else (out, 0)
        decide = [
            _instruction(_GREATER, top, if_true + 3, 0),
            _instruction(_EQUAL, top, 0, if_false + 2),
            _instruction(_LOAD, low),
            _instruction(code, bottom, if_true, if_false),
        ]
    return [_instruction(_LOAD, high), *decide]


_INT, _LONG = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
