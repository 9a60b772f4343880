"""Paths that cannot leave a directory: `openat2(2)` with RESOLVE_IN_ROOT, so that the kernel itself keeps to the root.

Every absolute path, `..` and symbolic link is resolved as if the directory were the root of the file system, without
races. Linux 5.6 or newer.
"""

from __future__ import annotations

import ctypes
import os

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_IN_ROOT = 0x10
_RESOLVE_NO_MAGICLINKS = 0x02

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """A descriptor of `path` below the directory `root`; OSError as open(2)."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    encoded = os.fsencode(path) or b"."
    descriptor: int = _libc.syscall(
        ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(root), encoded, ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
    )
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return descriptor


def open_directory_in_root(root: int, path: str) -> int:
    """A path-only descriptor of a directory below `root`."""
    return open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
