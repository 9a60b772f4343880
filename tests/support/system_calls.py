"""A program of a few machine instructions that makes system calls and writes what each returned: for tests' images."""

from __future__ import annotations

import platform
import struct
from collections.abc import Iterable

_BASE = 0x400000
_HEADERS = 64 + 56  # bytes of the ELF header and of one program header


def supported() -> bool:
    return platform.machine() == "x86_64"


def program(calls: Iterable[tuple[int, int]]) -> bytes:
    """A static executable for x86-64: for each (number, first argument), the other arguments being 0, sixteen bytes of
    output, the result and the argument.
    """
    table = b"".join(struct.pack("<qq", number, argument) for number, argument in calls)
    code = _code(0, 0, 0)
    address = _BASE + _HEADERS + len(code)
    code = _code(address, len(table) // 16, len(table))
    size = _HEADERS + len(code) + len(table)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 7, 0, _BASE, _BASE, size, size, 0x1000)
    return identity + header + segment + code + table


def _code(table: int, count: int, length: int) -> bytes:
    loop = bytes.fromhex(
        "48 8b 03"  # mov rax, [rbx]
        "48 8b 7b 08"  # mov rdi, [rbx+8]
        "31 f6 31 d2 45 31 d2 45 31 c0 45 31 c9"  # the other arguments
        "0f 05"  # syscall
        "48 89 03"  # mov [rbx], rax
        "48 83 c3 10"  # add rbx, 16
        "49 ff cc"  # dec r12
    )
    loop += b"\x75" + struct.pack("b", -len(loop) - 2)  # jnz
    begin = b"\x48\xbb" + struct.pack("<Q", table) + b"\x49\xc7\xc4" + struct.pack("<i", count)
    write = b"\xb8\x01\0\0\0\xbf\x01\0\0\0\x48\xbe" + struct.pack("<Q", table) + b"\xba" + struct.pack("<I", length)
    return begin + loop + write + b"\x0f\x05" + b"\xb8\x3c\0\0\0\x31\xff\x0f\x05"
