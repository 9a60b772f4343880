"""`emptyDir` volumes on disk or in memory (https://kubernetes.io/docs/concepts/storage/volumes/#emptydir)."""

from __future__ import annotations

from pathlib import Path

from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.mounts import is_mounted, mount_tmpfs
from pinnace.kubelet.volumes.ownership import give_to_group
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    source = volume.get("emptyDir") or {}
    directory = context.directory("empty-dir", volume["name"])
    medium = source.get("medium") or ""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if medium == "Memory" and not is_mounted(directory):
            limit = source.get("sizeLimit")
            mount_tmpfs(directory, Quantity.parse(str(limit)).value() if limit else 0)
        elif medium not in ("", "Memory"):
            raise VolumeError(f'storage medium "{medium}" is not supported')
        if directory.stat().st_mode & 0o777 != 0o777:
            directory.chmod(0o777)
        if context.fs_group is not None:
            give_to_group(directory, context.fs_group)
    except OSError as error:
        raise VolumeError(str(error)) from error
    return directory
