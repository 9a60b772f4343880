"""Messages that a peer on D-Bus sends."""

from __future__ import annotations

import struct

from pinnace.wire.dbus import marshal


def answer(kind: int, fields: list[tuple[int, tuple[str, object]]], body: bytes = b"") -> bytes:
    """A message of a type, with fields of its header and its body as it is."""
    head = struct.pack("<4BII", ord("l"), kind, 1, 1, len(body), 9) + marshal("a(yv)", fields)
    # The array of fields is written as if it began a message; so it does, at a multiple of 8 bytes less 4.
    length = struct.unpack_from("<I", head, 12)[0]
    head = head[:16] + head[-length:] if length else head[:16]
    return head + bytes(-len(head) % 8) + body
