"""fsGroup: gives the files of a volume to a group that may read and write them.

Specified by https://kubernetes.io/docs/tasks/configure-pod-container/security-context/. Containers may write to the
volume meanwhile, so nothing is named by a path that one of them could bend.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from pinnace.cri.trees import walk


def give_to_group(root: Path, group: int, *, only_on_mismatch: bool = False) -> None:
    """Chown to the group, group rights as the owner's, new files of directories inherit the group. Raises OSError."""
    if only_on_mismatch and _fits(root, group):
        return
    for directory, names in walk(root):
        _give(directory, group)
        for name in names:
            with suppress(FileNotFoundError):
                opened = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                try:
                    _give(opened, group)
                finally:
                    os.close(opened)


def _fits(path: Path, group: int) -> bool:
    found = path.stat()
    return found.st_gid == group and found.st_mode & 0o2770 == 0o2770


def _give(opened: int, group: int) -> None:
    """The file behind a descriptor, which is a symbolic link itself where it was opened so."""
    found, path = os.fstat(opened), Path(f"/proc/self/fd/{opened}")
    os.chown(path, -1, group)
    if not stat.S_ISLNK(found.st_mode):
        path.chmod(stat.S_IMODE(found.st_mode) | (0o2770 if stat.S_ISDIR(found.st_mode) else 0o660))
