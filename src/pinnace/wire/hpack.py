"""HPACK for one server: request headers out of header blocks, response headers into them.

The Huffman code and the static table are those of PyPI's `hpack`; the decoding loop is our own, made for requests that
differ from the last in a field or two. What is sent uses no dynamic table, so one encoded head serves every connection.
Specified by RFC 7541; which names and values are well-formed by RFC 9113, 8.2.
"""

from __future__ import annotations

import re
from collections import deque

from hpack.huffman_table import HUFFMAN_COMPLETE, HUFFMAN_EMIT_SYMBOL, HUFFMAN_FAIL, HUFFMAN_TABLE
from hpack.table import HeaderTable

from pinnace.wire.heads import Heads
from pinnace.wire.http import Headers

TABLE_BYTES = 4096  # of the dynamic table, the protocol's default: we never ask for another
OVERHEAD = 32  # what every field counts besides its name and value (RFC 7541, 4.1)
OVERSIZE = 4  # times the limit: above, a header list is an attack and not a mistake
TEXTS_KEPT = 2048
TEXT_BYTES = 64  # longer strings are remembered by their connection alone: tokens are longer
LONG_TEXTS_KEPT = 4
NAMES_KEPT = 1024
WELL_FORMED = "!"  # the least of well-formed names; those that no request may carry become NULs, as many

Field = tuple[str, str, int]  # name, value, size

_NAME = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_FORBIDDEN = re.compile("[\0\r\n]").search
_CONNECTION_NAMES = frozenset({"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"})


_names: dict[bytes, str] = {}


def _name(raw: bytes) -> str:
    name = _names.get(raw)
    if name is None:
        name = raw.decode("latin-1")
        if not _NAME.fullmatch(raw) or name in _CONNECTION_NAMES:
            name = "\0" * len(raw)
        if len(_names) < NAMES_KEPT and len(raw) <= TEXT_BYTES:
            _names[raw] = name
    return name


def _static(name: bytes, value: bytes) -> Field:
    return _name(name), value.decode(), OVERHEAD + len(name) + len(value)


_STATIC: list[Field | None] = [None, *(_static(*entry) for entry in HeaderTable.STATIC_TABLE)]
_DYNAMIC = len(_STATIC)  # the first index of the dynamic table


class HpackError(Exception):
    """The block cannot be decoded: a connection error, for both sides' tables now differ."""


class HeadersTooLarge(HpackError):
    """The header list is beyond any limit."""


