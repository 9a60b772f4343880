"""Device rules on cgroup version 2, where they are an eBPF program attached to the cgroup.

The program is assembled here, a few instructions a rule; the context is `struct bpf_cgroup_dev_ctx` (access_type,
major, minor) and the program types are those of the kernel's UAPI header linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import os
import struct

from pinnace.cri.engine import _syscalls as sys_

_BPF_PROG_LOAD = 5
_BPF_PROG_ATTACH = 8
_PROG_TYPE_CGROUP_DEVICE = 15
_ATTACH_CGROUP_DEVICE = 6
_ALLOW_MULTI = 2
_ACCESS = {"m": 1, "r": 2, "w": 4}
_TYPES = {"b": 1, "c": 2}


def _instruction(code: int, dst: int = 0, src: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, dst | src << 4, offset, value)


def assemble(rules: list[str]) -> bytes:
    """A program that returns 1 where a rule allows the whole access, else 0."""
    load = [
        _instruction(0x61, 2, 1, 0),  # r2 = access_type
        _instruction(0xBC, 3, 2),  # w3 = w2
        _instruction(0x54, 2, 0, 0, 0xFFFF),  # w2 &= 0xffff: the device type
        _instruction(0x74, 3, 0, 0, 16),  # w3 >>= 16: the access
        _instruction(0x61, 4, 1, 4),  # r4 = major
        _instruction(0x61, 5, 1, 8),  # r5 = minor
    ]
    program = b"".join(load)
    for rule in rules:
        program += _rule(*rule.split())
    return program + _instruction(0xB4, 0, 0, 0, 0) + _instruction(0x95)


def _rule(kind: str, numbers: str, access: str) -> bytes:
    """Return 1 if the access is to such a device and wants no more than is allowed; else go on behind this rule."""
    major, minor = numbers.split(":")
    checks: list[tuple[int, int]] = []  # (register, the value it must have)
    if kind != "a":
        checks.append((2, _TYPES[kind]))
    if major != "*":
        checks.append((4, int(major)))
    if minor != "*":
        checks.append((5, int(minor)))
    refused = 7 & ~sum(_ACCESS[letter] for letter in access)
    steps: list[bytes | tuple[int, int]] = [*checks]
    if refused:
        steps += [_instruction(0xBC, 6, 3), _instruction(0x54, 6, 0, 0, refused), (6, 0)]  # w6 = w3 & refused
    steps += [_instruction(0xB4, 0, 0, 0, 1), _instruction(0x95)]  # return 1
    return b"".join(
        # A check that fails jumps over what is left of the rule.
        step if isinstance(step, bytes) else _instruction(0x56, step[0], 0, len(steps) - index - 1, step[1])
        for index, step in enumerate(steps)
    )


def attach(cgroup: str, rules: list[str]) -> None:
    """Load the rules' program and attach it to a cgroup directory; it goes with the cgroup."""
    program = assemble(rules)
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "<IIQQIIQ",
        _PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        0,
        0,
        0,
    )
    loaded = sys_.bpf(_BPF_PROG_LOAD, attributes)
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sys_.bpf(_BPF_PROG_ATTACH, struct.pack("<IIII", directory, loaded, _ATTACH_CGROUP_DEVICE, _ALLOW_MULTI))
    finally:
        os.close(directory)
        os.close(loaded)
