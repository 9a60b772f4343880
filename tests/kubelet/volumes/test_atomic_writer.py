"""Volumes of files that change all at once, or not at all."""

from __future__ import annotations

import errno
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pinnace.kubelet.volumes.atomic_writer import File, write_payload

NOW = datetime(2026, 1, 31, tzinfo=UTC)


def test_a_full_disk_keeps_what_there_was_and_loses_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_payload(tmp_path, {"a": File(b"old", 0o644)}, NOW)
    before = sorted(entry.name for entry in tmp_path.iterdir())
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "b":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    for _ in range(2):
        with pytest.raises(OSError, match="No space left"):
            write_payload(tmp_path, {"a": File(b"new", 0o644), "b": File(b"more", 0o644)}, NOW)

    assert sorted(entry.name for entry in tmp_path.iterdir()) == before
    assert (tmp_path / "a").read_bytes() == b"old"