class Decoder:
    """The receiving half of one connection: the dynamic table and what it makes of blocks."""

    def __init__(self, limit: int) -> None:
        self._limit = limit  # of a header list, in bytes as `SETTINGS_MAX_HEADER_LIST_SIZE` counts
        self._table: deque[Field] = deque()  # the newest first
        self._size = 0
        self._capacity = TABLE_BYTES
        self._long_texts: dict[bytes, str] = {}  # paths push a token out of the table, then it comes again
        self.changes = 0  # grows when the table changes: while it stays, a block means what it meant before
        self.oversize = False  # whether the last list was longer than the limit, and is incomplete

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a block, in order. Names below `WELL_FORMED` stand for malformed ones. Raises HpackError."""
        try:
            return self._decode(block)
        except IndexError:
            raise HpackError("incomplete header block or no such table index") from None

    def _decode(self, block: bytes) -> list[Field]:
        fields: list[Field] = []
        position, end, total = 0, len(block), 0
        self.oversize = False
        while position < end:
            first = block[position]
            position += 1
            if first >= 0x80:  # a field of the tables
                index = first & 0x7F
                if index == 0x7F:
                    index, position = _integer(block, position, 0x7F)
                field = self._field(index)
            elif first >= 0x40:  # a literal, to be put into the table
                field, position = self._literal(block, position, first & 0x3F, 0x3F)
                self._insert(field)
            elif first >= 0x20:
                if fields or self.oversize:
                    raise HpackError("table size update within a block")
                position = self._resize(block, position, first & 0x1F)
                continue
            else:  # a literal for this once
                field, position = self._literal(block, position, first & 0x0F, 0x0F)
            total += field[2]
            if total <= self._limit:
                fields.append(field)
            else:
                self.oversize = True
                if total > OVERSIZE * self._limit:
                    raise HeadersTooLarge("header list is far too long")
        return fields

    def _field(self, index: int) -> Field:
        if index >= _DYNAMIC:
            return self._table[index - _DYNAMIC]
        field = _STATIC[index]
        if field is None:
            raise HpackError("table index 0")
        return field

    def _literal(self, block: bytes, position: int, index: int, mask: int) -> tuple[Field, int]:
        if index == mask:
            index, position = _integer(block, position, mask)
        if index:
            name = self._field(index)[0]
        else:
            raw, huffman, position = _string(block, position)
            name = _name(_decode_huffman(raw) if huffman else raw)
        raw, huffman, position = _string(block, position)
        value = self._text(raw) if huffman else raw.decode("latin-1")
        size = OVERHEAD + len(name) + len(value)
        if _FORBIDDEN(value):
            name = "\0" * len(name)
        return (name, value, size), position

    def _text(self, raw: bytes) -> str:
        known, most = (_texts, TEXTS_KEPT) if len(raw) <= TEXT_BYTES else (self._long_texts, LONG_TEXTS_KEPT)
        text = known.get(raw)
        if text is None:
            text = _decode_huffman(raw).decode("latin-1")
            if len(known) >= most:
                known.clear()
            if len(raw) <= TABLE_BYTES:
                known[raw] = text
        return text

    def _insert(self, field: Field) -> None:
        self.changes += 1
        table = self._table
        table.appendleft(field)
        self._size += field[2]
        while self._size > self._capacity:
            self._size -= table.pop()[2]

    def _resize(self, block: bytes, position: int, capacity: int) -> int:
        if capacity == 0x1F:
            capacity, position = _integer(block, position, 0x1F)
        if capacity > TABLE_BYTES:
            raise HpackError("table size above what was offered")
        self._capacity = capacity
        self.changes += 1
        while self._size > capacity:
            self._size -= self._table.pop()[2]
        return position


def _integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """The rest of an integer whose prefix was all ones."""
    number, shift = prefix, 0
    while True:
        byte = block[position]
        position += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
        shift += 7
        if shift > 28:
            raise HpackError("integer too long")


def _string(block: bytes, position: int) -> tuple[bytes, bool, int]:
    """Raw bytes, whether they are in the Huffman code, and where they end."""
    first = block[position]
    position += 1
    length = first & 0x7F
    if length == 0x7F:
        length, position = _integer(block, position, 0x7F)
    end = position + length
    if end > len(block):
        raise HpackError("string longer than its block")
    return block[position:end], first >= 0x80, end


_texts: dict[bytes, str] = {}
_steps: dict[int, tuple[int, bytes, bool]] = {}  # Huffman by whole bytes: filled as they come


def _decode_huffman(raw: bytes) -> bytes:
    node, complete, steps = 0, True, _steps
    pieces: list[bytes] = []
    for byte in raw:
        step = steps.get(node << 8 | byte) or _step(node, byte)
        node, piece, complete = step
        pieces.append(piece)
    if not complete:
        raise HpackError("incomplete Huffman string")
    return b"".join(pieces)


def _step(node: int, byte: int) -> tuple[int, bytes, bool]:
    """One byte of the Huffman code from a node of its tree: the next node, what came out, whether it may end here."""
    key, out, flags = node << 8 | byte, bytearray(), 0
    for nibble in (byte >> 4, byte & 15):
        node, flags, symbol = HUFFMAN_TABLE[node * 16 + nibble]
        if flags & HUFFMAN_FAIL:
            raise HpackError("invalid Huffman string")
        if flags & HUFFMAN_EMIT_SYMBOL:
            out.append(symbol)
    step = _steps[key] = node, bytes(out), bool(flags & HUFFMAN_COMPLETE)
    return step


# Sending.


def _encode_integer(number: int, mask: int, first: int) -> bytes:
    if number < mask:
        return bytes((first | number,))
    encoded = bytearray((first | mask,))
    number -= mask
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def encode_field(name: bytes, value: bytes) -> bytes:
    """A field that leaves no trace in the peer's table."""
    index, values = HeaderTable.STATIC_TABLE_MAPPING.get(name, (0, {}))
    if value in values:
        return _encode_integer(values[value], 0x7F, 0x80)
    head = _encode_integer(index, 0x0F, 0)
    if not index:
        head += _encode_integer(len(name), 0x7F, 0) + name
    return head + _encode_integer(len(value), 0x7F, 0) + value


def encode_audit_id(audit_id: str) -> bytes:
    """`audit-id`, which is worth no place in a table."""
    value = audit_id.encode("latin-1", "replace")
    if len(value) < 0x7F:
        return b"\0\x08audit-id%c%b" % (len(value), value)
    return b"\0\x08audit-id" + _encode_integer(len(value), 0x7F, 0) + value


def encode_length(length: int) -> bytes:
    """`content-length`."""
    text = b"%d" % length
    return b"\x0f\x0d%c%b" % (len(text), text)


CONTINUE = encode_field(b":status", b"100")
TABLE_SIZE_0 = b"\x20"  # tells a peer that lowered the table's size that we keep to it


def _encode_head(status: int, headers: Headers) -> bytes:
    fields = [encode_field(b":status", b"%d" % status)]
    for name, value in headers:
        name = name.lower()
        if name in _CONNECTION_NAMES:
            continue
        value = value.replace("\r", " ").replace("\n", " ").replace("\0", " ").strip(" \t")
        fields.append(encode_field(name.encode("latin-1", "replace"), value.encode("latin-1", "replace")))
    return b"".join(fields)


blocks = Heads(_encode_head, lambda date: encode_field(b"date", date.encode()))
"""Heads of responses as header blocks."""
