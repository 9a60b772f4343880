"""Passing a request on to another server: a plain response streamed back, or an upgraded connection copied both ways.

The API server reaches the kubelet's logs, exec and port-forward, nodes, pods and services in this way, and the kubelet
the runtime's streaming server. Headers follow RFC 9110, 7.6: those of one hop stay behind, `X-Forwarded-For` grows.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httptools

from pinnace.wire.dialing import connect, dial_error
from pinnace.wire.http import Headers, RawConnection, Request, Response, StreamingResponse, UpgradeResponse, Writer
from pinnace.wire.negotiation import SPDY31
from pinnace.wire.raw import RawStream
from pinnace.wire.tasks import end_tasks
from pinnace.wire.transport import Transport

if TYPE_CHECKING:
    from pinnace.wire.spdy_session import ByteStream

HOP_BY_HOP = frozenset(
    [
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "expect",
        "content-length",
        "host",
    ]
)
SECRETS = ("authorization", "impersonate-")  # how the names of headers with the caller's identity begin
WHOLE_BYTES = 1 << 20  # an answer no longer than this is passed on in one piece
WAITING_BYTES = 1 << 20  # of a body that nobody took: no more is read then
HEAD_SECONDS = 30.0


class BackendError(Exception):
    """The other server could not be reached, or did not speak HTTP."""


async def http_proxy(
    request: Request, url: str, ssl_context: ssl.SSLContext | None = None, headers: Headers = (), server_name: str = ""
) -> Response | StreamingResponse:
    """Send the request to `url` (whole: scheme, host, path, query) and pass the answer on as it comes.

    `headers` are added and win over the client's. The backend's certificate must be `server_name`'s, if that is given,
    and else its host's. The caller's credentials (`Authorization`, `Impersonate-*`) are not passed on. Raises
    BackendError when there is no answer; errors that the backend answers are passed on unchanged.
    """
    backend = await _Backend.connect(url, ssl_context, server_name)
    try:
        backend.send(request, [*_forwarded(request, headers), ("Connection", "close")], with_body=True)
        await backend.read_head(request.method)
        fields = backend.response_headers()
        if backend.length is not None and backend.length <= WHOLE_BYTES:
            body = b"".join([chunk async for chunk in backend.body()])
            backend.close()
            return Response(backend.status, fields, body)
    except BaseException:
        backend.close()
        raise

    async def run(writer: Writer) -> None:
        writer.on_close(backend.close)
        try:
            async for chunk in backend.body():
                writer.write(chunk)
                await writer.drain()
        finally:
            backend.close()

    return StreamingResponse(run, backend.status, fields, unsent=backend.close)


async def upgrade_proxy(
    request: Request, url: str, ssl_context: ssl.SSLContext | None = None, headers: Headers = (), server_name: str = ""
) -> UpgradeResponse | Response:
    """Pass an upgrade request on; when the backend agrees, bytes are copied both ways until either end closes.

    A backend that does not agree has its answer passed on. Raises BackendError when there is no answer.
    """
    fields = [*_forwarded(request, headers), ("Connection", "Upgrade"), ("Upgrade", request.headers.get("upgrade", ""))]
    backend = await _upgrade(request, url, fields, ssl_context, server_name)
    if isinstance(backend, Response):
        return backend

    async def run(connection: RawConnection) -> None:
        try:
            await join(connection, backend.raw)
        finally:
            backend.close()
            connection.close()

    return UpgradeResponse(run, tuple(backend.headers), unsent=backend.close)


async def dial_spdy(request: Request, url: str, version: str) -> RawConnection | Response:
    """A SPDY/3.1 connection to `url` with a `X-Stream-Protocol-Version`, whatever the client who asks speaks.

    A backend that does not agree has its answer returned. Raises BackendError when there is no answer.
    """
    fields = [("Connection", "Upgrade"), ("Upgrade", SPDY31), ("X-Stream-Protocol-Version", version)]
    backend = await _upgrade(request, url, fields, None, "")
    return backend if isinstance(backend, Response) else backend.raw


async def _upgrade(
    request: Request, url: str, fields: list[tuple[str, str]], ssl_context: ssl.SSLContext | None, server_name: str
) -> _Backend | Response:
    """A backend that has left HTTP as `fields` ask it to, or the answer of one that has not."""
    try:
        backend = await _Backend.connect(url, ssl_context, server_name)
    except BackendError as error:
        raise BackendError(f"error dialing backend: {error}") from error
    try:
        backend.send(request, fields, with_body=False)
        await backend.read_head(request.method)
        if backend.status == 101:
            return backend
        body = b"".join([chunk async for chunk in backend.body(limit=WHOLE_BYTES)])
        backend.close()
        return Response(backend.status, backend.response_headers(), body)
    except BaseException:
        backend.close()
        raise


async def join(one: ByteStream, other: ByteStream) -> None:
    """Copy both ways until one end closes."""
    tasks = [asyncio.ensure_future(_copy(one, other)), asyncio.ensure_future(_copy(other, one))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(tasks)


def _forwarded(request: Request, headers: Headers) -> list[tuple[str, str]]:
    """The client's headers as the backend shall see them, then `headers`."""
    replaced = {name.lower() for name, _ in headers} | {"x-forwarded-for"}
    dropped = HOP_BY_HOP | replaced
    dropped |= {token.strip().lower() for token in request.headers.get("connection", "").split(",")}
    fields = [
        (name, value) for name, value in request.headers.items() if name not in dropped and not name.startswith(SECRETS)
    ]
    seen = request.headers.get("x-forwarded-for")
    if request.peer.address:
        fields.append(("X-Forwarded-For", f"{seen}, {request.peer.address}" if seen else request.peer.address))
    return [*fields, *headers]


