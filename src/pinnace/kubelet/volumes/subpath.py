"""`subPath`: one file or directory of a volume, bound to a place of the kubelet's own before the container sees it.

Every step is opened without following symbolic links out of the volume, and what is bound is the opened file itself,
so a container cannot swap a link in between (https://kubernetes.io/docs/concepts/storage/volumes/#using-subpath).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pinnace.kubelet.env import ConfigError
from pinnace.kubelet.volumes.mounts import bind, is_mounted, unmount


def prepare(volume: Path, subpath: str, target: Path, *, create: bool) -> Path:
    """Bind `volume/subpath` to `target`; the target. Raises ConfigError. `create` makes missing directories."""
    if subpath.startswith("/") or ".." in subpath.split("/"):
        raise ConfigError(f"subPath is not allowed: {subpath}")
    opened = open_below(volume, subpath, create=create)
    try:
        if is_mounted(target):
            unmount(target)
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


def open_below(volume: Path, subpath: str, *, create: bool = False) -> int:
    """A descriptor (O_PATH) of the file or directory below the volume. Raises ConfigError."""
    root = volume.resolve()
    path = root / subpath
    if create and not path.exists():
        if not path.parent.resolve().is_relative_to(root):
            raise ConfigError(f"subPath leads out of the volume: {subpath}")
        path.mkdir(parents=True, exist_ok=True, mode=0o750)
        path.chmod(root.stat().st_mode & 0o7777)
    try:
        resolved = path.resolve(strict=True)
    except OSError as error:
        raise ConfigError(f"failed to prepare subPath for volumeMount: {error}") from error
    if not resolved.is_relative_to(root):
        raise ConfigError(f"subPath leads out of the volume: {subpath}")
    current = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        for step in resolved.relative_to(root).parts:
            following = os.open(step, os.O_PATH | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = following
            if stat.S_ISLNK(os.fstat(current).st_mode):
                raise ConfigError(f"subPath leads out of the volume: {subpath}")
    except OSError as error:
        os.close(current)
        raise ConfigError(f"failed to prepare subPath for volumeMount: {error}") from error
    except ConfigError:
        os.close(current)
        raise
    return current
