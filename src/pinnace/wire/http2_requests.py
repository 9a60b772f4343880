"""Heads of HTTP/2 requests: from header blocks to method, path and headers, known again where they repeat.

Clients send the same headers again and again; while the decoder's table stays as it is, a block means what it meant
before. What makes a request malformed is specified by RFC 9113, 8.1.1 to 8.3.1.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

from pinnace.wire.hpack import WELL_FORMED, Decoder, Field, HeadersTooLarge, HpackError
from pinnace.wire.http import Repeated
from pinnace.wire.http2_frames import Code, ConnectionFailure, StreamFailure

HEADS_KEPT = 256
HEAD_BYTES = 1024  # longer blocks are not remembered


class RequestHead(NamedTuple):
    """A request without its body."""

    method: str
    path: str
    query: str
    raw_path: str
    headers: dict[str, str]
    length: int  # of the body as announced; -1 if not


class RequestHeads:
    """The heads that one connection brings."""

    def __init__(self, limit: int) -> None:
        self._decoder = Decoder(limit)
        self._known: dict[bytes, RequestHead] = {}
        self._known_at = 0  # the table's `changes` when `_known` was begun

    def read(self, block: bytes) -> RequestHead | None:
        """The request that a header block means; None if it is too long. Raises both failures."""
        decoder = self._decoder
        if decoder.changes != self._known_at:
            self._known.clear()
            self._known_at = decoder.changes
        known = self._known.get(block)
        if known is not None:
            return known
        fields = self.decode(block)
        if decoder.oversize:
            return None
        head = parse_head(fields)
        if decoder.changes == self._known_at and len(block) <= HEAD_BYTES:
            if len(self._known) >= HEADS_KEPT:
                self._known.clear()
            self._known[block] = head
        return head

    def decode(self, block: bytes) -> list[Field]:
        """The fields of a block, malformed or not."""
        try:
            return self._decoder.decode(block)
        except HeadersTooLarge as error:
            raise ConnectionFailure(Code.ENHANCE_YOUR_CALM, str(error)) from None
        except HpackError as error:
            raise ConnectionFailure(Code.COMPRESSION_ERROR, str(error)) from None


def parse_head(fields: list[Field]) -> RequestHead:
    """The request's head of its fields (RFC 9113, 8.3.1). Raises StreamFailure for a malformed one."""
    pseudo: dict[str, str] = {}
    headers: dict[str, str] = {}
    for name, value, _ in fields:
        if name < WELL_FORMED:
            raise StreamFailure(Code.PROTOCOL_ERROR)
        if name[0] == ":":
            if headers or name in pseudo:
                raise StreamFailure(Code.PROTOCOL_ERROR)
            pseudo[name] = value
        elif name in headers:
            headers[name] = Repeated.of(name, headers[name], value)
        else:
            headers[name] = value
    authority = pseudo.pop(":authority", None)
    if authority:
        headers["host"] = authority
    method, raw = pseudo.get(":method", ""), pseudo.get(":path", "")
    target_ok = raw.startswith("/") or (raw == "*" and method == "OPTIONS")
    if len(pseudo) != 3 or ":scheme" not in pseudo or not method or not target_ok:
        raise StreamFailure(Code.PROTOCOL_ERROR)
    if headers.get("te", "trailers") != "trailers":
        raise StreamFailure(Code.PROTOCOL_ERROR)
    raw, _, query = raw.partition("?")
    path = unquote(raw) if "%" in raw else raw
    return RequestHead(method, path, query, raw, headers, _length(headers))


def _length(headers: dict[str, str]) -> int:
    text = headers.get("content-length")
    if text is None:
        return -1
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise StreamFailure(Code.PROTOCOL_ERROR)
    return int(text)
