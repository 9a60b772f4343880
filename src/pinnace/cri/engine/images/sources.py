"""Where a layer is unpacked from: a part of a file, or pieces that a thread decompresses meanwhile.

Both are what `tarfile` needs of a file, and copy content into files by themselves. Positions count from the start of
the layer.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from tarfile import StreamError
from types import TracebackType
from typing import Protocol

_PIECE = 1 << 20  # bytes copied by one read and write; more goes by copy_file_range
_AHEAD = 3  # pieces


@dataclass(frozen=True, slots=True)
class Region:
    """A part of an open file."""

    descriptor: int
    offset: int
    size: int


class Source(Protocol):
    """An uncompressed layer."""

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, position: int, /) -> int: ...

    def tell(self) -> int: ...

    def copy(self, position: int, size: int, target: int, at: int) -> None:
        """Copy `size` bytes from `position` to `at` in the file `target`; EOFError where the layer ends before."""


class FileSource:
    """A part of an open file."""

    def __init__(self, region: Region) -> None:
        self._region = region
        self._position = 0

    def read(self, size: int = -1, /) -> bytes:
        left = max(0, self._region.size - self._position)
        wanted = left if size < 0 else min(size, left)
        data = os.pread(self._region.descriptor, wanted, self._region.offset + self._position)
        self._position += len(data)
        return data

    def seek(self, position: int, /) -> int:
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def copy(self, position: int, size: int, target: int, at: int) -> None:
        if position + size > self._region.size:
            raise EOFError
        descriptor = self._region.descriptor
        position += self._region.offset
        while size:
            copied = 0
            if size > _PIECE:
                try:
                    copied = os.copy_file_range(descriptor, target, size, position, at)
                except OSError as error:
                    if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                        raise
            if not copied:
                copied = os.pwrite(target, os.pread(descriptor, min(size, _PIECE), position), at)
            if not copied:
                raise EOFError
            position, at, size = position + copied, at + copied, size - copied


class StreamSource:
    """Pieces that come one after the other, empty at the end; one can go back by a byte, as tarfile does."""

    def __init__(self, more: Callable[[], bytes]) -> None:
        self._more = more
        self._piece = b""
        self._start = 0  # of the piece
        self._position = 0

    def _take(self, limit: int) -> memoryview:
        """Bytes at the position, which moves on; at most `limit`, none at the end."""
        while self._position >= self._start + len(self._piece):
            last = self._piece[-1:]
            found = self._more()
            if not found:
                return memoryview(b"")
            self._start += len(self._piece) - len(last)
            self._piece = last + found
        at = self._position - self._start
        taken = memoryview(self._piece)[at : at + limit]
        self._position += len(taken)
        return taken

    def read(self, size: int = -1, /) -> bytes:
        found: list[memoryview] = []
        while size and (taken := self._take(size if size > 0 else _PIECE)):
            found.append(taken)
            if size > 0:
                size -= len(taken)
        return b"".join(found)

    def seek(self, position: int, /) -> int:
        if position < self._start:
            raise StreamError("seeking backwards is not allowed")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position

    def copy(self, position: int, size: int, target: int, at: int) -> None:
        self.seek(position)
        while size:
            taken = self._take(size)
            if not taken:
                raise EOFError
            size -= len(taken)
            while taken:
                written = os.pwrite(target, taken, at)
                at += written
                taken = taken[written:]


class ReadAhead:
    """An iterator of pieces that works in a thread, a few pieces ahead of who reads them."""

    def __init__(self, pieces: Generator[bytes, None, None]) -> None:
        self._pieces = pieces
        self._thread = ThreadPoolExecutor(1, "layer")
        self._coming: deque[Future[bytes]] = deque()
        for _ in range(_AHEAD):
            self._ask()

    def _ask(self) -> None:
        self._coming.append(self._thread.submit(next, self._pieces, b""))

    def read(self) -> bytes:
        """The next piece, empty at the end; raises what the iterator raised."""
        found = self._coming.popleft().result()
        self._ask()
        return found

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._thread.shutdown(cancel_futures=True)
        self._pieces.close()