class _Backend:
    """One connection to the other server and the response that comes over it; the protocol of its transport."""

    def __init__(self, target: str, host: str) -> None:
        self._target = target
        self._host = host
        self._transport: Transport
        self._parser: Any = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(lenient_optional_cr_before_lf=True)  # as Go reads responses
        self._chunks: list[bytes] = []  # of the body, not yet taken
        self._chunk_bytes = 0
        self._waiter: asyncio.Future[None] | None = None
        self._raw: RawStream | None = None  # what follows a 101
        self._malformed = ""
        self._head_done = False
        self._ended = False
        self._complete = False  # the body came whole
        self._bodyless = False
        self._framed = False  # the body says where it ends, unlike one that the end of the connection ends
        self.wants_more = True
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.length: int | None = None  # of the body, when the backend told

    @classmethod
    async def connect(cls, url: str, ssl_context: ssl.SSLContext | None, server_name: str = "") -> _Backend:
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if secure else 80)
        backend = cls((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), parts.netloc.rpartition("@")[2])
        context = (ssl_context or ssl.create_default_context()) if secure else None
        try:
            await connect(host, port, backend._connected, context, server_name)
        except (OSError, ValueError) as error:
            raise BackendError(dial_error(host, port, error)) from error
        return backend

    def _connected(self, transport: Transport) -> _Backend:
        self._transport = transport
        return self

    def send(self, request: Request, fields: list[tuple[str, str]], *, with_body: bool) -> None:
        lines = [f"{request.method} {self._target} HTTP/1.1", f"Host: {self._host}"]
        lines += [f"{name}: {value}" for name, value in fields]
        body = request.body if with_body else b""
        if body or request.method in ("POST", "PUT", "PATCH"):
            lines.append(f"Content-Length: {len(body)}")
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    async def read_head(self, method: str) -> None:
        """Receive until the status and headers of the final response are known."""
        self._bodyless = method == "HEAD"
        try:
            async with asyncio.timeout(HEAD_SECONDS):
                while not self._head_done and not self._ended:
                    await self._more()
        except TimeoutError:
            raise BackendError("net/http: timeout awaiting response headers") from None
        if not self._head_done:
            raise BackendError(self._malformed or "EOF")

    async def _more(self) -> None:
        """Wait until something has come."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def response_headers(self) -> tuple[tuple[str, str], ...]:
        """The headers to pass on: without those of this hop."""
        dropped = HOP_BY_HOP | {"date"}
        return tuple((name, value) for name, value in self.headers if name.lower() not in dropped)

    async def body(self, limit: int | None = None) -> AsyncIterator[bytes]:
        """The body as it comes; at most about `limit` bytes of it."""
        taken = 0
        while True:
            if self._chunks:
                found = b"".join(self._chunks)
                self._chunks.clear()
                self._chunk_bytes = 0
                self._transport.resume_reading()
                taken += len(found)
                yield found
            elif self._bodyless or (limit is not None and taken >= limit):
                return
            elif self._ended:
                if self._framed and not self._complete:
                    raise BackendError("the backend closed the connection in the middle of its answer")
                return
            else:
                await self._more()

    @property
    def raw(self) -> RawStream:
        """What follows a 101."""
        assert self._raw is not None
        return self._raw

    def close(self) -> None:
        self._transport.close()

    # From the transport.

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw.feed(data)
            return
        if self._ended:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._raw = RawStream(self._transport, data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            self._malformed = f"malformed HTTP response: {error}"
            self._ended = True
        if self._chunk_bytes > WAITING_BYTES:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        self._ended = True
        if self._raw is not None:
            self._raw.feed_eof()
        self._wake()

    def drained(self) -> None:
        """Who writes waits for it in `drain`."""

    def connection_lost(self) -> None:
        self.eof_received()

    # From the parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_done:
            self.headers.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        status: int = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self.headers.clear()  # an interim response
            return
        self.status = status
        self._head_done = True
        self._bodyless = self._bodyless or status in (204, 304)
        for name, value in self.headers:
            if name.lower() == "content-length" and value.isdecimal():
                self.length = int(value)
            elif name.lower() == "transfer-encoding":
                self._framed = True
        self._framed = self._framed or self.length is not None
        if self._bodyless:
            self.length = 0

    def on_body(self, data: bytes) -> None:
        self._chunks.append(data)
        self._chunk_bytes += len(data)

    def on_message_complete(self) -> None:
        if self._head_done:
            self._ended = self._complete = True


async def _copy(source: ByteStream, sink: ByteStream) -> None:
    with suppress(OSError):
        while data := await source.read():
            sink.write(data)
            await sink.drain()
