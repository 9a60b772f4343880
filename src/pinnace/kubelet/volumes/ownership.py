"""fsGroup: gives the files of a volume to a group that may read and write them.

Specified by https://kubernetes.io/docs/tasks/configure-pod-container/security-context/.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def give_to_group(root: Path, group: int, *, only_on_mismatch: bool = False) -> None:
    """Chown to the group, group rights as the owner's, new files of directories inherit the group. Raises OSError."""
    if only_on_mismatch and _fits(root, group):
        return
    for directory, names, files in os.walk(root):
        for name in (*files, *(name for name in names if Path(directory, name).is_symlink())):
            _give(Path(directory, name), group)
        _give(Path(directory), group)


def _fits(path: Path, group: int) -> bool:
    found = path.stat()
    return found.st_gid == group and found.st_mode & 0o2770 == 0o2770


def _give(path: Path, group: int) -> None:
    found = path.lstat()
    os.lchown(path, -1, group)
    if stat.S_ISLNK(found.st_mode):
        return
    extra = 0o2770 if stat.S_ISDIR(found.st_mode) else 0o660
    path.chmod(stat.S_IMODE(found.st_mode) | extra)
