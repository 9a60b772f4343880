"""What every HTTP protocol of a server shares: its limits, what it needs of a transport, and what a server asks of it.

`http1.py` and `http2.py` are the two protocols; `server.py` picks one by ALPN and treats them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pinnace.wire.http import Response

TLS_RECORD = 16384  # bytes; one TLS record is never longer


def plain_error(status: int, message: str) -> Response:
    """A protocol error as Go's net/http words it: plain text."""
    return Response(status, (("Content-Type", "text/plain; charset=utf-8"),), message.encode())


@dataclass(frozen=True, slots=True)
class Settings:
    """Limits of one server, and how it words the errors that no handler sees."""

    header_bytes: int = 1 << 20  # request line and headers; above: 431
    body_bytes: int = 3 << 20  # above: 413
    slow_peer_bytes: int = 4 << 20  # what a streaming response may have queued when more is written; above: cut off
    idle_seconds: float = 90.0  # a connection without a request
    request_seconds: float = 32.0  # from the first byte of a request to the end of its headers
    streams: int = 250  # of one HTTP/2 connection at a time; above: refused
    goaway_chance: float = (
        0.0  # that an HTTP/2 connection is asked to go away at a request, to spread load over servers
    )
    connections: int = 20_000  # open at a time; above: closed at once
    error: Callable[[int, str], Response] = plain_error


class Channel(Protocol):
    """The sending half of a connection: what `transport.Transport` offers to a protocol."""

    buffered: int

    def write(self, data: bytes | memoryview) -> None: ...

    def writelines(self, pieces: Sequence[bytes | memoryview]) -> None: ...

    def close(self, *, linger: bool = False) -> None: ...

    def abort(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    async def drain(self) -> None: ...


class HttpConnection(Protocol):
    """A protocol on one connection: what `transport.Transport` and `server.Server` call."""

    wants_more: bool
    closing: bool  # the server goes down
    activity: int  # grows with whatever happens; with `busy` it tells how idle this is

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or the connection has left HTTP."""

    @property
    def in_request(self) -> bool:
        """Whether part of a request has come and its end has not."""

    @property
    def streaming(self) -> bool:
        """Whether the answer may be silent for as long as it likes."""

    def data_received(self, data: bytes) -> None: ...

    def eof_received(self) -> None: ...

    def drained(self) -> None: ...

    def connection_lost(self) -> None: ...

    def close_when_done(self) -> None:
        """Close now if idle, else after what is being answered."""

    def sweep(self, now: float, stuck_seconds: float) -> None:
        """Give up what does not get on, where giving up the whole connection would be too much."""
