"""The program that holds a process namespace: it waits, and lets the kernel reap.

It is so small that it is written here as the machine's words: ignore SIGCHLD, so that no child of a shared process
namespace stays a zombie (sigaction(2)), then wait for signals for ever. As ELF has it
(https://refspecs.linuxfoundation.org/elf/elf.pdf). Few imports: it is part of the engine's monitor.
"""

from __future__ import annotations

import struct

_LOADED_AT = 0x400000
_HEADERS = 64 + 56  # bytes of ELF's header and of its one program header

_X86_64 = bytes.fromhex(
    "b80d000000"  # mov eax, 13 (rt_sigaction)
    "bf11000000"  # mov edi, 17 (SIGCHLD)
    "488d3517000000"  # lea rsi, [action]
    "31d2"  # xor edx, edx
    "41ba08000000"  # mov r10d, 8
    "0f05"  # syscall
    "b822000000"  # wait: mov eax, 34 (pause)
    "0f05"  # syscall
    "ebf7"  # jmp wait
    "90909090"  # up to a multiple of 8
)
_AARCH64 = struct.pack(
    "<14I",
    0xD28010C8,  # mov x8, #134 (rt_sigaction)
    0xD2800220,  # mov x0, #17 (SIGCHLD)
    0x10000181,  # adr x1, action
    0xD2800002,  # mov x2, #0
    0xD2800103,  # mov x3, #8
    0xD4000001,  # svc #0
    0xD2800928,  # wait: mov x8, #73 (ppoll)
    0xD2800000,  # mov x0, #0
    0xD2800001,  # mov x1, #0
    0xD2800002,  # mov x2, #0
    0xD2800003,  # mov x3, #0
    0xD4000001,  # svc #0
    0x17FFFFFA,  # b wait
    0xD503201F,  # nop, up to a multiple of 8
)
_MACHINES = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}  # ELF's number of a kind of processor, and the code


def supported(machine: str) -> bool:
    """Whether there is a program for machines of this kind, as `uname -m` names it."""
    return machine in _MACHINES


def program(machine: str) -> bytes:
    """The executable for them."""
    number, code = _MACHINES[machine]
    action = struct.pack("<4Q", 1, 0, 0, 0)  # SIG_IGN, no flags, no restorer, an empty mask
    size = _HEADERS + len(code) + len(action)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01", 2, number, 1, _LOADED_AT + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    readable_executable = 5
    segment = struct.pack("<IIQQQQQQ", 1, readable_executable, 0, _LOADED_AT, _LOADED_AT, size, size, 0x10000)
    return header + segment + code + action
