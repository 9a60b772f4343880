"""Copies of layers whose files belong to a pod's users, where the file system cannot show them so by itself.

What idmapped mounts do without a copy (mount_setattr(2)), for file systems that know none, as containerd's snapshotters
do it then. Whiteouts, opaque marks and links stay what they are; files' capabilities become those of the pod's root.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_CAPABILITY = "security.capability"
_VERSION_2, _VERSION_3, _VERSION_MASK = 0x02000000, 0x03000000, 0xFF000000


class OutOfRangeError(OSError):
    """A file belongs to somebody whom the pod has no user for."""


@dataclass(frozen=True, slots=True)
class Shift:
    """Ranges as in uid_map and gid_map: first inside, first outside, how many."""

    users: Sequence[Sequence[int]]
    groups: Sequence[Sequence[int]]

    def user(self, number: int) -> int:
        return _shifted(number, self.users)

    def group(self, number: int) -> int:
        return _shifted(number, self.groups)


def _shifted(number: int, ranges: Sequence[Sequence[int]]) -> int:
    for inside, outside, length in ranges:
        if inside <= number < inside + length:
            return outside + number - inside
    raise OutOfRangeError(f"no user or group {number} in the pod's user namespace")


def copy(source: Path, target: Path, shift: Shift) -> None:
    """Copy a layer to a directory that is not there yet."""
    seen: dict[tuple[int, int], Path] = {}
    pending = [(source, target)]
    directories: list[tuple[Path, os.stat_result]] = []
    while pending:
        old, new = pending.pop()
        found = old.lstat()
        key = (found.st_dev, found.st_ino)
        if not stat.S_ISDIR(found.st_mode) and key in seen:
            os.link(seen[key], new, follow_symlinks=False)
            continue
        seen[key] = new
        _make(old, new, found)
        if stat.S_ISDIR(found.st_mode):
            directories.append((new, found))
            pending += [(entry, new / entry.name) for entry in old.iterdir()]
        _give(old, new, found, shift)
    for path, found in reversed(directories):  # their times, now that nothing is put into them any more
        os.utime(path, ns=(found.st_mtime_ns, found.st_mtime_ns))


def _make(old: Path, new: Path, found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        new.mkdir()
    elif stat.S_ISLNK(found.st_mode):
        new.symlink_to(old.readlink())
    elif stat.S_ISREG(found.st_mode):
        shutil.copyfile(old, new)
    else:
        os.mknod(new, found.st_mode, found.st_rdev)


def _give(old: Path, new: Path, found: os.stat_result, shift: Shift) -> None:
    os.chown(new, shift.user(found.st_uid), shift.group(found.st_gid), follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        os.utime(new, ns=(found.st_mtime_ns, found.st_mtime_ns), follow_symlinks=False)
        return
    new.chmod(stat.S_IMODE(found.st_mode))  # after the owner, which takes setuid away
    if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
        for name in os.listxattr(old):
            value = os.getxattr(old, name)
            os.setxattr(new, name, _of_root(value, shift.user(0)) if name == _CAPABILITY else value)
    os.utime(new, ns=(found.st_mtime_ns, found.st_mtime_ns))


def _of_root(capability: bytes, root: int) -> bytes:
    """A file's capabilities, good where `root` is the root user (capabilities(7), "File capability extended")."""
    (magic,) = struct.unpack_from("<I", capability)
    if magic & _VERSION_MASK != _VERSION_2:
        return capability
    return struct.pack("<I", _VERSION_3 | magic & ~_VERSION_MASK) + capability[4:20] + struct.pack("<I", root)
