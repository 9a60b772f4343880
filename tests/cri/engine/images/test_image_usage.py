"""What layers take: counted as du does, and not more often than is cheap."""

from __future__ import annotations

import os
from pathlib import Path

from pinnace.cri.engine.images.usage import Usage


class Clock:
    """Seconds that pass by `step` whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0
        self.step = 0.0

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_links_count_once_and_what_is_gone_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"x" * 10_000)
    os.link(tmp_path / "d/f", tmp_path / "again")
    blocks = sum(path.stat().st_blocks for path in (tmp_path / "d", tmp_path / "d/f"))

    assert Usage().of(tmp_path) == (blocks * 512, 2)
    assert Usage().of(tmp_path / "nowhere") == (0, 0)


def test_a_directory_that_takes_long_is_not_walked_again_soon(tmp_path: Path) -> None:
    clock = Clock()
    usage = Usage(clock)
    clock.step = 0.5
    assert usage.of(tmp_path) == (0, 0)
    clock.step = 0.0
    (tmp_path / "f").write_bytes(b"x")

    clock.now += 49
    assert usage.of(tmp_path) == (0, 0)
    clock.now += 1
    assert usage.of(tmp_path)[1] == 1


def test_a_directory_that_was_removed_is_walked_when_it_is_back(tmp_path: Path) -> None:
    clock = Clock()
    usage = Usage(clock)
    clock.step = 0.5
    assert usage.of(tmp_path) == (0, 0)
    usage.forget(tmp_path)
    (tmp_path / "f").write_bytes(b"x")

    assert usage.of(tmp_path)[1] == 1
