"""Messages of D-Bus: method calls written, and what of the answers tells whether they did.

Pure. Of the types those are here that systemd's methods take. Specified by
https://dbus.freedesktop.org/doc/dbus-specification.html ("Message Protocol", "Authentication Protocol").
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

METHOD_CALL, METHOD_RETURN, ERROR = 1, 2, 3  # types of messages
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8  # header fields
_NUMBERS = {"b": ("<I", 4), "u": ("<I", 4), "t": ("<Q", 8)}
_LONGEST = 1 << 27  # bytes of a message


class ProtocolError(Exception):
    """The peer does not speak D-Bus."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A message that answers a call, or another one (serial 0)."""

    serial: int  # of the call
    error: str = ""  # its name; empty for success
    text: str = ""  # what is wrong


def variant(signature: str, value: Any) -> tuple[str, Any]:
    """A value that carries its type along."""
    return signature, value


def authentication(uid: int) -> bytes:
    """What is said first, before the server's `OK`."""
    return b"\0AUTH EXTERNAL " + str(uid).encode().hex().encode() + b"\r\n"


BEGIN = b"BEGIN\r\n"
"""What is said after it; messages follow."""


def call(
    serial: int, path: str, interface: str, member: str, signature: str, *values: Any, destination: str = ""
) -> bytes:
    """A method call; values as the signature has them, structs as tuples, variants by `variant`."""
    fields: list[Any] = [
        (_PATH, variant("o", path)),
        (_INTERFACE, variant("s", interface)),
        (_MEMBER, variant("s", member)),
        (_SIGNATURE, variant("g", signature)),
    ]
    if destination:
        fields.append((_DESTINATION, variant("s", destination)))
    body = marshal(signature, *values)
    head = bytearray(struct.pack("<4BII", ord("l"), METHOD_CALL, 0, 1, len(body), serial))
    _write(head, "a(yv)", fields)
    _pad(head, 8)
    return bytes(head) + body


def marshal(signature: str, *values: Any) -> bytes:
    """Values one after the other."""
    out = bytearray()
    for kind, value in zip(_split(signature), values, strict=True):
        _write(out, kind, value)
    return bytes(out)


def _split(signature: str) -> Iterator[str]:
    """The complete types of a signature."""
    at = 0
    while at < len(signature):
        end = _end(signature, at)
        yield signature[at:end]
        at = end


def _end(signature: str, at: int) -> int:
    """Where the complete type that begins there ends."""
    if signature[at] == "a":
        return _end(signature, at + 1)
    if signature[at] != "(":
        return at + 1
    at += 1
    while signature[at] != ")":
        at = _end(signature, at)
    return at + 1


def _pad(out: bytearray, to: int) -> None:
    out += bytes(-len(out) % to)


def _write(out: bytearray, kind: str, value: Any) -> None:
    if kind in _NUMBERS:
        code, size = _NUMBERS[kind]
        _pad(out, size)
        out += struct.pack(code, value)
    elif kind == "y":
        out.append(value)
    elif kind in ("s", "o"):
        data = value.encode()
        _pad(out, 4)
        out += struct.pack("<I", len(data)) + data + b"\0"
    elif kind == "g":
        out += bytes([len(value)]) + value.encode() + b"\0"
    elif kind == "v":
        inner, content = value
        _write(out, "g", inner)
        _write(out, inner, content)
    elif kind[0] == "a":
        _write_array(out, kind[1:], value)
    else:
        _pad(out, 8)
        for part, content in zip(_split(kind[1:-1]), value, strict=True):
            _write(out, part, content)


def _write_array(out: bytearray, kind: str, values: Sequence[Any]) -> None:
    _pad(out, 4)
    at = len(out)
    out += bytes(4)
    _pad(out, 8 if kind[0] in "(t" else 1 if kind[0] in "ygv" else 4)  # the length counts from here
    begin = len(out)
    for value in values:
        _write(out, kind, value)
    out[at : at + 4] = struct.pack("<I", len(out) - begin)


def parse(buffer: bytes) -> tuple[Answer, int] | None:
    """The first message and how many bytes it has; None where it is not all there. Raises ProtocolError."""
    if len(buffer) < 16:
        return None
    order = {ord("l"): "<", ord("B"): ">"}.get(buffer[0])
    if order is None or buffer[3] != 1:
        raise ProtocolError("no message of D-Bus")
    body, _, fields = struct.unpack_from(f"{order}III", buffer, 4)
    begin = 16 + fields + -fields % 8
    if begin + body > _LONGEST:
        raise ProtocolError("a message of D-Bus that is too long")
    if len(buffer) < begin + body:
        return None
    try:
        found = dict(_fields(buffer, order, 16 + fields))
        error = found.get(_ERROR_NAME, "") if buffer[1] == ERROR else ""
        text = _text(buffer, order, begin) if error and found.get(_SIGNATURE, "").startswith("s") else ""
        serial = found.get(_REPLY_SERIAL, 0) if buffer[1] in (METHOD_RETURN, ERROR) else 0
    except (struct.error, IndexError, UnicodeDecodeError) as problem:
        raise ProtocolError(f"a message of D-Bus that is broken: {problem}") from None
    return Answer(serial, error, text), begin + body


def _fields(buffer: bytes, order: str, end: int) -> Iterator[tuple[int, Any]]:
    """The fields of a header, which are texts and numbers."""
    at = 16
    while at < end:
        at += -at % 8
        field, kind = buffer[at], chr(buffer[at + 2])
        at += 4  # the field, and the signature of one letter
        if kind == "u":
            at += -at % 4
            yield field, struct.unpack_from(f"{order}I", buffer, at)[0]
            at += 4
        elif kind == "g":
            yield field, buffer[at + 1 : at + 1 + buffer[at]].decode()
            at += buffer[at] + 2
        elif kind in "so":
            at += -at % 4
            text = _text(buffer, order, at)
            yield field, text
            at += 5 + len(text.encode())
        else:
            raise ProtocolError(f"a header of D-Bus with a field of type {kind}")


def _text(buffer: bytes, order: str, at: int) -> str:
    (length,) = struct.unpack_from(f"{order}I", buffer, at)
    return buffer[at + 4 : at + 4 + length].decode()
