"""A bounded pipe of bytes between a protocol that receives and a task that reads."""

from __future__ import annotations

import asyncio

CAPACITY = 256 << 10


class Pipe:
    """One writer, one reader. `feed` never waits; a writer that minds memory awaits `room` before it receives more."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._eof = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def feed(self, data: bytes) -> None:
        """Add bytes; dropped after `feed_eof`, as nobody will read them."""
        if not self._eof and data:
            self._buffer += data
            _wake(self._reader)

    def feed_eof(self) -> None:
        """Nothing more will come; what is buffered can still be read."""
        self._eof = True
        _wake(self._reader)
        _wake(self._writer)

    def discard(self) -> None:
        """The reader is gone: drop what is buffered and what will come."""
        self._buffer.clear()
        self.feed_eof()

    @property
    def full(self) -> bool:
        return len(self._buffer) > CAPACITY

    async def room(self) -> None:
        """Wait until the reader has caught up."""
        while len(self._buffer) > CAPACITY and not self._eof:
            self._writer = asyncio.get_running_loop().create_future()
            await self._writer

    async def read(self, limit: int = 65536) -> bytes:
        """The next bytes, at most `limit`; empty at the end."""
        while not self._buffer:
            if self._eof:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        if len(self._buffer) <= CAPACITY:
            _wake(self._writer)
        return data


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
