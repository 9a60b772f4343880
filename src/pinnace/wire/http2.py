"""HTTP/2 over one connection: frames in, requests to a handler, responses out, many at a time.

The counterpart of `http1.py`: it owns no socket and answers at once inside `data_received` whatever the handler can
answer at once. What a peer can make us do or keep is limited, by count or by the second. Specified by RFC 9113; limits
are those of Go's net/http where Kubernetes relies on them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable

from pinnace.wire import http2_frames as frames
from pinnace.wire.connection import Channel, Settings, plain_error
from pinnace.wire.heads import BODYLESS
from pinnace.wire.hpack import CONTINUE, TABLE_BYTES, TABLE_SIZE_0, blocks, encode_audit_id, encode_length
from pinnace.wire.http import (
    AnyResponse,
    Handler,
    Peer,
    Request,
    Response,
    StreamingResponse,
    UpgradeResponse,
    discard,
)
from pinnace.wire.http2_frames import Code, ConnectionFailure, StreamFailure
from pinnace.wire.http2_requests import RequestHead, RequestHeads
from pinnace.wire.http2_sender import Sender, SendStream
from pinnace.wire.http2_streams import Stream, StreamWriter

RECEIVE_WINDOW = 1 << 20  # of each stream
CONNECTION_WINDOW = 16 << 20
HELD_BYTES = 64 << 20  # of request bodies, and of answers, that one connection may make us hold
MAX_FRAME_BYTES = 64 << 10  # that we send, if the peer takes so much
CONTROL_FRAMES = 1000  # a second, of those that cost the peer nothing: resets, pings, settings, empty frames
CONTINUATIONS = 1024  # of one header block
DRAIN_SECONDS = 0.5  # how long a peer may take to hear that we go away before its new requests are refused

_FRAME_HEAD = frames.HEAD_BYTES
_DRAIN_PING = b"pinnace!"


class Http2Connection:
    """One server connection. `Transport` calls `data_received`, `eof_received`, `drained` and `connection_lost`."""

    def __init__(self, handler: Handler, settings: Settings, channel: Channel, peer: Peer) -> None:
        self._handler = handler
        self._settings = settings
        self._channel = channel
        self._peer = peer
        self._sender = Sender(channel, self._sent)
        self._heads = RequestHeads(settings.header_bytes)
        self._rest = b""  # the beginning of a frame
        self._greeted = False  # the preface has come
        self._agreed = False  # and the first SETTINGS
        self._block: list[bytes] | None = None  # a header block whose CONTINUATION is awaited
        self._block_head = (0, False)  # its stream and whether the request ends with it
        self._block_bytes = 0
        self._block_since = 0.0
        self._streams: dict[int, Stream] = {}  # with something left to receive, to answer or to send
        self._tasks: dict[asyncio.Task[None], Stream] = {}  # answering; also of streams that were reset:
        self._orphans = 0  # so many, which count as streams still
        self._writers = 0  # streaming responses
        self._last_stream = 0
        self._accepted = frames.LARGEST_STREAM  # streams above are refused: we go away
        self._received = 0  # bytes of bodies that the connection's window was not yet widened for
        self._held = 0  # bytes of incomplete bodies
        self._block_prefix = b""
        self._second = 0  # of the budget of control frames
        self._spent = 0
        self._failed = False
        self._lost = False
        self._drain_timer: asyncio.TimerHandle | None = None
        self.wants_more = False
        self.closing = False
        self.activity = 0
        self._greet()

    def _greet(self) -> None:
        values = {
            frames.MAX_CONCURRENT_STREAMS: self._settings.streams,
            frames.INITIAL_WINDOW_SIZE: RECEIVE_WINDOW,
            frames.MAX_HEADER_LIST_SIZE: self._settings.header_bytes,
        }
        widen = frames.window_update(0, CONNECTION_WINDOW - frames.WINDOW)
        self._channel.write(frames.settings(values) + widen)

    @property
    def busy(self) -> bool:
        return bool(self._streams or self._tasks)

    @property
    def in_request(self) -> bool:
        return not self._agreed or self._block is not None

    @property
    def streaming(self) -> bool:
        return self._writers > 0

    # From the transport.

    def data_received(self, data: bytes) -> None:
        if self._failed:
            return
        if self._rest:
            data = self._rest + data
        self._sender.cork()
        try:
            self._rest = data[self._frames(data) :]
        except ConnectionFailure as failure:
            self._fail(failure.code, str(failure))
        self._sender.uncork()
        self.wants_more = self._held > 0
        if self._failed:
            self._channel.close(linger=True)

    def _frames(self, data: bytes) -> int:
        """Take every whole frame; how much of the data that was."""
        position, end = 0, len(data)
        if not self._greeted:
            preface = data[: len(frames.PREFACE)]
            if not frames.PREFACE.startswith(preface):
                raise ConnectionFailure(Code.PROTOCOL_ERROR, "no preface")
            if len(preface) < len(frames.PREFACE):
                return 0
            self._greeted = True
            position = len(preface)
        while end - position >= _FRAME_HEAD and not self._failed:
            high, low, kind, flags, stream_id = frames.parse_head(data, position)
            length = high << 8 | low
            if length > frames.LEAST_FRAME_BYTES:
                raise ConnectionFailure(Code.FRAME_SIZE_ERROR, "frame too long")
            start = position + _FRAME_HEAD
            if end - start < length:
                break
            position = start + length
            self._frame(kind, flags, stream_id & frames.LARGEST_STREAM, data[start:position])
        return position

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if self._block is not None and (kind != frames.CONTINUATION or stream_id != self._block_head[0]):
            raise ConnectionFailure(Code.PROTOCOL_ERROR, "header block interrupted")
        if not self._agreed and (kind != frames.SETTINGS or flags & frames.ACK):
            raise ConnectionFailure(Code.PROTOCOL_ERROR, "no SETTINGS")
        try:
            if kind == frames.HEADERS:
                self._on_headers(flags, stream_id, payload)
            elif kind == frames.DATA:
                self._on_data(flags, stream_id, payload)
            elif kind == frames.WINDOW_UPDATE:
                self._on_window_update(stream_id, payload)
            elif kind == frames.CONTINUATION:
                self._on_continuation(flags, payload)
            else:
                self._spend()
                self._on_control(kind, flags, stream_id, payload)
        except StreamFailure as failure:
            self._reset(stream_id, failure.code)

    def eof_received(self) -> None:
        self._channel.abort()

    def drained(self) -> None:
        """The socket has taken most of what was queued for it."""
        self._sender.flush()
        self._close_if_done()

    def connection_lost(self) -> None:
        self._lost = True
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        self._abandon_all()

    def _abandon_all(self) -> None:
        for stream in list(self._streams.values()):
            self._forget(stream)

    # Going away.

    def close_when_done(self) -> None:
        """Say that we go away, take what was sent before that was heard, then close when all is answered."""
        if self.closing:
            return
        self.closing = True
        self._sender.put(frames.goaway(frames.LARGEST_STREAM, Code.NO_ERROR))
        self._sender.put(frames.ping(_DRAIN_PING))
        self._sender.flush()
        self._drain_timer = asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._stop_accepting)

    def _stop_accepting(self) -> None:
        if self._accepted < frames.LARGEST_STREAM or self._lost:
            return
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        self._accepted = self._last_stream
        self._sender.put(frames.goaway(self._last_stream, Code.NO_ERROR))
        self._sender.flush()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._accepted < frames.LARGEST_STREAM and not (self.busy or self._failed or self._lost):
            self._sender.flush()
            self._channel.close(linger=True)

    def _fail(self, code: Code, why: str) -> None:
        self._failed = True
        self._rest = b""
        self._abandon_all()
        self._sender.put(frames.goaway(self._last_stream, code, why))

    def _spend(self) -> None:
        """Count a frame that costs the peer nothing. Raises when there are too many of them."""
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._spent = second, 0
        self._spent += 1
        if self._spent > CONTROL_FRAMES:
            raise ConnectionFailure(Code.ENHANCE_YOUR_CALM, "too many control frames")

    def sweep(self, now: float, stuck_seconds: float) -> None:
        """Reset streams whose request does not come on or whose answer is not taken; abort on half a header block."""
        if self._block is not None and now - self._block_since > self._settings.request_seconds:
            self._channel.abort()
            return
        for stream in list(self._streams.values()):
            if stream.is_stuck(now, self._settings.request_seconds, stuck_seconds):
                self._reset(stream.id, Code.CANCEL)

    # Control frames.

    def _on_control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.SETTINGS:
            self._on_settings(flags, stream_id, payload)
        elif kind == frames.PING:
            if stream_id or len(payload) != 8:
                raise ConnectionFailure(Code.FRAME_SIZE_ERROR, "bad PING")
            if not flags & frames.ACK:
                self._sender.put(frames.ping(payload, frames.ACK))
            elif payload == _DRAIN_PING and self.closing:
                self._stop_accepting()
        elif kind == frames.RST_STREAM:
            self._on_reset(stream_id, payload)
        elif kind == frames.PRIORITY:
            if not stream_id:
                raise ConnectionFailure(Code.PROTOCOL_ERROR, "PRIORITY of the connection")
            if len(payload) != 5:
                raise StreamFailure(Code.FRAME_SIZE_ERROR)
        elif kind == frames.GOAWAY:
            if stream_id or len(payload) < 8:
                raise ConnectionFailure(Code.PROTOCOL_ERROR, "bad GOAWAY")
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFailure(Code.PROTOCOL_ERROR, "a client cannot push")

    def _on_settings(self, flags: int, stream_id: int, payload: bytes) -> None:
        if stream_id:
            raise ConnectionFailure(Code.PROTOCOL_ERROR, "SETTINGS of a stream")
        if len(payload) % 6 or (flags & frames.ACK and payload):
            raise ConnectionFailure(Code.FRAME_SIZE_ERROR, "bad SETTINGS")
        if flags & frames.ACK:
            return
        self._agreed = True
        for start in range(0, len(payload), 6):
            name = int.from_bytes(payload[start : start + 2], "big")
            self._set(name, int.from_bytes(payload[start + 2 : start + 6], "big"))
        self._sender.put(frames.SETTINGS_ACK)

    def _set(self, name: int, value: int) -> None:
        sender = self._sender
        if name == frames.INITIAL_WINDOW_SIZE:
            if value > frames.LARGEST_WINDOW:
                raise ConnectionFailure(Code.FLOW_CONTROL_ERROR, "window too large")
            change = value - sender.initial_window
            sender.initial_window = value
            for stream in self._streams.values():
                if not sender.widen(stream.sending, change):
                    raise ConnectionFailure(Code.FLOW_CONTROL_ERROR, "window too large")
        elif name == frames.MAX_FRAME_SIZE:
            if not frames.LEAST_FRAME_BYTES <= value < 1 << 24:
                raise ConnectionFailure(Code.PROTOCOL_ERROR, "bad MAX_FRAME_SIZE")
            sender.frame_bytes = min(value, MAX_FRAME_BYTES)
        elif name == frames.HEADER_TABLE_SIZE and value < TABLE_BYTES:
            self._block_prefix = TABLE_SIZE_0
        elif name == frames.ENABLE_PUSH and value > 1:
            raise ConnectionFailure(Code.PROTOCOL_ERROR, "bad ENABLE_PUSH")

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFailure(Code.FRAME_SIZE_ERROR, "bad WINDOW_UPDATE")
        increment = int.from_bytes(payload, "big") & frames.LARGEST_WINDOW
        if not stream_id:
            if not increment or not self._sender.widen_connection(increment):
                code = Code.FLOW_CONTROL_ERROR if increment else Code.PROTOCOL_ERROR
                raise ConnectionFailure(code, "bad window increment")
            return
        self._check_not_idle(stream_id)
        stream = self._streams.get(stream_id)
        if stream is None:
            return  # it was answered meanwhile
        if not increment:
            raise StreamFailure(Code.PROTOCOL_ERROR)
        if not self._sender.widen(stream.sending, increment):
            raise StreamFailure(Code.FLOW_CONTROL_ERROR)

    def _on_reset(self, stream_id: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFailure(Code.FRAME_SIZE_ERROR, "bad RST_STREAM")
        self._check_not_idle(stream_id)
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._forget(stream)

    def _check_not_idle(self, stream_id: int) -> None:
        if not stream_id or stream_id > self._last_stream:
            raise ConnectionFailure(Code.PROTOCOL_ERROR, "frame of a stream that is not open")

    # Requests.

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFailure(Code.PROTOCOL_ERROR, "a client's streams are odd")
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        if flags & frames.HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFailure(Code.FRAME_SIZE_ERROR, "bad HEADERS")
            payload = payload[5:]
        ends = bool(flags & frames.END_STREAM)
        if flags & frames.END_HEADERS:
            self._take_block(stream_id, payload, ends)
            return
        self._block = [payload]
        self._block_head = (stream_id, ends)
        self._block_bytes = len(payload)
        self._block_since = time.monotonic()

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        block = self._block
        if block is None:
            raise ConnectionFailure(Code.PROTOCOL_ERROR, "CONTINUATION of nothing")
        block.append(payload)
        self._block_bytes += len(payload)
        if self._block_bytes > self._settings.header_bytes or len(block) > CONTINUATIONS:
            raise ConnectionFailure(Code.ENHANCE_YOUR_CALM, "header block too long")
        if flags & frames.END_HEADERS:
            self._block = None
            self._take_block(self._block_head[0], b"".join(block), self._block_head[1])

    def _take_block(self, stream_id: int, block: bytes, ends: bool) -> None:
        if stream_id <= self._last_stream:
            self._take_trailers(stream_id, block, ends)
            return
        self._last_stream = stream_id
        head = self._heads.read(block)  # in any case: the table must go on
        if stream_id > self._accepted:
            return  # the peer knows from GOAWAY
        if (
            len(self._streams) + self._orphans >= self._settings.streams
            or self._sender.queued + self._held > HELD_BYTES
        ):
            self._spend()
            raise StreamFailure(Code.REFUSED_STREAM)
        if head is None:
            stream = self._open(stream_id)
            if not ends:
                stream.expect(None, RECEIVE_WINDOW)
            self._respond(stream_id, stream, "", plain_error(431, "431 Request Header Fields Too Large"))
        elif ends:
            if head.length > 0:
                raise StreamFailure(Code.PROTOCOL_ERROR)
            self._answer(stream_id, None, head, b"")
        else:
            self._expect_body(self._open(stream_id), head)

    def _take_trailers(self, stream_id: int, block: bytes, ends: bool) -> None:
        self._heads.decode(block)  # what they say is of no interest
        stream = self._streams.get(stream_id)
        if stream is None or not stream.receiving:
            self._spend()  # behind a reset that the peer had not seen
            return
        if not ends:
            raise StreamFailure(Code.PROTOCOL_ERROR)
        self._body_complete(stream)

    # Bodies of requests.

    def _open(self, stream_id: int) -> Stream:
        stream = Stream(SendStream(stream_id, self._sender.initial_window))
        self._streams[stream_id] = stream
        return stream

    def _expect_body(self, stream: Stream, head: RequestHead) -> None:
        stream.expect(head, RECEIVE_WINDOW)
        if head.length > self._settings.body_bytes:
            self._refuse_body(stream)
        elif head.headers.get("expect", "").lower() == "100-continue":
            block = self._take_prefix() + CONTINUE
            self._sender.put(frames.headers(stream.id, block, False, self._sender.frame_bytes))

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        self._check_not_idle(stream_id)
        size = len(payload)
        self._widen_connection(size)
        if flags & frames.PADDED:
            payload = _unpadded(payload)
        ends = bool(flags & frames.END_STREAM)
        if not payload and not ends:
            self._spend()
        stream = self._streams.get(stream_id)
        if stream is None or not stream.receiving:
            return  # behind a refusal that the peer had not seen
        self.activity += 1
        stream.room -= size
        if stream.room < 0:
            raise StreamFailure(Code.FLOW_CONTROL_ERROR)
        stream.take(payload)
        self._held += len(payload)
        if stream.body_bytes > self._settings.body_bytes:
            self._refuse_body(stream)
        elif self._held > HELD_BYTES:
            raise StreamFailure(Code.ENHANCE_YOUR_CALM)
        elif ends:
            self._body_complete(stream)
        elif stream.room < RECEIVE_WINDOW // 2:
            self._sender.put(frames.window_update(stream_id, RECEIVE_WINDOW - stream.room))
            stream.room = RECEIVE_WINDOW

    def _widen_connection(self, size: int) -> None:
        self._received += size
        if self._received > CONNECTION_WINDOW:
            raise ConnectionFailure(Code.FLOW_CONTROL_ERROR, "window exceeded")
        if self._received >= CONNECTION_WINDOW // 2:
            self._sender.put(frames.window_update(0, self._received))
            self._received = 0

    def _refuse_body(self, stream: Stream) -> None:
        limit = self._settings.body_bytes
        refusal = self._settings.error(413, f"Request entity too large: limit is {limit}")
        self._respond(stream.id, stream, "", refusal)

    def _body_complete(self, stream: Stream) -> None:
        head, body = stream.head, stream.body()
        assert head is not None
        self._stop_receiving(stream)
        if head.length not in (-1, len(body)):
            raise StreamFailure(Code.PROTOCOL_ERROR)
        self._answer(stream.id, stream, head, body)

    def _stop_receiving(self, stream: Stream) -> None:
        self._held -= stream.body_bytes
        stream.stop_receiving()

    # Answering.

    def _answer(self, stream_id: int, stream: Stream | None, head: RequestHead, body: bytes) -> None:
        self.activity += 1
        if self._settings.goaway_chance and random.random() < self._settings.goaway_chance:
            self.close_when_done()
        request = Request(head.method, head.path, head.query, head.headers, body, self._peer, head.raw_path)
        try:
            result = self._handler(request)
        except Exception:
            result = self._failure(request)
        if type(result) is Response:
            if result.closes:
                self.close_when_done()
            self._respond(stream_id, stream, head.method, result)
            return
        if stream is None:
            stream = self._open(stream_id)
        task = asyncio.get_running_loop().create_task(self._answer_later(stream, request, result))
        stream.task = task
        stream.request = request
        self._tasks[task] = stream
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if self._tasks.pop(task).orphaned:
            self._orphans -= 1
        self._close_if_done()

    async def _answer_later(
        self, stream: Stream, request: Request, result: AnyResponse | Awaitable[AnyResponse]
    ) -> None:
        """Finish a response that takes time; whatever happens the stream is ended or reset."""
        try:
            if not isinstance(result, (Response, StreamingResponse, UpgradeResponse)):
                try:
                    result = await result
                except Exception:
                    result = self._failure(request)
            if stream.gone:
                discard(result)
                return
            if isinstance(result, StreamingResponse):
                await self._send_stream(stream, request, result)
            elif isinstance(result, UpgradeResponse):
                discard(result)
                self._reset(stream.id, Code.HTTP_1_1_REQUIRED)
            else:
                self._respond(stream.id, stream, request.method, result)
        except asyncio.CancelledError:
            if not stream.gone:
                self._reset(stream.id, Code.CANCEL)
                raise
        except Exception:
            self._log_failure(request)
            self._reset(stream.id, Code.INTERNAL_ERROR)

    def _respond(self, stream_id: int, stream: Stream | None, method: str, response: Response) -> None:
        """Send a complete response; `stream` is None where nothing is known of it but its number."""
        block = self._take_prefix() + blocks.get(response.status, response.headers)
        if response.audit_id:
            block += encode_audit_id(response.audit_id)
        body, sender = response.body, self._sender
        if response.status not in BODYLESS:
            block += encode_length(len(body))
        if method == "HEAD" or response.status in BODYLESS:
            body = b""
        if not body:
            sender.put(frames.headers(stream_id, block, True, sender.frame_bytes))
            if stream is not None:
                self._sent(stream.sending)
            return
        sender.put(frames.headers(stream_id, block, False, sender.frame_bytes))
        if stream is None:
            if sender.fits(len(body)):
                sender.put_body(stream_id, body)
                return
            stream = self._open(stream_id)
        sender.data(stream.sending, body, last=True)

    def _take_prefix(self) -> bytes:
        prefix, self._block_prefix = self._block_prefix, b""
        return prefix

    async def _send_stream(self, stream: Stream, request: Request, response: StreamingResponse) -> None:
        block = self._take_prefix() + blocks.get(response.status, response.headers)
        if response.audit_id:
            block += encode_audit_id(response.audit_id)
        bodyless = request.method == "HEAD" or response.status in BODYLESS
        self._sender.put(frames.headers(stream.id, block, bodyless, self._sender.frame_bytes))
        if bodyless:
            discard(response)
            self._sent(stream.sending)
            return
        stream.writer = StreamWriter(self._sender, stream.sending, self._settings.slow_peer_bytes, self._cut_off)
        self._writers += 1
        await response.run(stream.writer)
        stream.writer.end()

    def _cut_off(self, sending: SendStream) -> None:
        """A peer that does not read a streaming response is not worth the memory."""
        self._reset(sending.id, Code.CANCEL)

    # The end of a stream.

    def _sent(self, sending: SendStream) -> None:
        """The response has left its queue."""
        stream = self._streams.get(sending.id)
        if stream is None:
            return
        if stream.receiving:  # answered before all was said: the rest is not wanted
            self._sender.put(frames.rst_stream(stream.id, Code.NO_ERROR))
        self._forget(stream, complete=True)

    def _reset(self, stream_id: int, code: Code) -> None:
        self._sender.put(frames.rst_stream(stream_id, code))
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._forget(stream)

    def _forget(self, stream: Stream, *, complete: bool = False) -> None:
        """Take a stream out; what streams is told and cancelled, what writes goes on to its end unheard."""
        del self._streams[stream.id]
        stream.gone = True
        if stream.receiving:
            self._stop_receiving(stream)
        self._sender.drop(stream.sending)
        if stream.task is not None and not complete:
            stream.orphaned = True
            self._orphans += 1
            if stream.request is not None and stream.request.abandoned is not None:
                stream.request.abandoned()
        if stream.writer is not None:
            self._writers -= 1
            if not complete:
                stream.writer.lost()
                if stream.task is not None:
                    stream.task.cancel()
        if self.closing and not self._lost:
            asyncio.get_running_loop().call_soon(self._close_if_done)

    def _failure(self, request: Request) -> Response:
        self._log_failure(request)
        return self._settings.error(500, "Internal Server Error")

    def _log_failure(self, request: Request) -> None:
        import structlog

        structlog.get_logger().exception("request handler failed", method=request.method, path=request.path)


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFailure(Code.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]
