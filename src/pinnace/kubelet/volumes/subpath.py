"""`subPath`: one file or directory of a volume, bound to a place of the kubelet's own before the container sees it.

Every step is opened without following symbolic links out of the volume, and what is bound is the opened file itself,
so a container cannot swap a link in between (https://kubernetes.io/docs/concepts/storage/volumes/#using-subpath).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pinnace.kubelet.containers.env import ConfigError
from pinnace.kubelet.volumes.mounts import bind, unmount


def prepare(volume: Path, subpath: str, target: Path, *, create: bool) -> Path:
    """Bind `volume/subpath` to `target`; the target. Raises ConfigError. `create` makes missing directories."""
    if subpath.startswith("/") or ".." in subpath.split("/"):
        raise ConfigError(f"subPath is not allowed: {subpath}")
    opened = open_below(volume, subpath, create=create)
    try:
        _clear(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISDIR(os.fstat(opened).st_mode):
            target.mkdir(exist_ok=True)
        else:
            target.touch()
        bind(f"/proc/self/fd/{opened}", target)
    except OSError as error:
        raise ConfigError(f"failed to prepare subPath for volumeMount: {error}") from error
    finally:
        os.close(opened)
    return target


def _clear(target: Path) -> None:
    """Take away what an earlier container was given there: it may be on the same disk, and of another kind."""
    if target.is_dir():
        unmount(target)
        target.rmdir()
    elif target.exists():
        unmount(target)
        target.unlink()


def open_below(volume: Path, subpath: str, *, create: bool = False) -> int:
    """A descriptor (O_PATH) of the file or directory below the volume. Raises ConfigError."""
    root = volume.resolve()
    try:
        if create:
            _make_directories(root, subpath)
        return _open_resolved(root, _resolve(root, subpath), subpath)
    except (OSError, RuntimeError) as error:  # RuntimeError: links that lead to each other
        raise ConfigError(f"failed to prepare subPath for volumeMount: {error}") from error


def _resolve(root: Path, subpath: str) -> Path:
    """Where the links within a volume lead; whoever opens that follows no further ones."""
    resolved = (root / subpath).resolve(strict=True)
    if not resolved.is_relative_to(root):
        raise ConfigError(f"subPath leads out of the volume: {subpath}")
    return resolved


def _open_resolved(root: Path, resolved: Path, subpath: str) -> int:
    """Open step by step, so that no link can be put in the way meanwhile."""
    current = os.open(root, os.O_PATH | os.O_DIRECTORY)
    for step in resolved.relative_to(root).parts:
        try:
            following = os.open(step, os.O_PATH | os.O_NOFOLLOW, dir_fd=current)
        finally:
            os.close(current)
        current = following
        if stat.S_ISLNK(os.fstat(current).st_mode):
            os.close(current)
            raise ConfigError(f"subPath leads out of the volume: {subpath}")
    return current


def _make_directories(root: Path, subpath: str) -> None:
    """Make what is missing, each directory within one that is open, with the rights of the volume itself."""
    steps = [step for step in subpath.split("/") if step not in ("", ".")]
    there = len(steps)
    while there and not (root / "/".join(steps[:there])).exists():
        there -= 1
    if there == len(steps):
        return
    rights = stat.S_IMODE(root.stat().st_mode)
    known = "/".join(steps[:there])
    current = _open_resolved(root, _resolve(root, known), subpath)
    try:
        for step in steps[there:]:
            os.mkdir(step, rights, dir_fd=current)
            made = os.open(step, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = made
            os.fchmod(current, rights)  # the umask took some away
    finally:
        os.close(current)
