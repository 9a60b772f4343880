"""Requests and responses as every server here sees them, whatever the protocol under them.

A handler takes a `Request` and returns a `Response` at once (reads served from memory cost no task), or an awaitable
of one. A response that goes on (`StreamingResponse`) is given a `Writer`; one that leaves HTTP (`UpgradeResponse`) is
given the raw connection. RFC 9110 and RFC 9112 specify the messages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl

Headers = Sequence[tuple[str, str]]


class Repeated(str):
    """The value of a header that came more than once: its lines joined, and each of them."""

    __slots__ = ("lines",)

    lines: list[str]

    @classmethod
    def of(cls, name: str, before: str, line: str) -> Repeated:
        """What was known of the header, which must not be used any more, and the line that follows."""
        joined = cls(f"{before}{'; ' if name == 'cookie' else ', '}{line}")
        joined.lines = before.lines if isinstance(before, Repeated) else [before]
        joined.lines.append(line)
        return joined


def lines_of(value: str) -> tuple[str, ...]:
    """Each line of a header; most values are one."""
    return tuple(value.lines) if isinstance(value, Repeated) else (value,)


@dataclass(slots=True)
class Peer:
    """Who is at the other end of a connection."""

    address: str  # IP address, empty for a Unix socket
    certificate: bytes | None = None  # DER of the verified client certificate, None if none was shown
    came_to: tuple[str, int] = ("", 0)  # the address and port at our end


@dataclass(slots=True)
class Request:
    """One request, its body complete."""

    method: str  # upper case
    path: str  # percent-decoded, without the query
    query: str  # raw, without the question mark
    headers: Mapping[str, str]  # names in lower case; values of repeated headers joined by ", " (`lines_of`)
    body: bytes
    peer: Peer
    raw_path: str = ""  # as it came, for proxies
    abandoned: Callable[[], None] | None = None  # set by a handler that wants to know when the client leaves

    def params(self) -> dict[str, str]:
        """The query as a dict; of a repeated name the first value."""
        found: dict[str, str] = {}
        for name, value in parse_qsl(self.query, keep_blank_values=True):
            found.setdefault(name, value)
        return found

    def param_list(self, name: str) -> list[str]:
        """Every value of a query parameter, in order (`?command=ls&command=-l`)."""
        return [value for key, value in parse_qsl(self.query, keep_blank_values=True) if key == name]


def frame_chunk(data: bytes) -> bytes:
    """`data` as one chunk of the chunked transfer coding (RFC 9112, 7.1); `data` must not be empty."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def unframe_chunk(chunk: bytes) -> bytes:
    """What `frame_chunk` framed."""
    return chunk[chunk.index(b"\n") + 1 : -2]


class Writer(Protocol):
    """The open end of a response body."""

    def write(self, data: bytes) -> None:
        """Queue bytes; each call becomes one chunk. After `closed` this does nothing."""

    def write_framed(self, chunk: bytes) -> None:
        """Queue one chunk that `frame_chunk` made: many watchers of one event share the same bytes object."""

    async def drain(self) -> None:
        """Wait until the peer has taken most of what was queued."""

    @property
    def closed(self) -> bool:
        """Whether the peer is gone or was cut off for being too slow."""

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call back once when the peer goes away before the body is complete."""


class RawConnection(Protocol):
    """A connection that has left HTTP: bytes both ways."""

    async def read(self, limit: int = 65536) -> bytes:
        """The next bytes; empty at the end of the stream. Bytes that followed the upgrade request come first."""

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Response:
    """A complete response. `Content-Length` and `Date` are the server's business.

    No two responses have the same `audit_id`: it is no part of `headers`, whose encoded form is remembered.
    """

    status: int = 200
    headers: Headers = ()
    body: bytes = b""
    audit_id: str = ""  # sent as Audit-Id
    closes: bool = False  # the connection ends with it


@dataclass(slots=True)
class StreamingResponse:
    """A response whose body is written over time, chunked; `run` ends it by returning.

    When the peer goes away `run` is cancelled, after the callbacks of `Writer.on_close` ran.
    """

    run: Callable[[Writer], Awaitable[None]]
    status: int = 200
    headers: Headers = ()
    audit_id: str = ""
    unsent: Callable[[], None] | None = None  # called instead of `run` where there is nobody or no need to send to


@dataclass(slots=True)
class UpgradeResponse:
    """`101 Switching Protocols`, then the connection belongs to `run`, which must close it."""

    run: Callable[[RawConnection], Awaitable[None]]
    headers: Headers = field(default_factory=tuple)
    status: int = 101
    audit_id: str = ""
    unsent: Callable[[], None] | None = None  # as a `StreamingResponse` has it


def discard(response: Response | StreamingResponse | UpgradeResponse) -> None:
    """Let go of what a response holds whose `run` will not be called."""
    if not isinstance(response, Response) and response.unsent is not None:
        response.unsent()


AnyResponse = Response | StreamingResponse | UpgradeResponse
Handler = Callable[[Request], AnyResponse | Awaitable[AnyResponse]]
