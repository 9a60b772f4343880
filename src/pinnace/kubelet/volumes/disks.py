"""Disks with file systems: made if the disk is blank, checked and mounted once on the node for all its pods.

Below the kubelet's `plugins/kubernetes.io`; a disk is in use as long as some pod has a mount of it, so that a kubelet
started anew need not be told.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from pinnace.kubelet import state_files
from pinnace.kubelet.go_words import os_error
from pinnace.kubelet.volumes import programs
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.mounts import bind, mounted_below, mounts_of, unmount_below
from pinnace.kubelet.volumes.ownership import give_to_group
from pinnace.kubelet.volumes.scsi_devices import Devices
from pinnace.machinery.meta import Obj, get_in, uid_of

DEVICES = "volumeDevices"
FLEX_DRIVERS = Path("/usr/libexec/kubernetes/kubelet-plugins/volume/exec")
PARTITIONED = "unknown data, probably partitions"
_DEFAULT = "ext4"
_MAKE = {"ext3": ("-F", "-m0"), "ext4": ("-F", "-m0"), "xfs": ("-f",)}


class Disks:
    """What all pods of a node share of their disks."""

    def __init__(self, root_dir: Path, pods_dir: Path, flex_drivers: Path = FLEX_DRIVERS) -> None:
        self.plugins_dir = root_dir / "plugins" / "kubernetes.io"
        self.pods_dir = pods_dir
        self.flex_drivers = flex_drivers
        self.devices = Devices()
        # By disk or target: held until the pod has its own mount, and while it is let go.
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def is_used(self, place: Path) -> bool:
        """Whether a pod has a mount of the disk that is mounted there, or is linked to it as a device."""
        links = self.pods_dir.glob(f"*/{DEVICES}/*/*")
        mapped = any(link.is_symlink() and link.readlink() == place for link in links)
        return mapped or any(point.is_relative_to(self.pods_dir) for point in mounts_of(place))

    def write(self, place: Path, known: Obj) -> None:
        """Write down beside a disk's place what letting it go needs. Raises OSError."""
        state_files.write(place.with_name(f"{place.name}.json"), json.dumps(known).encode())

    def places(self, plugin: str, pattern: str) -> Iterator[tuple[Path, Path]]:
        """What is written of each disk, which fits the pattern, and the disk's place."""
        root = self.plugins_dir / plugin
        for data in (*root.glob(pattern), *(root / DEVICES).glob(pattern)):
            yield data, data.with_name(data.name.removesuffix(".json"))

    async def release(self, plugin: str, pattern: str, let_go: Callable[[Path, Obj], Awaitable[None]]) -> None:
        """Unmount the disks that no pod has any more and let them go. Raises OSError, and what `let_go` does."""
        for data, place in list(self.places(plugin, pattern)):
            lock = self.locks[place.name]
            if lock.locked():
                continue  # somebody is about to have it
            async with lock:
                if not self.is_used(place):
                    unmount_below(place)
                    known = known_of(data)
                    if known is not None:
                        await let_go(place, known)
                    if place.exists():
                        place.rmdir()
                    data.unlink()


def known_of(data: Path) -> Obj | None:
    """What is written of a disk; None where a power failure has left the file empty: there is nothing to undo then."""
    try:
        known: Obj = json.loads(state_files.read(data))
    except FileNotFoundError:
        return None
    return known


async def mount_disk(device: str, place: Path, fs_type: str, options: list[str]) -> None:
    """Mount a disk, with a file system made if it has none; nothing happens where it is mounted. Raises VolumeError."""
    if is_mounted_at(place):
        return
    place.mkdir(parents=True, exist_ok=True, mode=0o750)
    fs_type = fs_type or _DEFAULT
    found = await _format_of(device)
    if not found:
        await _make(device, place, fs_type, options)
    elif "ro" not in options:
        await _check(device)
    try:
        await programs.mount(device, place, fs_type, [*options, "defaults"])
    except VolumeError as error:
        if found and found != fs_type:
            why = f'failed to mount the volume as "{fs_type}", it already contains {found}. Mount error: {error}'
            raise VolumeError(why) from error
        raise


async def _format_of(device: str) -> str:
    """What is on a disk, empty for nothing. Raises VolumeError."""
    try:
        told = await programs.run("blkid", "-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", device)
    except programs.ProgramError as error:
        if error.status == 2:
            return ""
        raise VolumeError(f"failed to get disk format of disk {device}: {error}") from error
    found = dict(line.split("=", 1) for line in told.splitlines() if "=" in line)
    return PARTITIONED if found.get("PTTYPE") else found.get("TYPE", "")


async def _make(device: str, place: Path, fs_type: str, options: list[str]) -> None:
    if "ro" in options:
        raise VolumeError(f"cannot mount unformatted disk {device} as we are manipulating it in read-only mode")
    try:
        await programs.run(f"mkfs.{fs_type}", *_MAKE.get(fs_type, ()), device)
    except programs.ProgramError as error:
        about = f'type:("{fs_type}") target:("{place}") options:("{",".join([*options, "defaults"])}")'
        why = f'format of disk "{device}" failed: {about} errcode:({error}) output:({error.output}) '
        raise VolumeError(why) from error


async def _check(device: str) -> None:
    try:
        await programs.run("fsck", "-a", device)
    except programs.ProgramError as error:
        if error.status == 4:
            why = f"'fsck' found errors on device {device} but could not correct them: {error.output}"
            raise VolumeError(why) from error


async def bind_disk(context: VolumeContext, plugin: str, name: str, place: Path, *, read_only: bool) -> Path:
    """Give a pod a disk that is mounted at `place`. Raises VolumeError."""
    target = context.directory(plugin, name)
    if mounted_below(target):
        return target
    try:
        target.mkdir(parents=True, exist_ok=True, mode=0o750)
        bind(str(place), target, read_only=read_only)
        if context.fs_group is not None and not read_only:
            changes = get_in(context.pod, "spec", "securityContext", "fsGroupChangePolicy")
            once = changes == "OnRootMismatch"
            await asyncio.to_thread(give_to_group, target, context.fs_group, only_on_mismatch=once)
    except OSError as error:
        raise VolumeError(os_error(error)) from error
    return target


def link_disk(context: VolumeContext, plugin: str, name: str, place: Path) -> None:
    """Note that a pod has a disk as a device. Raises VolumeError."""
    link = context.pods_dir / uid_of(context.pod) / DEVICES / f"kubernetes.io~{plugin}" / name
    try:
        link.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        link.unlink(missing_ok=True)
        link.symlink_to(place)
    except OSError as error:
        raise VolumeError(os_error(error), operation="MapVolume.MapPodDevice failed") from error


def is_mounted_at(place: Path) -> bool:
    return place in mounted_below(place)
