"""Layers and archives as they travel: plain, gzip or zstd.

A thread hashes a layer, and decompresses it, while another unpacks it: nothing is written but its files. zstd needs
Python 3.14 or the `zstandard` package.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

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
    for module, maker in (("compression.zstd", "ZstdDecompressor"), ("zstandard", "ZstdDecompressor")):
        try:
            library = importlib.import_module(module)
        except ImportError:
            continue
        decompressor = getattr(library, maker)()
        made = decompressor.decompressobj() if hasattr(decompressor, "decompressobj") else decompressor
        return made
    raise ContentError("zstd-compressed layers need Python 3.14 or the package zstandard")


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


def _hashed(data: Iterator[bytes], digest: Hash, *, passed_on: bool) -> Iterator[bytes]:
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
