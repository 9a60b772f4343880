"""Directory trees that containers have written to: removed and walked, however deep they are and wherever links lead.

What a container leaves may be deeper than Python recurses or a path is long, and while it runs it may put a link in the
place of any directory. So every step is taken from an open directory, and no link is followed out of the tree.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pinnace.cri.engine.images.rooted import open_in_root

_DEEPEST = 100  # directories that are open at once; what lies deeper is lifted up first
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: Path | str, *, at: int | None = None) -> None:
    """Delete a directory (below the open one `at`) and all in it. Raises OSError, EBUSY where something is mounted."""
    top = os.open(path, _DIRECTORY, dir_fd=at)
    try:
        while os.listdir(top):  # noqa: PTH208  # of a descriptor
            _empty(top, top, os.fstat(top).st_dev, 0)
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=at)


def discard(path: Path) -> None:
    """Delete what can be deleted without an error."""
    with suppress(OSError):
        remove(path)


def _empty(top: int, directory: int, device: int, depth: int) -> None:
    with os.scandir(directory) as found:
        entries = list(found)
    for entry in entries:
        with suppress(FileNotFoundError):  # somebody else removes it, too
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=directory)
            elif depth == _DEEPEST:
                os.rename(entry.name, f".{secrets.token_hex(8)}", src_dir_fd=directory, dst_dir_fd=top)
            else:
                _remove_below(top, directory, entry.name, device, depth)


def _remove_below(top: int, directory: int, name: str, device: int, depth: int) -> None:
    below = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        if os.fstat(below).st_dev != device:
            raise OSError(errno.EBUSY, "something is mounted here", name)
        _empty(top, below, device, depth + 1)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=directory)


def walk(root: Path) -> Iterator[tuple[int, list[str]]]:
    """Every directory of a tree as a descriptor, which is closed afterwards, with the names of all that is in it.

    A directory comes before those below it. Raises OSError, ENAMETOOLONG where the tree is deeper than paths are long.
    """
    top = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pending = ["."]
    try:
        while pending:
            path = pending.pop()
            directory = open_in_root(top, path, _DIRECTORY)
            try:
                with os.scandir(directory) as found:
                    entries = list(found)
                pending += [f"{path}/{entry.name}" for entry in entries if entry.is_dir(follow_symlinks=False)]
                yield directory, [entry.name for entry in entries]
            finally:
                os.close(directory)
    finally:
        os.close(top)
