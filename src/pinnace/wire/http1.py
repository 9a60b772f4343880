"""HTTP/1.1 over one connection: bytes in, requests to a handler, responses out, in order.

It relies on `httptools` (llhttp) for parsing and on a `Channel` for sending, owns no socket, and answers at once inside
`data_received` whatever the handler can answer at once. Specified by RFC 9110 and RFC 9112; limits and the wording of
protocol errors are those of Go's net/http.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import httptools

from pinnace.wire.connection import TLS_RECORD, Channel, Settings, plain_error
from pinnace.wire.heads import BODYLESS, audit_line, heads, status_line
from pinnace.wire.http import (
    AnyResponse,
    Handler,
    Peer,
    Repeated,
    Request,
    Response,
    StreamingResponse,
    UpgradeResponse,
    discard,
    frame_chunk,
    unframe_chunk,
)
from pinnace.wire.raw import RawStream
from pinnace.wire.turns import current_turn

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
TURN_BYTES = 64 << 10  # of a streaming response that gather before they are written
COPIED_BYTES = 64 << 10  # of a body that is sent in one piece with its head
PIPELINE_LIMIT = 64  # requests waiting behind one that takes time; above it reading stops
NAMES_KEPT = 1024
REPEATED_BYTES = 8192
PLAIN_TARGET = re.compile(rb"/[A-Za-z0-9/._~%?&=:,!+@-]*")
SPECIAL = frozenset({"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"})


_header_names: dict[bytes, str] = {}


def _header_name(raw: bytes) -> str:
    name = _header_names.get(raw)
    if name is None:
        name = raw.decode("latin-1").lower()
        if len(_header_names) < NAMES_KEPT:
            _header_names[raw] = name
    return name


class _Incoming:
    """A request with what the connection must know to answer it."""

    __slots__ = ("chunked_ok", "keep_alive", "request", "upgrade")

    def __init__(self, request: Request, keep_alive: bool, chunked_ok: bool, upgrade: bool) -> None:
        self.request = request
        self.keep_alive = keep_alive
        self.chunked_ok = chunked_ok  # HTTP/1.0 knows no chunks
        self.upgrade = upgrade


class Http1Connection:
    """One server connection. `Transport` calls `data_received`, `eof_received` and `connection_lost`."""

    def __init__(self, handler: Handler, settings: Settings, channel: Channel, peer: Peer) -> None:
        self._handler = handler
        self._settings = settings
        self._channel = channel
        self._peer = peer
        self._parser: Any = httptools.HttpRequestParser(self)
        # of the message being parsed
        self._url = b""
        self._headers: dict[str, str] = {}
        self._head_done = False
        self._head_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._repeated = (
            b""  # how the last GET went on behind its target, when it can be known again; see `_is_repeated`
        )
        self._repeated_headers: dict[str, str] = {}
        self._upgrade_request: _Incoming | None = None  # complete, its response waits for the bytes behind it
        # of the connection
        self._waiting: deque[_Incoming | Response] = deque()  # behind the one being answered; a Response is a refusal
        self._current: _Incoming | None = None  # being answered by a task
        self._task: asyncio.Task[None] | None = None
        self._stream: _ChunkWriter | None = None
        self._raw: RawStream | None = None  # set when the connection has left HTTP
        self._tail: bytearray | None = None  # bytes behind an upgrade request whose answer is not known yet
        self._out: list[bytes | memoryview] | None = None  # responses of one read leave in one write
        self._continue_due = False
        self._refused = False  # a protocol error was answered; nothing more is parsed
        self._last = False  # the response being sent is the last
        self._lost = False
        self.wants_more = False
        self.closing = False  # the server goes down: every answer is the last
        self.activity = 0  # requests answered and pieces of bodies seen; with `busy` it tells how idle this is

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or the connection has left HTTP."""
        return self._current is not None or self._raw is not None

    @property
    def in_request(self) -> bool:
        """Whether part of a request has come and its end has not."""
        return self._head_bytes > 0 or self._head_done

    @property
    def streaming(self) -> bool:
        """Whether the answer may be silent for as long as it likes."""
        return self._stream is not None or self._raw is not None

    def close_when_done(self) -> None:
        """Close now if idle, else after the response being sent."""
        self.closing = True
        if not self.busy and not self._waiting and not self.in_request:
            self._channel.close()

    # From the transport.

    def data_received(self, data: bytes) -> None:
        if self._raw is not None:
            self._raw.feed(data)
            return
        if self._tail is not None:
            self._keep_tail(data)
            return
        if self._refused or self._last:
            return
        if self._repeated and self._is_repeated(data):
            self._answer_repeated(data)
            return
        at_boundary = not self._head_done and not self._head_bytes
        if not self._head_done:
            self._head_bytes += len(data)
        self._out = []
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._start_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if not (self._refused or self._last):
                self._refuse(plain_error(400, "400 Bad Request"))
        if self._head_bytes > self._settings.header_bytes and not self._head_done and not self._refused:
            self._refuse(plain_error(431, "431 Request Header Fields Too Large"))
        out, self._out = self._out, None
        if len(out) == 1:
            self._channel.write(out[0])  # nearly always
        elif out:
            self._channel.writelines(out)
        if self._last and self._current is None and self._raw is None:
            self._channel.close(linger=self._refused)
        self.wants_more = self._head_done or self._raw is not None
        if at_boundary and not (self._head_done or self._head_bytes or self._last or self._tail is not None):
            self._remember(data)

    def eof_received(self) -> None:
        if self._raw is not None:
            self._raw.feed_eof()
        elif self._stream is not None or self._current is None:
            self._channel.abort()
        else:
            self._last = True  # a client may half-close after its last request; it still gets the answer
            self._waiting.clear()
            self._abandon()  # but most of them are gone

    def drained(self) -> None:
        """Nothing waits here for the socket: `write` is never refused."""

    def sweep(self, now: float, stuck_seconds: float) -> None:
        """There is one request at a time, so the server's view of the connection is enough."""

    def connection_lost(self) -> None:
        self._lost = True
        self._parser = None
        self._waiting.clear()
        if self._raw is not None:
            self._raw.feed_eof()
        if self._stream is not None:
            self._stream.lost()
            if self._task is not None:
                self._task.cancel()
        else:
            self._abandon()

    def _abandon(self) -> None:
        """Tell the handler, if it wants to know, that nobody may be there to be answered."""
        if self._current is not None and self._current.request.abandoned is not None:
            self._current.request.abandoned()

    # Clients send the same headers again and again: a GET that differs from the last in its target alone is not parsed.

    def _is_repeated(self, data: bytes) -> bool:
        """Whether the data is one whole GET with the headers of the last."""
        return (
            data.endswith(self._repeated)
            and data.startswith(b"GET /")
            and not self._head_done
            and not self._head_bytes
            and self._current is None
            and not self._waiting
            and PLAIN_TARGET.fullmatch(data, 4, len(data) - len(self._repeated)) is not None
        )

    def _answer_repeated(self, data: bytes) -> None:
        raw = data[4 : -len(self._repeated)].decode("ascii")
        path, _, query = raw.partition("?")
        decoded = unquote(path) if "%" in path else path
        request = Request("GET", decoded, query, self._repeated_headers, b"", self._peer, path)
        self._answer(_Incoming(request, True, True, False))
        if self._last and self._current is None:
            self._channel.close()

    def _remember(self, data: bytes) -> None:
        """Learn the headers of a GET that was one whole read and had nothing special about it."""
        end = data.find(b" HTTP/1.1\r\n")
        whole = data.startswith(b"GET /") and data.find(b"\r\n\r\n") == len(data) - 4
        plain = whole and PLAIN_TARGET.fullmatch(data, 4, max(end, 4)) is not None
        if plain and len(data) - end <= REPEATED_BYTES and not SPECIAL & self._headers.keys():
            self._repeated = data[end:]
            self._repeated_headers = self._headers

    # From the parser.

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers = {}
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_done:
            return  # a trailer
        key = _header_name(name)
        headers = self._headers
        if key in headers:
            headers[key] = Repeated.of(key, headers[key], value.decode("latin-1"))
        else:
            headers[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._head_done = True
        headers = self._headers
        if "host" not in headers and self._parser.get_http_version() == "1.1":
            self._refuse(plain_error(400, "400 Bad Request: missing required Host header"))
        length = headers.get("content-length")
        if length is not None and length.isdecimal() and int(length) > self._settings.body_bytes:
            self._refuse_body()
        elif headers.get("expect", "").lower() == "100-continue":
            self._continue_due = True
            if self._current is None and not self._waiting:
                self._send_continue()

    def on_body(self, data: bytes) -> None:
        if self._refused:
            return
        self.activity += 1
        self._body_bytes += len(data)
        if self._body_bytes > self._settings.body_bytes:
            self._refuse_body()
            return
        self._body.append(data)

    def on_message_complete(self) -> None:
        self._head_done = False
        self._head_bytes = 0
        self._continue_due = False
        if self._refused:
            return
        incoming = self._take_request()
        if incoming is None:
            return
        if incoming.upgrade:
            self._upgrade_request = (
                incoming  # its answer needs the bytes behind it, which only the end of parsing tells
            )
        elif self._current is None and not self._waiting:
            self._answer(incoming)
        else:
            self._enqueue(incoming)

    def _take_request(self) -> _Incoming | None:
        parser = self._parser
        body = self._body
        raw = self._url.decode("latin-1")
        path, query = raw, ""
        if not raw.startswith("/") and raw != "*":
            try:
                parts = urlsplit(raw)
            except ValueError:
                self._refuse(plain_error(400, "400 Bad Request"))
                return None
            raw = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if "?" in raw:
            path, _, query = raw.partition("?")
        else:
            path = raw
        request = Request(
            parser.get_method().decode("latin-1"),
            unquote(path) if "%" in path else path,
            query,
            self._headers,
            body[0] if len(body) == 1 else b"".join(body),
            self._peer,
            path,
        )
        upgrade = parser.should_upgrade()
        if upgrade and self._headers.get("content-length", "0").strip("0"):
            self._refuse(plain_error(400, "400 Bad Request"))
            return None
        http11 = parser.get_http_version() == "1.1"
        return _Incoming(request, parser.should_keep_alive() and not upgrade, http11, upgrade)

    # Refusing.

    def _refuse_body(self) -> None:
        limit = self._settings.body_bytes
        self._refuse(self._settings.error(413, f"Request entity too large: limit is {limit}"))

    def _refuse(self, response: Response) -> None:
        """Answer a protocol error after whatever is being answered; then the connection ends."""
        if self._refused:
            return
        self._refused = True
        if self._current is None and not self._waiting:
            self._send_last(response)
        else:
            self._waiting.append(response)

    def _send_last(self, response: Response) -> None:
        self._last = True
        self._write(*self._render(response, keep_alive=False, head_only=False))
        if self._out is None:
            self._channel.close(linger=True)

    # Answering.

    def _enqueue(self, incoming: _Incoming) -> None:
        self._waiting.append(incoming)
        if len(self._waiting) > PIPELINE_LIMIT:
            self._channel.pause_reading()

    def _write(self, *pieces: bytes | memoryview) -> None:
        if self._out is None:
            self._channel.writelines(pieces)
        else:
            self._out += pieces

    def _flush(self) -> None:
        if self._out:
            self._channel.writelines(self._out)
            self._out.clear()

    def _send_continue(self) -> None:
        self._continue_due = False
        self._write(CONTINUE)

    def _answer(self, incoming: _Incoming) -> None:
        self.activity += 1
        try:
            result = self._handler(incoming.request)
        except Exception:
            result = self._failure(incoming)
        if type(result) is Response:
            self._send(incoming, result)
        else:
            self._current = incoming
            self._flush()
            self._task = asyncio.get_running_loop().create_task(self._answer_later(incoming, result))

    async def _answer_later(self, incoming: _Incoming, result: AnyResponse | Awaitable[AnyResponse]) -> None:
        """Finish a response that takes time; whatever happens the connection goes on or is closed."""
        try:
            if not isinstance(result, (Response, StreamingResponse, UpgradeResponse)):
                try:
                    result = await result
                except Exception:
                    result = self._failure(incoming)
            if isinstance(result, StreamingResponse):
                await self._send_stream(incoming, result)
            elif isinstance(result, UpgradeResponse):
                await self._hand_over(result)
            else:
                self._send(incoming, result)
        except asyncio.CancelledError:
            self._channel.abort()
            if not self._lost:
                raise
        except Exception:
            self._log_failure(incoming)
            self._channel.abort()
        else:
            self._finished()

    def _finished(self) -> None:
        self._current = None
        self._task = None
        if self._lost or self._raw is not None:
            return
        if self._last:
            self._channel.close()
            return
        self._out = []
        while self._waiting and self._current is None and not self._last:
            following = self._waiting.popleft()
            if isinstance(following, Response):
                self._send_last(following)
            else:
                self._answer(following)
        if self._continue_due and self._current is None:
            self._send_continue()
        out, self._out = self._out, None
        if out:
            self._channel.writelines(out)
        if self._last and self._current is None:
            self._channel.close(linger=self._refused)
        elif len(self._waiting) <= PIPELINE_LIMIT and self._tail is None:
            self._channel.resume_reading()
        if self.closing and not self.busy:
            self._channel.close()

    def _send(self, incoming: _Incoming, response: Response) -> None:
        keep_alive = incoming.keep_alive and not self.closing and not self._last and not response.closes
        if not keep_alive:
            self._last = True
        self._write(*self._render(response, keep_alive, incoming.request.method == "HEAD", incoming.chunked_ok))

    def _render(
        self, response: Response, keep_alive: bool, head_only: bool, http11: bool = True
    ) -> tuple[bytes | memoryview, ...]:
        """The response in as many pieces as spare copying a long body."""
        head = heads.get(response.status, response.headers)
        if response.audit_id:
            head += audit_line(response.audit_id)
        if not keep_alive:
            head += b"Connection: close\r\n"
        elif not http11:
            head += b"Connection: keep-alive\r\n"
        if response.status in BODYLESS:
            return (head + b"\r\n",)
        body = response.body
        if head_only:
            return (b"%bContent-Length: %d\r\n\r\n" % (head, len(body)),)
        if len(body) <= COPIED_BYTES:
            return (b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body),)
        head = b"%bContent-Length: %d\r\n\r\n" % (head, len(body))
        with_head = max(0, TLS_RECORD - len(head))  # fills the record that the head begins
        return head + body[:with_head], memoryview(body)[with_head:]

    async def _send_stream(self, incoming: _Incoming, response: StreamingResponse) -> None:
        keep_alive = incoming.keep_alive and incoming.chunked_ok and not self.closing and not self._last
        if not keep_alive:
            self._last = True
        head = heads.get(response.status, response.headers)
        if response.audit_id:
            head += audit_line(response.audit_id)
        if incoming.chunked_ok:
            head += b"Transfer-Encoding: chunked\r\n"
        self._channel.write(head + (b"\r\n" if keep_alive else b"Connection: close\r\n\r\n"))
        if incoming.request.method == "HEAD" or self._lost:
            discard(response)
            return
        self._stream = _ChunkWriter(self._channel, self._settings.slow_peer_bytes, incoming.chunked_ok)
        try:
            await response.run(self._stream)
            self._stream.end()
        finally:
            self._stream = None

    def _failure(self, incoming: _Incoming) -> Response:
        self._log_failure(incoming)
        return self._settings.error(500, "Internal Server Error")

    def _log_failure(self, incoming: _Incoming) -> None:
        import structlog

        request = incoming.request
        structlog.get_logger().exception("request handler failed", method=request.method, path=request.path)

    # Leaving HTTP.

    def _start_upgrade(self, tail: bytes) -> None:
        incoming, self._upgrade_request = self._upgrade_request, None
        if incoming is None:
            return  # refused while it was parsed
        self._tail = bytearray(tail)
        if self._current is None and not self._waiting:
            self._answer(incoming)
        else:
            self._enqueue(incoming)

    def _keep_tail(self, data: bytes) -> None:
        assert self._tail is not None
        self._tail += data
        if len(self._tail) > 65536:
            self._channel.pause_reading()

    async def _hand_over(self, response: UpgradeResponse) -> None:
        """Send the 101 and give the connection to `run`; it does not come back."""
        lines = [status_line(response.status)]
        lines += [f"{name}: {value}\r\n" for name, value in response.headers]
        if response.audit_id:
            lines.append(audit_line(response.audit_id).decode("latin-1"))
        self._channel.write("".join([*lines, "\r\n"]).encode("latin-1"))
        self._raw = RawStream(self._channel, bytes(self._tail or b""))
        if self._lost:
            self._raw.feed_eof()
        self.wants_more = True
        self._channel.resume_reading()
        try:
            await response.run(self._raw)
        finally:
            self._raw.close()


