"""How full file systems are, also where a server of files is gone."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from pinnace.kubelet.statistics import claimed_volumes
from pinnace.kubelet.statistics.claimed_volumes import Rooms


async def test_a_server_that_is_gone_holds_one_thread_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, begun, back = os.statvfs, threading.Event(), threading.Event()
    asked: list[Path] = []

    def statvfs(path: Path) -> os.statvfs_result:
        asked.append(path)
        if path.name == "gone":
            begun.set()
            assert back.wait(60)
        return look(path)

    monkeypatch.setattr(os, "statvfs", statvfs)
    rooms, gone = Rooms(), tmp_path / "gone"
    gone.mkdir()

    monkeypatch.setattr(claimed_volumes, "_SLOW", 0.01)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await rooms.of(gone)
    assert await asyncio.to_thread(begun.wait, 60)
    assert asked == [gone]

    monkeypatch.setattr(claimed_volumes, "_SLOW", 60.0)
    assert (await rooms.of(tmp_path)).f_blocks
    answer = asyncio.ensure_future(rooms.of(gone))
    back.set()
    assert (await answer).f_blocks
    assert asked == [gone, tmp_path]


async def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await Rooms().of(tmp_path / "nowhere")
