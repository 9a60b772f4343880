"""Objects that nobody has touched for a while, kept compressed: most of a big cluster's state is.

The objects of one resource resemble each other, so that one of them serves as the dictionary of the others: a pod of
5 kB becomes 200 bytes in 25 µs and is itself again in 10. The newest objects stay as they are; what is older is packed
when the server has nothing else to do, or when there is far too much of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import time
import zlib
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

KEEP = 16 << 20  # bytes of the newest objects that stay unpacked
TOO_MUCH = 24 << 20  # bytes from which on every new object has two old ones packed, however busy the server is
REST = 0.5  # seconds between looks whether there is something to pack
QUIET = 0.05  # of a core: the process has nothing else to do when it used less than that meanwhile
SLICE = 0.001  # seconds of packing at a time
PAUSE = 0.002  # seconds between two slices
SLICES = 100  # until it looks again whether it is quiet
TRIM = 16 << 20  # bytes packed since freed memory was given back, from which on it is given back again
TRIM_SECONDS = 2.0  # between two times: one takes up to 5 ms
_WINDOW_BITS, _MEMORY_LEVEL = 13, 6  # a small state, for every object has one of its own while it is packed


class Dictionary:
    """How the objects of one resource are packed: by what they share with one of them."""

    __slots__ = ("_compressor", "_sample")

    def __init__(self, sample: bytes) -> None:
        self._sample = sample
        self._compressor = zlib.compressobj(1, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, 0, sample)

    def pack(self, data: bytes) -> bytes:
        """The packed form, or `data` itself where packing does not pay."""
        compressor = self._compressor.copy()
        packed = compressor.compress(data) + compressor.flush()
        return packed if len(packed) < len(data) * 3 // 4 else data

    def unpack(self, packed: bytes) -> bytes:
        return zlib.decompressobj(_WINDOW_BITS, self._sample).decompress(packed)


class Packable(Protocol):
    def pack(self) -> None: ...

    @property
    def size(self) -> int: ...


class Packing:
    """What is not packed yet, oldest first."""

    def __init__(self) -> None:
        self._fresh: deque[tuple[Packable, int]] = deque()
        self._bytes = 0
        self._packed = 0  # bytes, ever

    def add(self, obj: Packable) -> None:
        size = obj.size
        self._fresh.append((obj, size))
        self._bytes += size
        if self._bytes > TOO_MUCH:
            self._pack_oldest()
            self._pack_oldest()

    def extend(self, objs: Iterable[Packable]) -> None:
        """As `add`, of many at once, for which there will be time later."""
        for obj in objs:
            size = obj.size
            self._fresh.append((obj, size))
            self._bytes += size

    def _pack_oldest(self) -> None:
        obj, size = self._fresh.popleft()
        self._bytes -= size
        self._packed += size
        obj.pack()

    async def tend(self) -> None:
        """Pack what is old whenever the process has nothing else to do, until cancelled."""
        loop = asyncio.get_running_loop()
        trimmed, at = 0, 0.0
        while True:
            begun, used = time.monotonic(), time.process_time()
            await asyncio.sleep(REST)
            now = time.monotonic()
            if self._packed - trimmed > TRIM and now - at > TRIM_SECONDS:
                trimmed, at = self._packed, now
                await loop.run_in_executor(None, _give_back)
            if self._bytes <= KEEP or time.process_time() - used > QUIET * (now - begun):
                continue
            for _ in range(SLICES):
                self._pack_for(SLICE)
                await asyncio.sleep(PAUSE)

    def _pack_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self._bytes > KEEP and time.monotonic() < end:
            self._pack_oldest()


def _give_back() -> None:
    """Return to the system what the C library holds of freed memory, where it can."""
    trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


packing = Packing()  # of every cache of this process
