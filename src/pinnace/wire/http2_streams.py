"""One stream of an HTTP/2 connection: the request that comes on it, and the open end of a streaming response."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pinnace.wire.http import Request, unframe_chunk
from pinnace.wire.http2_sender import Sender, SendStream


class Stream:
    """A request that has not come whole, or is being answered, or whose answer has not left yet."""

    __slots__ = (
        "_pieces",
        "_progress",
        "_since",
        "body_bytes",
        "gone",
        "head",
        "id",
        "orphaned",
        "receiving",
        "request",
        "room",
        "sending",
        "task",
        "writer",
    )

    def __init__(self, sending: SendStream) -> None:
        self.id = sending.id
        self.sending = sending
        self.receiving = False  # the request goes on
        self.head: Any = None
        self.room = 0  # what the peer may send before its window is shut
        self.body_bytes = 0
        self.task: asyncio.Task[None] | None = None
        self.request: Request | None = None  # that `task` works on
        self.writer: StreamWriter | None = None
        self.gone = False  # ended or reset
        self.orphaned = False  # reset while `task` was at work
        self._pieces: list[bytes] = []
        self._progress = (0, 0)
        self._since = 0.0  # when `_progress` was first seen as it is

    def expect(self, head: Any, room: int) -> None:
        """A body follows."""
        self.receiving = True
        self.head = head
        self.room = room

    def take(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self.body_bytes += len(piece)

    def body(self) -> bytes:
        return self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)

    def stop_receiving(self) -> None:
        self.receiving = False
        self._pieces = []
        self.body_bytes = 0

    def is_stuck(self, now: float, request_seconds: float, stuck_seconds: float) -> bool:
        """Whether the peer has neither sent nor taken anything for too long. Asked regularly."""
        waits = self.sending.queued and self.writer is None
        progress = (self.body_bytes, self.sending.progress)
        if not (self.receiving or waits) or progress != self._progress or not self._since:
            self._progress, self._since = progress, now
            return False
        return now - self._since > (request_seconds if self.receiving else stuck_seconds)


class StreamWriter:
    """The `Writer` of a streaming response."""

    def __init__(self, sender: Sender, sending: SendStream, limit: int, cut_off: Callable[[SendStream], None]) -> None:
        self._sender = sender
        self._sending = sending
        self._limit = limit
        self._cut_off = cut_off
        self._callbacks: list[Callable[[], None]] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        if not data or self.closed:
            return
        if self._sending.queued > self._limit:
            self._cut_off(self._sending)  # which calls `lost`
            return
        self._sender.data(self._sending, data)

    def write_framed(self, chunk: bytes) -> None:
        self.write(unframe_chunk(chunk))

    async def drain(self) -> None:
        await self._sender.drain(self._sending)

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
        if not self.closed:
            self.closed = True
            self._callbacks.clear()
            self._sender.data(self._sending, b"", last=True)
