"""Streams over one SPDY/3.1 connection: accepts what the peer opens, or opens its own, and carries bytes both ways.

The framing is `spdy.py`'s. A stream that is not read stops the connection, as moby/spdystream (the peer in every Go
client) does; the number of streams is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from pinnace.wire import spdy
from pinnace.wire.pipe import Pipe

STREAMS = 1024  # open at once


class ByteStream(Protocol):
    """What a session runs on: a raw connection, or a WebSocket as a stream."""

    async def read(self) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...


class SpdyStream:
    """One stream, whoever opened it."""

    def __init__(self, session: SpdySession, stream_id: int, headers: dict[str, str]) -> None:
        self._session = session
        self.stream_id = stream_id
        self.headers = headers  # names in lower case
        self.incoming = Pipe()
        self.peer_done = False  # the peer sent FIN
        self.done = False  # we sent FIN, or the stream was reset
        self.accepted = False  # the peer took a stream of ours
        self._answered = asyncio.Event()  # it took it or did not

    async def opened(self) -> None:
        """Wait until the peer has taken a stream of ours. Raises ConnectionError when it does not."""
        await self._answered.wait()
        if not self.accepted:
            raise ConnectionRefusedError(f"the {self.headers.get('streamtype', '')} stream was refused")

    def answer(self, *, accepted: bool) -> None:
        """What the peer said of a stream of ours; its first word counts."""
        if not self._answered.is_set():
            self.accepted = accepted
            self._answered.set()

    async def read(self, limit: int = 65536) -> bytes:
        """The next bytes; empty when the peer has closed its half or the connection."""
        return await self.incoming.read(limit)

    def write(self, data: bytes) -> None:
        if data and not self.done:
            self._session.send(spdy.Spdy.data(self.stream_id, data))

    async def drain(self) -> None:
        await self._session.drain()

    def close(self) -> None:
        """Close our half; the peer may go on sending."""
        if not self.done:
            self.done = True
            self._session.send(spdy.Spdy.data(self.stream_id, b"", fin=True))
            self._session.forget_if_done(self)

    def reset(self, status: int = spdy.CANCEL) -> None:
        """End both halves at once."""
        if not (self.done and self.peer_done):
            self.done = self.peer_done = True
            self._session.send(spdy.Spdy.rst_stream(self.stream_id, status))
            self.incoming.discard()
            self._session.forget_if_done(self)


class SpdySession:
    """Server's end of a connection: `accept` sees every new stream; False refuses it. Client's end without `accept`."""

    def __init__(self, connection: ByteStream, accept: Callable[[SpdyStream], bool] | None = None) -> None:
        self._connection = connection
        self._accept = accept
        self._spdy = spdy.Spdy()
        self._streams: dict[int, SpdyStream] = {}
        self._last_id = 0  # of the peer's streams
        self._next_id = 1  # of ours, which a client numbers oddly
        self._ended = False

    async def run(self) -> None:
        """Receive until the peer is gone or breaks the protocol; then every stream has ended."""
        try:
            while data := await self._connection.read():
                for event in self._spdy.receive(data):
                    await self._handle(event)
        except spdy.SpdyError:
            self.send(spdy.Spdy.goaway(self._last_id, 1))
        finally:
            self._ended = True
            for stream in list(self._streams.values()):
                stream.done = stream.peer_done = True
                stream.incoming.feed_eof()
                stream.answer(accepted=False)
            self._streams.clear()

    def open(self, headers: dict[str, str]) -> SpdyStream:
        """A client's new stream, its header names in lower case. Nothing may be written before `opened` returns."""
        stream = SpdyStream(self, self._next_id, headers)
        self._next_id += 2
        if self._ended:
            stream.done = stream.peer_done = True
            stream.incoming.feed_eof()
            stream.answer(accepted=False)
        else:
            self._streams[stream.stream_id] = stream
            self.send(self._spdy.syn_stream(stream.stream_id, list(headers.items())))
        return stream

    def send(self, frame: bytes) -> None:
        if not self._ended:
            self._connection.write(frame)

    async def drain(self) -> None:
        await self._connection.drain()

    def go_away(self) -> None:
        """Tell the peer that this is the end."""
        self.send(spdy.Spdy.goaway(self._last_id))

    def forget_if_done(self, stream: SpdyStream) -> None:
        if stream.done and stream.peer_done:
            self._streams.pop(stream.stream_id, None)

    async def _handle(self, event: spdy.Event) -> None:
        if isinstance(event, spdy.DataReceived):
            await self._take(event)
        elif isinstance(event, spdy.StreamOpened):
            self._open(event)
        elif isinstance(event, spdy.StreamReplied):
            self._replied(event)
        elif isinstance(event, spdy.StreamReset):
            stream = self._streams.pop(event.stream_id, None)
            if stream is not None:
                stream.done = stream.peer_done = True
                stream.incoming.feed_eof()
                stream.answer(accepted=False)
        elif isinstance(event, spdy.PingReceived) and self._of_peer(event.ping_id):  # others answer pings of ours
            self.send(spdy.Spdy.ping(event.ping_id))

    async def _take(self, event: spdy.DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.peer_done:
            return  # it was closed or reset while this was under way
        stream.incoming.feed(event.data)
        if event.fin:
            stream.peer_done = True
            stream.incoming.feed_eof()
            self.forget_if_done(stream)
        elif stream.incoming.full:
            await stream.incoming.room()

    def _of_peer(self, number: int) -> bool:
        """Whether the peer gave this number: a client's are odd, a server's even."""
        return number % 2 == (self._accept is not None)

    def _replied(self, event: spdy.StreamReplied) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.answer(accepted=True)
        if event.fin:
            stream.peer_done = True
            stream.incoming.feed_eof()
            self.forget_if_done(stream)

    def _open(self, event: spdy.StreamOpened) -> None:
        if not self._of_peer(event.stream_id) or event.stream_id <= self._last_id:
            raise spdy.SpdyError(f"stream {event.stream_id} is out of order")
        self._last_id = event.stream_id
        stream = SpdyStream(self, event.stream_id, event.headers)
        if self._accept is None or len(self._streams) >= STREAMS:
            self.send(spdy.Spdy.rst_stream(event.stream_id, spdy.REFUSED_STREAM))
            return
        self._streams[event.stream_id] = stream
        if event.fin:
            stream.peer_done = True
            stream.incoming.feed_eof()
        self.send(self._spdy.syn_reply(event.stream_id, []))
        if not self._accept(stream):
            stream.reset(spdy.REFUSED_STREAM)
