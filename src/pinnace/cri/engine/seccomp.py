"""Seccomp profiles: the RuntimeDefault one, and their translation to classic BPF.

RuntimeDefault refuses what containerd's and Docker's default profiles refuse (key rings, kernel modules, mounts, new
namespaces, clocks, BPF, …), each call released by the capability that is meant for it. Profiles have the OCI runtime
specification's form ("Linux seccomp"); the program is that of seccomp(2). Calls are named in a table of the ones that
profiles here refuse, for x86_64 and arm64.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pinnace.cri.api import SecurityProfile

_CALLS = (  # noqa: SIM905  (name:x86_64:arm64)
    "_sysctl:156:- acct:163:89 add_key:248:217 bpf:321:280 chroot:161:51 clock_adjtime:305:266 "
    "clock_settime:227:112 clone:56:220 clone3:435:435 create_module:174:- delete_module:176:106 "
    "fanotify_init:300:262 finit_module:313:273 fsconfig:431:431 fsmount:432:432 fsopen:430:430 fspick:433:433 "
    "get_kernel_syms:177:- get_mempolicy:239:236 init_module:175:105 io_uring_enter:426:426 "
    "io_uring_register:427:427 io_uring_setup:425:425 ioperm:173:- iopl:172:- kcmp:312:272 "
    "kexec_file_load:320:294 kexec_load:246:104 keyctl:250:219 lookup_dcookie:212:18 mbind:237:235 "
    "migrate_pages:256:238 mount:165:40 mount_setattr:442:442 move_mount:429:429 move_pages:279:239 "
    "nfsservctl:180:42 open_by_handle_at:304:265 open_tree:428:428 perf_event_open:298:241 personality:135:92 "
    "pidfd_getfd:438:438 pivot_root:155:41 process_madvise:440:440 query_module:178:- quotactl:179:60 "
    "quotactl_fd:443:443 reboot:169:142 request_key:249:218 set_mempolicy:238:237 set_mempolicy_home_node:450:450 "
    "setdomainname:171:162 sethostname:170:161 setns:308:268 settimeofday:164:170 socket:41:198 swapoff:168:225 "
    "swapon:167:224 sysfs:139:- syslog:103:116 umount2:166:39 unshare:272:97 uselib:134:- userfaultfd:323:282 "
    "ustat:136:- vhangup:153:58 "
).split()

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
_ALLOW, _ERRNO, _KILL, _LOG, _TRAP = 0x7FFF0000, 0x00050000, 0x80000000, 0x7FFC0000, 0x00030000
_ACTIONS = {
    "SCMP_ACT_ALLOW": _ALLOW,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_KILL": _KILL,
    "SCMP_ACT_KILL_PROCESS": _KILL,
    "SCMP_ACT_LOG": _LOG,
    "SCMP_ACT_TRAP": _TRAP,
}

Rule = dict[str, Any]


def profile(asked: SecurityProfile | None, capabilities: list[str]) -> dict[str, Any] | None:
    """The OCI profile for what the pod asks; None for Unconfined. CriError where it cannot be had."""
    if asked is None or asked.profile_type == "Unconfined":
        return None
    if asked.profile_type != "RuntimeDefault":
        from pinnace.cri.api import CriError

        raise CriError("UNIMPLEMENTED", f"seccomp profile type {asked.profile_type} is not supported by this runtime")
    return runtime_default(set(capabilities))


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
    rules.append(
        _refuse("personality", *({"index": 0, "value": value, "op": "SCMP_CMP_NE"} for value in _PERSONALITIES))
    )
    return {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}


def _refuse(name: str, *arguments: dict[str, Any]) -> Rule:
    return {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM, "args": list(arguments)}


def numbers() -> dict[str, int]:
    """This machine's system call numbers of the table's names; names it does not have are left out."""
    column = 1 if _MACHINE == "x86_64" else 2
    rows = [row.split(":") for row in _CALLS]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}


def _instruction(code: int, k: int, jump_true: int = 0, jump_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, jump_true, jump_false, k)


_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06


def compile_filter(profile_: dict[str, Any]) -> bytes:
    """A BPF program for a profile; empty on a machine whose call numbers are not known here."""
    if _MACHINE not in _ARCH:
        return b""
    known = numbers()
    program = [
        _instruction(_LOAD, 4),
        _instruction(_EQUAL, _ARCH[_MACHINE], 1, 0),
        _instruction(_RETURN, _ERRNO | _ENOSYS),  # another architecture's calls would be misread
        _instruction(_LOAD, 0),
    ]
    if _MACHINE == "x86_64":
        program += [_instruction(_AT_LEAST, 0x40000000, 0, 1), _instruction(_RETURN, _ERRNO | _ENOSYS)]  # x32
    for rule in profile_.get("syscalls") or []:
        verdict = _verdict(rule["action"], rule.get("errnoRet", _EPERM))
        for name in rule["names"]:
            if name in known:
                program += _rule(known[name], rule.get("args") or [], verdict)
    program.append(_instruction(_RETURN, _verdict(profile_["defaultAction"], profile_.get("defaultErrnoRet", _EPERM))))
    return b"".join(program)


def _verdict(action: str, errno: int) -> int:
    value = _ACTIONS[action]
    return value | errno if value == _ERRNO else value


def _rule(number: int, arguments: list[dict[str, Any]], verdict: int) -> list[bytes]:
    """`if nr == number and every argument condition holds: return verdict`, falling through otherwise."""
    if not arguments:
        return [_instruction(_EQUAL, number, 0, 1), _instruction(_RETURN, verdict)]
    # Only the low words are compared: the arguments filtered here are ints and flags of 32 bits.
    conditions: list[list[tuple[int, int, bool]]] = []  # (code, operand, leave the rule when it is true)
    for argument in arguments:
        load = (_LOAD, 16 + 8 * argument["index"], False)
        value = argument["value"] & 0xFFFFFFFF
        if argument["op"] == "SCMP_CMP_MASKED_EQ":
            wanted = argument.get("valueTwo", 0) & 0xFFFFFFFF
            conditions.append([load, (_AND, value, False), (_EQUAL, wanted, False)])
        else:
            conditions.append([load, (_EQUAL, value, argument["op"] == "SCMP_CMP_NE")])
    steps = [step for condition in conditions for step in condition]
    body: list[bytes] = []
    for index, (code, operand, inverted) in enumerate(steps):
        if code != _EQUAL:
            body.append(_instruction(code, operand))
            continue
        out = len(steps) - index  # over the rest and the return, to where the number is loaded again
        body.append(_instruction(code, operand, out if inverted else 0, 0 if inverted else out))
    body.append(_instruction(_RETURN, verdict))
    return [_instruction(_EQUAL, number, 0, len(body) + 1), *body, _instruction(_LOAD, 0)]
