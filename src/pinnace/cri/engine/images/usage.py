"""How much of the disk layers take, as `du` counts it; found by walking them, which may not take much of a core."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

DUTY = 0.01  # the part of the time that walking one directory may take


class Usage:
    """Remembers what directories take a hundred times as long as it took to find; any thread may ask."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[Path, tuple[float, tuple[int, int]]] = {}  # until when it counts, and the figures

    def of(self, directory: Path) -> tuple[int, int]:
        """Bytes on disk and inodes below a directory; nothing for one that is not there."""
        began = self._clock()
        known = self._known.get(directory)
        if known is not None and began < known[0]:
            return known[1]
        found = disk_usage(directory)
        ended = self._clock()
        self._known[directory] = (ended + (ended - began) / DUTY, found)
        return found

    def forget(self, directory: Path) -> None:
        """It is about to be removed."""
        self._known.pop(directory, None)


def disk_usage(directory: Path) -> tuple[int, int]:
    """Bytes on disk and inodes below a directory, hard links counted once."""
    used = 0
    seen: set[tuple[int, int]] = set()
    pending = [directory]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            key = (found.st_dev, found.st_ino)
            if key not in seen:
                seen.add(key)
                used += found.st_blocks * 512
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
    return used, len(seen)
