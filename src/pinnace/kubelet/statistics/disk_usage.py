"""How much of the disk directories take: bytes and inodes, as `du` counts them.

Links to one file count once, other file systems not at all. Walking is work, so `Meter` remembers a figure for a time
that grows with what it took to find.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from pinnace.kubelet.eviction.ranking import NOTHING, Disk

_FRESH = 10.0  # seconds for which a figure counts at least
_DUTY = 0.02  # the part of the time that walking one directory may take


def measure(path: Path | str) -> Disk:
    """What a file, or a directory with all below it, takes; nothing for one that is gone."""
    try:
        top = os.lstat(path)
    except OSError:
        return NOTHING
    used, seen = top.st_blocks * 512, {top.st_ino}
    stack = [os.fspath(path)] if os.path.isdir(path) and not os.path.islink(path) else []  # noqa: PTH112, PTH114
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    if found.st_dev != top.st_dev or found.st_ino in seen:
                        continue
                    seen.add(found.st_ino)
                    used += found.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
        except OSError:
            continue
    return Disk(used, len(seen))


class Meter:
    """Remembers what directories take; `measure` walks, and is for a thread to call."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, Disk]] = {}  # path -> until when it counts, the figure

    def measure(self, path: Path | str) -> Disk:
        name = os.fspath(path)
        until, found = self._known.get(name, (0.0, NOTHING))
        began = self._clock()
        if name in self._known and began < until:
            return found
        found = measure(name)
        took = self._clock() - began
        self._known[name] = (began + max(_FRESH, took / _DUTY), found)
        return found

    def forget(self) -> None:
        """Drop what does not count any more."""
        now = self._clock()
        self._known = {name: known for name, known in self._known.items() if known[0] > now}
