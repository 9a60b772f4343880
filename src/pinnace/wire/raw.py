"""The `RawConnection` of a connection that has left HTTP: a bounded read buffer over a `Channel`."""

from __future__ import annotations

import asyncio
from typing import Protocol

HIGH_WATER = 256 << 10
LOW_WATER = 64 << 10


class _Channel(Protocol):
    def write(self, data: bytes) -> None: ...

    def close(self, *, linger: bool = False) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    async def drain(self) -> None: ...


class RawStream:
    """Bytes both ways; reading stops at the socket while `HIGH_WATER` bytes wait to be read."""

    def __init__(self, channel: _Channel, first: bytes) -> None:
        self._channel = channel
        self._buffer = bytearray(first)
        self._eof = False
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False

    def feed(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > HIGH_WATER and not self._paused:
            self._paused = True
            self._channel.pause_reading()
        self._wake()

    def feed_eof(self) -> None:
        self._eof = True
        self._wake()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def read(self, limit: int = 65536) -> bytes:
        """The next bytes, at most `limit`; empty at the end of the stream."""
        while not self._buffer:
            if self._eof:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        data = bytes(self._buffer[:limit])
        del self._buffer[:limit]
        if self._paused and len(self._buffer) <= LOW_WATER:
            self._paused = False
            self._channel.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        self._channel.write(data)

    async def drain(self) -> None:
        await self._channel.drain()

    def close(self) -> None:
        self._eof = True
        self._channel.close(linger=True)  # what the peer still sends must not turn our last bytes into a reset
        self._wake()
