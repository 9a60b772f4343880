"""Kinds of volumes that clouds' CSI drivers took over: what is told where there is no such driver.

Their sources are not translated for a driver that is there: its own persistent volumes are to be used.
https://kubernetes.io/docs/concepts/storage/volumes/#csi-migration.
"""

from __future__ import annotations

from pathlib import Path

from pinnace.kubelet.volumes import csi_published
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.machinery.meta import Obj

DRIVERS = {
    "awsElasticBlockStore": "ebs.csi.aws.com",
    "azureDisk": "disk.csi.azure.com",
    "azureFile": "file.csi.azure.com",
    "cinder": "cinder.csi.openstack.org",
    "gcePersistentDisk": "pd.csi.storage.gke.io",
    "portworxVolume": "pxd.portworx.com",
    "vsphereVolume": "csi.vsphere.vmware.com",
}


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    """One that the pod names itself. Raises VolumeError."""
    return _refuse(context, next(DRIVERS[kind] for kind in DRIVERS if volume.get(kind)))


async def set_up_persistent(context: VolumeContext, _volume: Obj, persistent: Obj) -> Path:
    """Raises VolumeError."""
    return _refuse(context, next(DRIVERS[kind] for kind in DRIVERS if persistent["spec"].get(kind)))


def _refuse(context: VolumeContext, driver: str) -> Path:
    try:
        csi_published.driver_of(context.csi, driver, "attacher.MountDevice failed to create newCsiDriverClient")
    except VolumeError as error:
        raise VolumeError(str(error), operation="MountVolume.MountDevice failed") from None
    raise VolumeError(
        f"name the volume as one of the CSI driver {driver}: sources of the kind before it are not translated"
    )
