"""Writes a set of files so that readers see all of the old or all of the new, never a mixture.

The files live in a directory of their own; `..data` points to it and is replaced by rename; what readers open are
symbolic links through `..data`. This layout is what programs that watch configuration know.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

DATA = "..data"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a payload."""

    data: bytes
    mode: int
    uid: int | None = None  # the owner, where it is not root


Payload = Mapping[str, File]
"""By path relative to the volume, slashes allowed."""


def write_payload(root: Path, payload: Payload, now: datetime, group: int | None = None) -> bool:
    """Make the volume hold exactly the payload; whether anything changed. `group` gets to read every file."""
    current = root / DATA
    if current.is_symlink() and _same(current, payload, group):
        return False
    old = current.readlink() if current.is_symlink() else None
    fresh = Path(tempfile.mkdtemp(prefix=now.strftime("..%Y_%m_%d_%H_%M_%S."), dir=root))
    try:
        _fill(fresh, payload, group)
    except OSError:
        shutil.rmtree(fresh, ignore_errors=True)  # on a full disk every attempt would take more of it
        raise
    if group is not None:
        _open_to(group, root)
    pointer = root / "..data_tmp"
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(fresh.name)
    pointer.rename(current)
    _link(root, payload)
    if old is not None:
        shutil.rmtree(root / old, ignore_errors=True)
    return True


def _fill(fresh: Path, payload: Payload, group: int | None) -> None:
    fresh.chmod(0o755)
    for name, file in payload.items():
        target = fresh / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.data)
        target.chmod(_mode(file, group))
        if group is not None or file.uid is not None:
            os.chown(target, -1 if file.uid is None else file.uid, -1 if group is None else group)
    if group is not None:
        for directory in (fresh, *(path for path in fresh.rglob("*") if path.is_dir())):
            _open_to(group, directory)


def _open_to(group: int, directory: Path) -> None:
    os.chown(directory, -1, group)
    directory.chmod(stat.S_IMODE(directory.stat().st_mode) | 0o2550)


def _mode(file: File, group: int | None) -> int:
    """With an fsGroup the group may read what the owner may."""
    return file.mode | 0o440 if group is not None else file.mode


def _same(current: Path, payload: Payload, group: int | None) -> bool:
    found = {str(path.relative_to(current)) for path in current.rglob("*") if path.is_file()}
    if found != {str(Path(name)) for name in payload}:
        return False
    for name, file in payload.items():
        path = current / name
        status = path.stat()
        if status.st_mode & 0o7777 != _mode(file, group) or path.read_bytes() != file.data:
            return False
        if group is not None and status.st_gid != group:
            return False
    return True


def _link(root: Path, payload: Payload) -> None:
    """Give every top-level name of the payload its link, and take away links to what is gone."""
    wanted = {Path(name).parts[0] for name in payload}
    for name in wanted:
        link = root / name
        if not link.is_symlink():
            link.symlink_to(Path(DATA) / name)
    for entry in root.iterdir():
        if entry.name not in wanted and not entry.name.startswith("..") and entry.is_symlink():
            entry.unlink()
