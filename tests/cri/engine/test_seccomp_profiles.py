"""Seccomp profiles from files: read, checked, compiled, and judged by an interpreter of BPF and by the kernel."""

from __future__ import annotations

import errno
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.cri.api import CriError, SecurityProfile
from pinnace.cri.engine import seccomp
from pinnace.cri.engine.seccomp_calls import numbers

ALLOW, EPERM = 0x7FFF0000, 0x00050001
KILL_PROCESS = 0x80000000
WORD = 0xFFFFFFFF


def run(program: bytes, name: str, *args: int) -> int:
    """What the filter answers to a call of this machine."""
    architecture = struct.unpack_from("<I", program, 12)[0]
    padded = [*args, *[0] * 6][:6]
    data = struct.pack("<IIQ6Q", numbers()[name], architecture, 0, *padded)
    instructions = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    accumulator = position = 0
    while True:
        code, if_true, if_false, value = instructions[position]
        position += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x54:
            accumulator &= value
        elif code == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x25: accumulator > value, 0x35: accumulator >= value}[code]
            position += if_true if holds else if_false


def profile(*rules: dict[str, Any], default: str = "SCMP_ACT_ALLOW", **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "syscalls": list(rules), **more}


def refuse(*names: str, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ERRNO", **more}


def arg(op: str, value: int, *, index: int = 0, second: int = 0) -> dict[str, Any]:
    return {"index": index, "value": value, "valueTwo": second, "op": f"SCMP_CMP_{op}"}


def test_names_decide() -> None:
    program = seccomp.compile_filter(profile(refuse("mkdirat", "no_such_call", errnoRet=errno.ENOSYS)))
    assert run(program, "mkdirat") == 0x00050000 | errno.ENOSYS
    assert run(program, "read") == ALLOW
    allowing = profile({"names": ["read"], "action": "SCMP_ACT_ALLOW"}, default="SCMP_ACT_KILL_PROCESS")
    program = seccomp.compile_filter(allowing)
    assert (run(program, "read"), run(program, "write")) == (ALLOW, KILL_PROCESS)


_HOLDS = {
    "EQ": lambda a, v: a == v,
    "NE": lambda a, v: a != v,
    "LT": lambda a, v: a < v,
    "LE": lambda a, v: a <= v,
    "GE": lambda a, v: a >= v,
    "GT": lambda a, v: a > v,
}
_VALUES = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, WORD, WORD + 1, 2**63, 5 << 32, (5 << 32) + 1]))


@given(st.sampled_from(sorted(_HOLDS)), _VALUES, _VALUES, st.integers(0, 5))
def test_arguments_are_compared_as_64_bits(op: str, given_: int, value: int, index: int) -> None:
    program = seccomp.compile_filter(profile(refuse("ioctl", args=[arg(op, value, index=index)])))
    args = [0] * 6
    args[index] = given_
    assert run(program, "ioctl", *args) == (EPERM if _HOLDS[op](given_, value) else ALLOW)
    assert run(program, "read", *args) == ALLOW


@given(_VALUES, _VALUES, _VALUES)
def test_masked_arguments(given_: int, mask: int, wanted: int) -> None:
    program = seccomp.compile_filter(profile(refuse("ioctl", args=[arg("MASKED_EQ", mask, second=wanted)])))
    assert run(program, "ioctl", given_) == (EPERM if given_ & mask == wanted else ALLOW)


@pytest.mark.parametrize(
    ("rules", "call", "verdict"),
    [
        ([refuse("ioctl", args=[arg("EQ", 1), arg("EQ", 2, index=1)])], (1, 2), EPERM),
        ([refuse("ioctl", args=[arg("EQ", 1), arg("EQ", 2, index=1)])], (1, 3), ALLOW),
        ([refuse("ioctl", args=[arg("EQ", 1), arg("EQ", 2)])], (2,), EPERM),  # one argument twice: either will do
        ([refuse("ioctl", args=[arg("EQ", 1)]), refuse("ioctl", errnoRet=9)], (1,), 0x00050009),
        ([refuse("ioctl", args=[arg("EQ", 1)]), refuse("ioctl", args=[arg("EQ", 2)])], (2,), EPERM),
        ([{"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [arg("EQ", 1)]}, refuse("ioctl")], (1,), EPERM),
    ],
)
def test_rules_of_one_call_are_joined(rules: list[dict[str, Any]], call: tuple[int, ...], verdict: int) -> None:
    assert run(seccomp.compile_filter(profile(*rules)), "ioctl", *call) == verdict


def test_many_rules_of_one_call_stay_within_reach_of_jumps() -> None:
    rules = [refuse("ioctl", args=[arg("EQ", value)]) for value in range(200)]
    program = seccomp.compile_filter(profile(*rules))
    assert [run(program, "ioctl", value) for value in (0, 199, 200)] == [EPERM, EPERM, ALLOW]
    assert run(program, "read", 5) == ALLOW


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "decoding seccomp profile failed"),
        ("[]", "it is not a profile"),
        ("{}", "invalid seccomp action: "),
        (json.dumps(profile({"names": ["read"], "action": "NO"})), "invalid seccomp action: NO"),
        (
            json.dumps(profile(refuse("read", args=[{"index": 0, "value": 1, "op": "X"}]))),
            "invalid seccomp operator: X",
        ),
        (json.dumps(profile(refuse("read", args=[arg("EQ", 1, index=9)]))), "invalid seccomp argument index: 9"),
        (json.dumps(profile(flags=["X"])), "seccomp flag X is not supported"),
    ],
)
def test_a_file_that_is_no_profile_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(content)
    with pytest.raises(CriError) as caught:
        seccomp.profile(SecurityProfile(profile_type="Localhost", localhost_ref=str(path)), [])
    assert problem in caught.value.message


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.json"
    with pytest.raises(CriError) as caught:
        seccomp.profile(SecurityProfile(profile_type="Localhost", localhost_ref=str(path)), [])
    assert caught.value.message == f'cannot load seccomp profile "{path}": open {path}: no such file or directory'
