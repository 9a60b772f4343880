"""The sending half of an HTTP/2 connection: flow control, turns between streams, and few, large writes.

Frames gather while a read is answered and leave in one write. A body waits in its stream while a window is shut or
the socket is full, so that no answer holds up the others. Specified by RFC 9113, 5.2 and 6.9.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from pinnace.wire import http2_frames as frames
from pinnace.wire.connection import Channel
from pinnace.wire.http2_frames import DATA, END_STREAM, LARGEST_WINDOW, frame_head
from pinnace.wire.turns import current_turn

HIGH_WATER = 512 << 10  # in the socket's queue: above, bodies wait in their streams
TURN_BYTES = 64 << 10  # of one stream, then the next has its turn
BURST_BYTES = 4 << 20  # of one connection, then other connections have their turn
DRAINED_BYTES = 64 << 10


class SendStream:
    """What one stream has yet to send."""

    __slots__ = ("ending", "id", "pieces", "progress", "queued", "waiters", "window")

    def __init__(self, stream_id: int, window: int) -> None:
        self.id = stream_id
        self.window = window  # bytes that the peer takes on this stream; below zero after it changed its mind
        self.pieces: deque[bytes | memoryview] = deque()
        self.queued = 0  # bytes in `pieces`
        self.ending = False  # the last piece ends the stream
        self.progress = 0  # grows whenever some of the queue leaves
        self.waiters: list[asyncio.Future[None]] = []

    def wake(self) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Sender:
    """Frames out. `ended` is called with a stream when its last byte has left its queue."""

    def __init__(self, channel: Channel, ended: Callable[[SendStream], None]) -> None:
        self._channel = channel
        self._ended = ended
        self._out: list[bytes | memoryview] = []
        self._out_bytes = 0
        self._loop_turn = current_turn()
        self._corked = False  # a read is being answered: its end flushes
        self._scheduled = False
        self._ready: dict[SendStream, None] = {}  # with something to send and a window to send it in, in turn
        self.window = frames.WINDOW  # of the connection
        self.initial_window = frames.WINDOW  # of new streams
        self.frame_bytes = frames.LEAST_FRAME_BYTES
        self.queued = 0  # bytes that wait in streams

    # Frames.

    def cork(self) -> None:
        self._corked = True

    def uncork(self) -> None:
        self._corked = False
        if self._ready:
            self._pump()
        if self._out:
            self._write_out()

    def put(self, frame: bytes) -> None:
        """Send a whole frame, soon."""
        self._out.append(frame)
        self._out_bytes += len(frame)
        if not self._corked and not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        self._loop_turn.at_end(self._flush_later)

    def _flush_later(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Send now what may be sent."""
        if self._ready:
            self._pump()
        if self._out:
            self._write_out()

    def _write_out(self) -> None:
        out, self._out, self._out_bytes = self._out, [], 0
        self._channel.write(b"".join(out))

    # Bodies.

    def fits(self, size: int) -> bool:
        """Whether a body of a new stream can leave at once in one frame."""
        return (
            size <= self.window
            and size <= self.initial_window
            and size <= self.frame_bytes
            and self._channel.buffered < HIGH_WATER
        )

    def put_body(self, stream_id: int, body: bytes) -> None:
        """Send all of a body that `fits`."""
        size = len(body)
        self.window -= size
        self._out += (frame_head(size, DATA, END_STREAM, stream_id), body)
        self._out_bytes += size

    def data(self, stream: SendStream, piece: bytes | memoryview, *, last: bool = False) -> None:
        """Send a piece of a body as soon as windows and socket allow; `last` ends the stream."""
        size = len(piece)
        if not size and not last:
            return
        at_once = not stream.pieces and size <= self.frame_bytes and self._channel.buffered < HIGH_WATER
        if at_once and (not size or (size <= stream.window and size <= self.window)):
            stream.window -= size
            self.window -= size
            self._out += (frame_head(size, DATA, END_STREAM if last else 0, stream.id), piece)
            self._out_bytes += size
            if last:
                self._ended(stream)
        else:
            stream.pieces.append(memoryview(piece))
            stream.queued += size
            self.queued += size
            stream.ending = last
            if stream.window > 0 or not stream.queued:
                self._ready[stream] = None
        if not self._corked and not self._scheduled:
            self._schedule()

    def drop(self, stream: SendStream) -> None:
        """Forget what a stream has queued: it was reset."""
        self.queued -= stream.queued
        stream.queued = 0
        stream.pieces.clear()
        self._ready.pop(stream, None)
        stream.wake()

    def _pump(self) -> None:
        """Send what is queued, a turn a stream, while windows and socket allow."""
        ready = self._ready
        burst = 0
        while ready:
            if self._out_bytes + self._channel.buffered >= HIGH_WATER:
                if self._out:
                    self._write_out()
                if self._channel.buffered >= HIGH_WATER:
                    return  # `drained` goes on
            if burst > BURST_BYTES:
                if not self._scheduled:
                    self._schedule()
                return
            stream = next(iter(ready))
            if self.window <= 0 and stream.queued:
                return  # an open window goes on
            del ready[stream]
            burst += self._turn(stream)
            if stream.pieces and stream.window > 0:
                ready[stream] = None

    def _turn(self, stream: SendStream) -> int:
        """Frames of one stream; how many bytes they carry."""
        pieces, sent = stream.pieces, 0
        room = max(0, min(TURN_BYTES, self.window, stream.window))
        while pieces:
            piece = pieces[0]
            size = min(len(piece), self.frame_bytes, room - sent)
            if size < len(piece):
                if not size:
                    break
                pieces[0] = piece[size:]
                piece = piece[:size]
            else:
                pieces.popleft()
            last = stream.ending and not pieces
            self._out += (frame_head(size, DATA, END_STREAM if last else 0, stream.id), piece)
            sent += size
        self._out_bytes += sent
        self.window -= sent
        stream.window -= sent
        stream.queued -= sent
        stream.progress += 1
        self.queued -= sent
        if stream.ending and not pieces:
            self._ended(stream)
        elif stream.waiters and stream.queued <= DRAINED_BYTES:
            stream.wake()
        return sent

    async def drain(self, stream: SendStream) -> None:
        """Wait until most of what a stream has queued has left, or the stream is gone."""
        if stream.queued > DRAINED_BYTES:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            stream.waiters.append(waiter)
            await waiter

    # Windows.

    def widen(self, stream: SendStream, increment: int) -> bool:
        """More room in a stream's window; False if that is more than any window holds."""
        stream.window += increment
        if stream.pieces and stream.window > 0:
            self._ready[stream] = None
        return stream.window <= LARGEST_WINDOW

    def widen_connection(self, increment: int) -> bool:
        self.window += increment
        return self.window <= LARGEST_WINDOW
