"""Kinds of volumes that few pods have: their modules are imported with the first one, not when a kubelet starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib import import_module
from pathlib import Path

from pinnace.kubelet.volumes.context import SetUp, VolumeContext
from pinnace.kubelet.volumes.disks import Disks
from pinnace.machinery.meta import Obj

SetUpPersistent = Callable[[VolumeContext, Obj, Obj], Awaitable[Path]]
"""Of the pod's volume and the persistent volume that it means."""

_MODULES = {
    "nfs": "nfs",
    "iscsi": "iscsi",
    "fc": "fc",
    "flexVolume": "flex_volume",
    "awsElasticBlockStore": "migrated",
    "azureDisk": "migrated",
    "azureFile": "migrated",
    "cinder": "migrated",
    "gcePersistentDisk": "migrated",
    "portworxVolume": "migrated",
    "vsphereVolume": "migrated",
}


def _inline(module: str) -> SetUp:
    async def set_up(context: VolumeContext, volume: Obj) -> Path:
        return Path(await import_module(f"{__package__}.{module}").set_up(context, volume))

    return set_up


def _persistent(module: str) -> SetUpPersistent:
    async def set_up(context: VolumeContext, volume: Obj, persistent: Obj) -> Path:
        made = import_module(f"{__package__}.{module}").set_up_persistent(context, volume, persistent)
        return Path(await made)

    return set_up


INLINE = {kind: _inline(module) for kind, module in _MODULES.items()}
PERSISTENT = {kind: _persistent(module) for kind, module in {"local": "local", **_MODULES}.items()}


async def tear_down(disks: Disks, uid: str) -> None:
    """Have a pod's unmounted by what mounted them. Raises OSError, VolumeError: try again."""
    volumes = disks.pods_dir / uid / "volumes"
    if (volumes / "kubernetes.io~nfs").exists():
        from pinnace.kubelet.volumes import nfs

        await nfs.tear_down(disks.pods_dir, uid)
    if any(not found.name.startswith("kubernetes.io~") for found in volumes.glob("*~*")):
        from pinnace.kubelet.volumes import flex_volume

        await flex_volume.tear_down(disks, uid)


async def release(disks: Disks) -> None:
    """Let go of the disks that no pod has any more. Raises OSError, VolumeError: try again."""
    for plugin, module in (("local-volume", "local"), ("iscsi", "iscsi"), ("fc", "fc"), ("flexvolume", "flex_volume")):
        if (disks.plugins_dir / plugin).exists():
            await import_module(f"{__package__}.{module}").release(disks)
