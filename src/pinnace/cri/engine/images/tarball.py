"""Layers and archives as they travel: plain, gzip or zstd.

A thread hashes a layer, and decompresses it, while another unpacks it: nothing is written but its files. zstd is
Python's own from 3.14 on, else that of the `zstandard` package or the program of that name. What eStargz and
zstd:chunked put between and behind their streams is passed over, as by whoever does not know them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Protocol

from pinnace.cri.engine.images.content import ContentError, ContentStore
from pinnace.cri.engine.images.sources import FileSource, ReadAhead, Region, Source, StreamSource

if TYPE_CHECKING:
    from hashlib import _Hash as Hash

_PIECE = 1 << 18  # bytes, of which deflate may make a thousand times as many
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


class _Decompressor(Protocol):
    """What zlib and both zstd libraries share."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def _gzip() -> _Decompressor:
    return zlib.decompressobj(wbits=31)


def _zstd() -> _Decompressor:
    made: _Decompressor
    library = _zstd_library()
    assert library is not None  # where there is none, `decompressed` calls the program
    decompressor = library.ZstdDecompressor()
    made = decompressor.decompressobj() if hasattr(decompressor, "decompressobj") else decompressor
    return made


@functools.cache
def _zstd_library() -> Any:
    for name in ("compression.zstd", "zstandard"):
        with suppress(ImportError):
            return importlib.import_module(name)
    return None


def compression(region: Region) -> Callable[[], _Decompressor] | None:
    """How to decompress what starts like this; None where it is plain."""
    magic = os.pread(region.descriptor, 4, region.offset)
    if magic.startswith(_GZIP_MAGIC):
        return _gzip
    return _zstd if magic == _ZSTD_MAGIC else None


def pieces(region: Region) -> Iterator[bytes]:
    """The bytes of a region; ContentError where the file ends before it."""
    position, end = region.offset, region.offset + region.size
    while position < end:
        data = os.pread(region.descriptor, min(_PIECE, end - position), position)
        if not data:
            raise ContentError("unexpected end of file")
        yield data
        position += len(data)


def decompressed(region: Region, make: Callable[[], _Decompressor]) -> Iterator[bytes]:
    """The content of a compressed region; streams that follow each other count as one, as gzip has it."""
    if make is _zstd and _zstd_library() is None:
        yield from _by_program(region)
        return
    decompressor = make()
    try:
        for data in pieces(region):
            rest = data
            while rest:
                if decompressor.eof:
                    if not rest.strip(b"\0"):  # padding
                        break
                    decompressor = make()
                yield decompressor.decompress(rest)
                rest = decompressor.unused_data if decompressor.eof else b""
    except (zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise ContentError(f"corrupt compressed data: {error}") from None
    except Exception as error:
        if type(error).__name__ in ("ZstdError", "CompressionError"):
            raise ContentError(f"corrupt compressed data: {error}") from None
        raise
    if not decompressor.eof:
        raise ContentError("corrupt compressed data: unexpected end of file")


def _by_program(region: Region) -> Iterator[bytes]:
    """What zstd(1) makes of a region."""
    program = shutil.which("zstd")
    if program is None:
        raise ContentError("zstd-compressed layers need Python 3.14, the package zstandard or the program zstd")
    with (
        subprocess.Popen(
            [program, "-d", "-c", "-q"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process,
        ThreadPoolExecutor(1) as feeder,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        feeding = feeder.submit(_feed, process.stdin, region)
        try:
            while data := process.stdout.read(_PIECE):
                yield data
            said = process.stderr.read().decode(errors="replace").strip()
            failed = process.wait() != 0
        finally:
            process.kill()  # where nobody wants the rest
        feeding.result()
        if failed:
            raise ContentError(f"corrupt compressed data: {said}")


def _feed(into: IO[bytes], region: Region) -> None:
    with suppress(BrokenPipeError), into:
        for data in pieces(region):
            into.write(data)


@contextmanager
def opened(region: Region) -> Iterator[tuple[Source, Callable[[], str]]]:
    """A layer to unpack, and a function that gives the SHA-256 digest of all of it, uncompressed.

    What is wrong with compressed data is raised (ContentError) where it is read, at the latest by that function.
    """
    digest = hashlib.sha256()
    make = compression(region)
    source: Source
    if make is None:
        ahead = ReadAhead(_hashed(pieces(region), digest, passed_on=False))
        source = FileSource(region)
    else:
        ahead = ReadAhead(_hashed(decompressed(region, make), digest, passed_on=True))
        source = StreamSource(ahead.read)

    def whole() -> str:
        while ahead.read():
            pass
        return "sha256:" + digest.hexdigest()

    with ahead:
        yield source, whole


def _hashed(data: Iterator[bytes], digest: Hash, *, passed_on: bool) -> Generator[bytes, None, None]:
    for piece in data:
        digest.update(piece)
        if passed_on and piece:
            yield piece


@contextmanager
def plain(region: Region, content: ContentStore) -> Iterator[Region]:
    """A whole archive uncompressed, in a file without a name; one that is not compressed stays where it is."""
    make = compression(region)
    if make is None:
        yield region
        return
    with content.scratch() as descriptor:
        size = 0
        for data in decompressed(region, make):
            size += _write_all(descriptor, data)
        yield Region(descriptor, 0, size)


def _write_all(descriptor: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    return len(data)
