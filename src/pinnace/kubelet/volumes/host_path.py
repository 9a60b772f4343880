"""`hostPath` volumes with every type of check (https://kubernetes.io/docs/concepts/storage/volumes/#hostpath)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.machinery.meta import Obj

_CHECKS = {
    "Directory": (stat.S_ISDIR, "a directory"),
    "File": (stat.S_ISREG, "a file"),
    "Socket": (stat.S_ISSOCK, "a socket file"),
    "CharDevice": (stat.S_ISCHR, "a character device"),
    "BlockDevice": (stat.S_ISBLK, "a block device"),
}


async def set_up(_context: VolumeContext, volume: Obj) -> Path:
    return check_host_path(volume["hostPath"])


def check_host_path(source: Obj) -> Path:
    """The path, made where its type says so. Raises VolumeError where it is not what its type says."""
    path = Path(source["path"])
    kind = source.get("type") or ""
    try:
        if kind == "DirectoryOrCreate" and not path.exists():
            path.mkdir(parents=True, mode=0o755)
        elif kind == "FileOrCreate" and not path.exists():
            path.touch(mode=0o644)
        elif not kind and not path.exists():
            path.mkdir(parents=True, mode=0o755)  # runtimes make what is missing and has no type
            return path
    except OSError as error:
        doing = "open" if kind == "FileOrCreate" else "mkdir"
        raise VolumeError(f"{doing} {error.filename}: {os.strerror(error.errno or 0).lower()}") from error
    wanted = kind.removesuffix("OrCreate")
    if not wanted:
        return path
    if wanted not in _CHECKS:
        raise VolumeError(f"{kind} is an invalid volume type")
    fits, words = _CHECKS[wanted]
    if not path.exists() or not fits(path.stat().st_mode):
        raise VolumeError(f"hostPath type check failed: {path} is not {words}")
    return path
