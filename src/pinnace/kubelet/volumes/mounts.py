"""Mounting and unmounting on the node, through libc: tmpfs for what must not reach a disk, binds for sub-paths.

What is mounted is read from /proc/self/mountinfo, so that a kubelet started anew can undo what the old one did.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

MS_RDONLY = 1
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_SHARED = 1 << 20
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_ESCAPED = re.compile(r"\\([0-7]{3})")

_libc = ctypes.CDLL(None, use_errno=True)


def _call(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def mount(source: str, target: Path, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError."""
    _call(
        _libc.mount(source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode()),
        f"mount {target}",
    )


def mount_tmpfs(target: Path, size: int = 0) -> None:
    """An empty tmpfs at an existing directory, of at most `size` bytes if that is not 0, and not swapped out."""
    options = [f"size={size}"] if size else []
    try:
        mount("tmpfs", target, "tmpfs", 0, ",".join([*options, "noswap"]))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mount("tmpfs", target, "tmpfs", 0, ",".join(options))  # a kernel before 6.4


def mount_huge_pages(target: Path, page_size: int) -> None:
    """An empty hugetlbfs of pages of so many bytes at an existing directory."""
    mount("nodev", target, "hugetlbfs", 0, f"pagesize={page_size}")


def bind(source: str, target: Path, *, read_only: bool = False) -> None:
    mount(source, target, "none", MS_BIND)
    if read_only:
        mount("none", target, "none", MS_BIND | MS_REMOUNT | MS_RDONLY)


def share(directory: Path) -> None:
    """Have mounts below the directory be seen by whoever it is shared with, and theirs be seen here. Raises OSError.

    Plugins in containers mount for pods there. Where the machine's own mounts are not shared, the directory becomes one
    that is.
    """
    lines = mountinfo()
    if not is_shared(directory.resolve(), lines):
        mount(str(directory), directory, "none", MS_BIND | MS_REC)
        mount("none", directory, "none", MS_SHARED | MS_REC)


def is_shared(path: Path, mountinfo: Iterable[str]) -> bool:
    """Whether the mount that a path is on propagates."""
    nearest: list[str] = []
    for line in mountinfo:
        fields = line.split(" ")
        point = Path(_decoded(fields[4]))
        if path.is_relative_to(point) and (not nearest or len(point.parts) >= len(Path(_decoded(nearest[4])).parts)):
            nearest = fields  # of equal ones the last, which covers the others
    return bool(nearest) and any(one.startswith("shared:") for one in nearest[6 : nearest.index("-")])


def unmount(target: Path) -> None:
    """Take a mount away, at once or as soon as nobody uses it; nothing happens where nothing is mounted."""
    try:
        _call(_libc.umount2(os.fsencode(target), UMOUNT_NOFOLLOW), f"umount {target}")
    except OSError as error:
        if error.errno == 22:  # EINVAL: not a mount point
            return
        if error.errno == 16:  # EBUSY
            _call(_libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW), f"umount {target}")
            return
        raise


def is_mounted(target: Path) -> bool:
    """Whether something is mounted exactly there."""
    try:
        return target.lstat().st_dev != target.parent.lstat().st_dev
    except OSError:
        return False


def mounted_below(root: Path, lines: Iterable[str] | None = None) -> list[Path]:
    """Mount points at or below a directory, the innermost and newest first."""
    if lines is None:
        lines = mountinfo()
    prefix = str(root)
    found = []
    for line in lines:
        point = _decoded(line.split(" ", 5)[4])
        if point == prefix or point.startswith(prefix + "/"):
            found.append(Path(point))
    return found[::-1]


def mounts_of(place: Path) -> list[Path]:
    """Every mount point of the file system that is mounted at a place, itself among them; none where none is."""
    found: dict[str, list[Path]] = {}
    for line in mountinfo():
        fields = line.split(" ", 5)
        found.setdefault(fields[2], []).append(Path(_decoded(fields[4])))
    return next((points for points in found.values() if place in points), [])


def unmount_below(root: Path) -> None:
    """Undo every mount at or below a directory."""
    for point in mounted_below(root):
        unmount(point)


def mountinfo() -> list[str]:
    """The lines of /proc/self/mountinfo, in which names may be any bytes."""
    return os.fsdecode(Path("/proc/self/mountinfo").read_bytes()).rstrip("\n").split("\n")


def _decoded(text: str) -> str:
    """As mountinfo writes a path: blanks, line ends and backslashes in octal."""
    return _ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), text) if "\\" in text else text
