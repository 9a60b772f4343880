"""`fc` volumes: disks of Fibre Channel (https://kubernetes.io/docs/concepts/storage/volumes/#fc)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pinnace.kubelet.go_words import os_error
from pinnace.kubelet.volumes import disks
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.scsi_devices import Devices
from pinnace.machinery.meta import Obj, name_of

PLUGIN = "fc"


def place_of(source: Obj) -> str:
    """Where the disk is, below the plugin's directory."""
    if source.get("targetWWNs"):
        return f"{'-'.join(source['targetWWNs'])}-lun-{source.get('lun') or 0}"
    return "-".join(source["wwids"])


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    """One that the pod names itself."""
    source = volume["fc"]
    return await _mount(context, volume["name"], source, [], read_only=bool(source.get("readOnly")))


async def set_up_persistent(context: VolumeContext, volume: Obj, persistent: Obj) -> Path:
    """A file system on the disk, or the disk itself."""
    spec, name = persistent["spec"], name_of(persistent)
    if spec.get("volumeMode") == "Block":
        return await _map(context, name, spec["fc"])
    read_only = bool((volume.get("persistentVolumeClaim") or {}).get("readOnly"))
    return await _mount(context, name, spec["fc"], list(spec.get("mountOptions") or ()), read_only=read_only)


async def _mount(context: VolumeContext, name: str, source: Obj, options: list[str], *, read_only: bool) -> Path:
    node = context.disks
    place = node.plugins_dir / PLUGIN / place_of(source)
    async with node.locks[place.name]:
        if not disks.is_mounted_at(place):
            device = await _attach(node, source, place)
            try:
                chosen = [*(["ro"] if read_only else []), *options]
                await disks.mount_disk(device, place, source.get("fsType") or "", chosen)
            except (VolumeError, OSError) as error:
                raise VolumeError(os_error(error), operation="MountVolume.MountDevice failed") from error
        return await disks.bind_disk(context, PLUGIN, name, place, read_only=read_only)


async def _map(context: VolumeContext, name: str, source: Obj) -> Path:
    node = context.disks
    place = node.plugins_dir / PLUGIN / disks.DEVICES / place_of(source)
    async with node.locks[place.name]:
        device = Path(await _attach(node, source, place))
        disks.link_disk(context, PLUGIN, name, place)
    return device


async def _attach(node: disks.Disks, source: Obj, place: Path) -> str:
    """The disk's device file, a multipath one where there is one. Raises VolumeError."""
    try:
        found = _find(node.devices, source)
        mapped = await node.devices.multipath(found, 0)
        if not mapped:
            await asyncio.to_thread(node.devices.rescan)
            found = _find(node.devices, source)
            mapped = await node.devices.multipath(found, 0)
        if not found:
            raise VolumeError("no fc disk found", operation="MountVolume.WaitForAttach failed")
        node.write(place, {"devices": found})
    except OSError as error:
        raise VolumeError(os_error(error), operation="MountVolume.WaitForAttach failed") from error
    return mapped or found[0]


def _find(devices: Devices, source: Obj) -> list[str]:
    if source.get("targetWWNs"):
        return devices.fibre_channel(source["targetWWNs"], int(source.get("lun") or 0))
    return devices.identified(source.get("wwids") or ())


async def release(node: disks.Disks) -> None:
    """Unmount the disks that no pod has any more, and have the kernel forget them. Raises OSError."""

    async def let_go(_place: Path, known: Obj) -> None:
        for device in known["devices"]:
            await asyncio.to_thread(node.devices.forget, device)

    await node.release(PLUGIN, "*.json", let_go)
