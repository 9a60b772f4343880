"""Heads of responses, made once for the few that are sent over and over; and HTTP/1.1's: status line, headers, date."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus

from pinnace.wire.http import Headers

HEADS_KEPT = 512
BODYLESS = frozenset({204, 304})
_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


def status_line(status: int) -> str:
    """With Go's phrase for a status that has none."""
    return _STATUS_LINES.get(status) or f"HTTP/1.1 {status} status code {status}\r\n"


class Heads:
    """Response heads by status and headers: the same few are sent over and over."""

    def __init__(self, encode: Callable[[int, Headers], bytes], encode_date: Callable[[str], bytes]) -> None:
        """How a protocol writes status and headers, and the date, which is added to each."""
        self._encode = encode
        self._encode_date = encode_date
        self._made: dict[tuple[int, Headers], bytes] = {}
        self._date = b""
        self._date_second = 0

    def get(self, status: int, headers: Headers) -> bytes:
        """Status, headers and date; the caller adds the body's framing and what ends the head."""
        key = (status, headers if type(headers) is tuple else tuple(headers))
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= HEADS_KEPT:
                self._made.clear()
            made = self._made[key] = self._encode(status, headers)
        second = int(time.time())
        if second != self._date_second:
            self._date_second = second
            self._date = self._encode_date(formatdate(second, usegmt=True))
        return made + self._date


def _encode_head(status: int, headers: Headers) -> bytes:
    lines = [status_line(status)]
    for name, value in headers:
        if "\n" in value or "\r" in value:
            value = value.replace("\r", " ").replace("\n", " ")
        lines.append(f"{name}: {value}\r\n")
    return "".join(lines).encode("latin-1", "replace")


def audit_line(audit_id: str) -> bytes:
    """The header that no two responses have alike."""
    return b"Audit-Id: %b\r\n" % audit_id.encode("latin-1", "replace")


heads = Heads(_encode_head, lambda date: f"Date: {date}\r\n".encode())
