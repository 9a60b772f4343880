"""Layers as builders compress them: what is in them, wherever the compressor's own notes are."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pinnace.cri.engine.images.content import ContentError
from pinnace.cri.engine.images.sources import Region
from pinnace.cri.engine.images.tarball import opened

DATA = bytes(range(256)) * 4000


@pytest.fixture
def zstd() -> str:
    found = shutil.which("zstd")
    if found is None:
        pytest.skip("needs zstd")
    return found


def compressed(zstd: str, data: bytes) -> bytes:
    return subprocess.run([zstd, "-q", "-c"], input=data, capture_output=True, check=True).stdout


def note(text: bytes) -> bytes:
    """A frame that decompressors pass over, as zstd:chunked keeps its table of contents."""
    return struct.pack("<II", 0x184D2A50, len(text)) + text


@contextmanager
def written(directory: Path, *parts: bytes) -> Iterator[Region]:
    """Parts in the middle of a file."""
    path = directory / "layer"
    path.write_bytes(b"before" + b"".join(parts) + b"behind")
    with path.open("rb") as file:
        yield Region(file.fileno(), 6, os.fstat(file.fileno()).st_size - 12)


def read(region: Region) -> bytes:
    with opened(region) as (source, whole):
        found = b""
        while data := source.read(100_000):
            found += data
        whole()
    return found


def test_zstd_streams_are_one_and_notes_are_passed_over(tmp_path: Path, zstd: str) -> None:
    """As the layers of zstd:chunked are made."""
    half = len(DATA) // 2
    parts = [compressed(zstd, DATA[:half]), note(b"{}"), compressed(zstd, DATA[half:]), note(b"x" * 5000)]

    with written(tmp_path, *parts) as region:
        assert read(region) == DATA


def test_gzip_streams_are_one_and_an_empty_one_is_nothing(tmp_path: Path) -> None:
    """As the layers of eStargz are made: a stream for every file, and a footer that is an empty one."""
    pieces = [gzip.compress(DATA[start : start + 65536]) for start in range(0, len(DATA), 65536)]
    footer = gzip.compress(b"")

    with written(tmp_path, *pieces, footer) as region:
        assert read(region) == DATA


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_zstd_is_refused(tmp_path: Path, zstd: str, damage: str) -> None:
    whole = compressed(zstd, os.urandom(300_000))
    broken = whole[:-1000] if damage == "cut" else whole[:2000] + bytes([whole[2000] ^ 0xFF]) + whole[2001:]

    with written(tmp_path, broken) as region, pytest.raises(ContentError, match="corrupt compressed data"):
        read(region)


def test_whoever_stops_reading_leaves_no_process(tmp_path: Path, zstd: str) -> None:
    with written(tmp_path, compressed(zstd, os.urandom(5_000_000))) as region, opened(region) as (source, _):
        assert len(source.read(10)) == 10

    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    running = [json.dumps(Path(f"/proc/{pid}/comm").read_text()) for pid in children]
    assert not any("zstd" in name for name in running)


def test_a_machine_without_zstd_is_told_what_is_missing(
    tmp_path: Path, zstd: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = compressed(zstd, DATA)
    monkeypatch.setattr("pinnace.cri.engine.images.tarball._zstd_library", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))

    with written(tmp_path, data) as region, pytest.raises(ContentError, match="the package zstandard or the program"):
        read(region)
