"""`local` volumes: a directory, a disk with a file system or a bare disk of this node.

Specified by https://kubernetes.io/docs/concepts/storage/volumes/#local.
"""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

from pinnace.kubelet.volumes import disks
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.mounts import bind, mounted_below, unmount_below
from pinnace.kubelet.volumes.ownership import give_to_group
from pinnace.machinery.meta import Obj, get_in, name_of

PLUGIN = "local-volume"


async def set_up_persistent(context: VolumeContext, volume: Obj, persistent: Obj) -> Path:
    """The volume where the pod has it: mounted into its own directory, or the disk itself."""
    path = Path(persistent["spec"]["local"]["path"])
    try:
        kind = path.stat().st_mode
    except OSError as error:
        why = f'path "{path}" does not exist'
        raise VolumeError(why, operation="MountVolume.NewMounter initialization failed") from error
    if persistent["spec"].get("volumeMode") == "Block":
        return path
    if stat.S_ISBLK(kind):
        return await _mount(context, path, persistent, read_only=_is_read_only(volume))
    if not stat.S_ISDIR(kind):
        raise VolumeError("only directory and block device are supported", operation="MountVolume.MountDevice failed")
    return await _bind(context, path, persistent, read_only=_is_read_only(volume))


def _is_read_only(volume: Obj) -> bool:
    return bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))


async def _mount(context: VolumeContext, device: Path, persistent: Obj, *, read_only: bool) -> Path:
    """A disk with a file system, or one to be made."""
    name = name_of(persistent)
    place = context.disks.plugins_dir / PLUGIN / "mounts" / name
    fs_type = persistent["spec"]["local"].get("fsType") or ""
    options = [*(["ro"] if read_only else []), *(persistent["spec"].get("mountOptions") or ())]
    async with context.disks.locks[name]:
        try:
            await disks.mount_disk(str(device), place, fs_type, options)
        except (VolumeError, OSError) as error:
            raise VolumeError(str(error), operation="MountVolume.MountDevice failed") from error
        return await disks.bind_disk(context, PLUGIN, name, place, read_only=read_only)


async def release(node: disks.Disks) -> None:
    """Unmount the disks that no pod has any more. Raises OSError."""
    for place in (node.plugins_dir / PLUGIN / "mounts").glob("*"):
        if not node.locks[place.name].locked() and not node.is_used(place):
            unmount_below(place)
            place.rmdir()


async def _bind(context: VolumeContext, path: Path, persistent: Obj, *, read_only: bool) -> Path:
    target = context.directory(PLUGIN, name_of(persistent))
    if mounted_below(target):
        return target
    try:
        target.mkdir(parents=True, exist_ok=True, mode=0o750)
        # In a thread: among what pods have mounted may be a file server that does not answer.
        others = [point for point in await asyncio.to_thread(_mounts_of, path, context.pods_dir) if point != target]
        group = context.fs_group
        owner = path.stat().st_gid
        if group is not None and others and owner != group:
            text = f"The requested fsGroup is {group}, but the volume {name_of(persistent)} has GID {owner}."
            context.tell(context.pod, "Warning", "AlreadyMountedVolume", f"{text} The volume may not be shareable.")
        bind(str(path), target, read_only=read_only)
        if group is not None and not read_only and not others:
            policy = get_in(context.pod, "spec", "securityContext", "fsGroupChangePolicy")
            await asyncio.to_thread(give_to_group, target, group, only_on_mismatch=policy == "OnRootMismatch")
    except OSError as error:
        raise VolumeError(str(error)) from error
    return target


def _mounts_of(path: Path, pods_dir: Path) -> list[Path]:
    """Where pods have the directory already."""
    found = path.stat()
    return [
        point
        for point in mounted_below(pods_dir)
        if (at := point.stat()).st_dev == found.st_dev and at.st_ino == found.st_ino
    ]
