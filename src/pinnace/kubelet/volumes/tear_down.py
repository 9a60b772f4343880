"""Takes a pod's volumes down: what drivers published, network file systems, mounts, and disks that nobody has any more.

Nothing is remembered but on disk, so it works for pods of a kubelet that came before.
"""

from __future__ import annotations

from pinnace.cri.trees import remove
from pinnace.kubelet.csi.drivers import CsiDrivers
from pinnace.kubelet.volumes import csi_published, rare
from pinnace.kubelet.volumes.disks import DEVICES, Disks
from pinnace.kubelet.volumes.mounts import unmount_below


async def unmount_volumes(drivers: CsiDrivers, disks: Disks, uid: str) -> None:
    """Undo the mounts of a pod that has ended and remove what is left of its volumes: what it wrote to them takes room.

    Its directory stays. Raises OSError, VolumeError: try again.
    """
    pods_dir = disks.pods_dir
    await csi_published.tear_down(drivers, pods_dir, uid)
    await rare.tear_down(disks, uid)
    unmount_below(pods_dir / uid)
    for name in ("volumes", "volume-subpaths", DEVICES):
        if (pods_dir / uid / name).exists():
            remove(pods_dir / uid / name)
    await rare.release(disks)


async def remove_volumes(drivers: CsiDrivers, disks: Disks, uid: str) -> None:
    """Undo the mounts of a pod and remove its directory; hostPath's own contents stay. Raises OSError, VolumeError."""
    await unmount_volumes(drivers, disks, uid)
    pod_dir = disks.pods_dir / uid
    if pod_dir.exists():
        remove(pod_dir)
        await rare.release(disks)