class _ChunkWriter:
    """The `Writer` of a streaming response. What is written within one turn of the event loop leaves in one write."""

    def __init__(self, channel: Channel, limit: int, chunked: bool) -> None:
        self._channel = channel
        self._limit = limit
        self._chunked = chunked
        self._turn = current_turn()
        self._pending: list[bytes] = []  # of this turn
        self._pending_bytes = 0
        self._callbacks: list[Callable[[], None]] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        if data:
            self._put(frame_chunk(data) if self._chunked else data)

    def write_framed(self, chunk: bytes) -> None:
        self._put(chunk if self._chunked else unframe_chunk(chunk))

    def _put(self, data: bytes) -> None:
        if self.closed:
            return
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes > TURN_BYTES:
            self._flush()
        elif len(self._pending) == 1:
            self._turn.at_end(self._flush)

    def _flush(self) -> None:
        pending = self._pending
        if self.closed or not pending:
            return
        self._pending, self._pending_bytes = [], 0
        if self._channel.buffered > self._limit:
            self._channel.abort()  # too slow to be worth the memory; connection_lost calls `lost`
            return
        self._channel.write(pending[0] if len(pending) == 1 else b"".join(pending))

    async def drain(self) -> None:
        self._flush()
        await self._channel.drain()

    def on_close(self, callback: Callable[[], None]) -> None:
        if self.closed:
            callback()
        else:
            self._callbacks.append(callback)

    def lost(self) -> None:
        self.closed = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def end(self) -> None:
        self._flush()
        if not self.closed:
            self.closed = True
            self._callbacks.clear()
            if self._chunked:
                self._channel.write(b"0\r\n\r\n")
