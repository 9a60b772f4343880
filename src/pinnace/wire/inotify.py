"""inotify through libc: wakes a waiter when a directory or file changes, instead of looking every second.

inotify(7) specifies the events; all that matters here is that something happened.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from pathlib import Path

IN_MODIFY = 0x2
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200

DIRECTORY_CHANGES = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE

_libc = ctypes.CDLL(None, use_errno=True)


class Watcher:
    """Watches paths; `changed` is set whenever one of them changed. Close it when done."""

    def __init__(self) -> None:
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "inotify")
        self.changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def add(self, path: Path, mask: int) -> None:
        """Watch one more path. Raises OSError."""
        if _libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(mask)) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))

    def _readable(self) -> None:
        try:
            while os.read(self._fd, 65536):
                self.changed.set()
        except BlockingIOError:
            return

    async def wait(self, timeout: float) -> bool:
        """Wait for a change; False after `timeout` seconds without one."""
        try:
            async with asyncio.timeout(timeout):
                await self.changed.wait()
        except TimeoutError:
            return False
        self.changed.clear()
        return True

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
