"""Waiting for files to change, as the kernel tells it (inotify(7))."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

ALL_EVENTS = 0xFFF

_libc = ctypes.CDLL(None, use_errno=True)


def watch(*directories: Path) -> int:
    """A descriptor that can be read once something was done to directories or to what is in them."""
    watcher: int = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    for directory in directories:
        if _libc.inotify_add_watch(watcher, os.fsencode(directory), ALL_EVENTS) < 0:
            number = ctypes.get_errno()
            os.close(watcher)
            raise OSError(number, os.strerror(number), str(directory))
    return watcher


def was_touched(watcher: int) -> bool:
    """Whether anything happened since the last question."""
    try:
        return bool(os.read(watcher, 65536))
    except BlockingIOError:
        return False


@asynccontextmanager
async def changes(directory: Path) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Each call of what this gives returns once something has happened since the last one, or since the beginning."""
    watcher = watch(directory)
    loop = asyncio.get_running_loop()
    happened = asyncio.Event()

    def look() -> None:
        if was_touched(watcher):
            happened.set()

    loop.add_reader(watcher, look)

    async def next_change() -> None:
        await happened.wait()
        happened.clear()

    try:
        yield next_change
    finally:
        loop.remove_reader(watcher)
        os.close(watcher)
