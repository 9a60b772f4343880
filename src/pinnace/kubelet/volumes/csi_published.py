"""What CSI drivers have published on this node: where it is, what is written down of it, and how it is undone.

What is published is written down before it is, so that a kubelet started anew can have it undone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.apis.storage import csi_names
from pinnace.cri.api import CriError
from pinnace.cri.trees import discard, remove
from pinnace.kubelet import state_files
from pinnace.kubelet.csi.drivers import CsiDrivers
from pinnace.kubelet.go_words import aggregate, rpc_error
from pinnace.kubelet.volumes.context import VolumeError
from pinnace.kubelet.volumes.csi_volume import CsiVolume
from pinnace.kubelet.volumes.mounts import mounted_below, unmount
from pinnace.machinery.meta import Obj

if TYPE_CHECKING:
    from pinnace.kubelet.csi.driver import Driver

PLUGIN = "csi"
PLUGIN_NAME = "kubernetes.io/csi"
DATA = "vol_data.json"


def driver_of(drivers: CsiDrivers, name: str, doing: str) -> Driver:
    """A driver that is registered. Raises VolumeError, which says what it was needed for."""
    found = drivers.get(name)
    if found is None:
        why = f"driver name {name} not found in the list of registered CSI drivers"
        raise VolumeError(f"{PLUGIN_NAME}: {doing}: {why}")
    return found


# Places.


def directory_of(pods_dir: Path, uid: str, name: str) -> Path:
    """What is known of a pod's volume."""
    return pods_dir / uid / "volumes" / f"kubernetes.io~{PLUGIN}" / name


def target_of(drivers: CsiDrivers, volume: CsiVolume, uid: str, pods_dir: Path) -> Path:
    """Where the driver shall publish the volume to the pod."""
    if volume.block:
        return drivers.volumes_dir / "volumeDevices" / "publish" / volume.name / uid
    return directory_of(pods_dir, uid, volume.name) / "mount"


def staging_of(drivers: CsiDrivers, volume: CsiVolume) -> Path:
    """Where the driver shall stage the volume for all pods of the node."""
    if volume.block:
        return drivers.volumes_dir / "volumeDevices" / "staging" / volume.name
    digest = hashlib.sha256(volume.handle.encode()).hexdigest()
    return drivers.volumes_dir / volume.driver / digest / "globalmount"


def is_filled(drivers: CsiDrivers, place: Path) -> bool:
    """Whether the driver has staged or published there."""
    return place in drivers.filled or bool(mounted_below(place))


# What is written down.


def data_of(drivers: CsiDrivers, pods_dir: Path, target: Path) -> Path:
    """Where it is written what was published at a path."""
    if target.is_relative_to(drivers.volumes_dir / "volumeDevices"):
        return directory_of(pods_dir, target.name, target.parent.name) / DATA
    return target.parent / DATA


def write_data(directory: Path, volume: CsiVolume, target: Path, staging: Path | None) -> Obj:
    """Write what undoing will need; that."""
    data = {
        "driverName": volume.driver,
        "volumeHandle": volume.handle,
        "specVolID": volume.name,
        "volumeLifecycleMode": "Ephemeral" if volume.inline else "Persistent",
        "targetPath": str(target),
        "stagingPath": "" if staging is None else str(staging),
    }
    state_files.write(directory / DATA, json.dumps(data).encode())
    return data


def published(pods_dir: Path, uid: str) -> Iterator[tuple[Path, Obj]]:
    """What was published to a pod: where that is written, and what."""
    for file in sorted((pods_dir / uid / "volumes" / f"kubernetes.io~{PLUGIN}").glob(f"*/{DATA}")):
        try:
            data = json.loads(state_files.read(file))
        except FileNotFoundError:
            continue  # empty after a power failure: nothing is mounted any more
        yield file, data


def adopt(drivers: CsiDrivers, pods_dir: Path) -> None:
    """What a predecessor of this kubelet left published is in use."""
    for pod in pods_dir.iterdir():
        for _, data in published(pods_dir, pod.name):
            if data["volumeLifecycleMode"] == "Persistent":
                drivers.use(csi_names.unique_name(data["driverName"], data["volumeHandle"]), pod.name)


# Undoing it.


def forget(pods_dir: Path, file: Path, data: Obj) -> None:
    """The driver has done nothing of what is written in `file`: there is nothing to undo."""
    with suppress(OSError):  # what a driver left there is no reason to hide what it said
        if not is_used(pods_dir, data, but=file):
            _remove_staging(Path(data["stagingPath"]))
    remove(file.parent)


async def tear_down(drivers: CsiDrivers, pods_dir: Path, uid: str) -> None:
    """Have everything of a pod unpublished, and unstaged what no other pod has. Raises VolumeError: try again."""
    errors: list[str] = []
    for file, data in list(published(pods_dir, uid)):
        unique_name = csi_names.unique_name(data["driverName"], data["volumeHandle"])
        try:
            async with drivers.locks[unique_name]:
                await _undo(drivers, pods_dir, file, data)
        except CriError as error:
            errors.append(rpc_error(error))
        except (OSError, VolumeError) as error:
            errors.append(str(error))
        if not is_used(pods_dir, data):
            drivers.locks.pop(unique_name, None)
    left = (data for _, data in published(pods_dir, uid))
    drivers.release(uid, {csi_names.unique_name(data["driverName"], data["volumeHandle"]) for data in left})
    if errors:
        raise VolumeError(aggregate(errors))


async def _undo(drivers: CsiDrivers, pods_dir: Path, file: Path, data: Obj) -> None:
    driver = driver_of(drivers, data["driverName"], "unmounter failed to get CSI client")
    target = Path(data["targetPath"])
    await driver.call("NodeUnpublishVolume", volume_id=data["volumeHandle"], target_path=str(target))
    drivers.filled.discard(target)
    _remove(target)
    staging = Path(data["stagingPath"]) if data["stagingPath"] else None
    if staging is not None and not is_used(pods_dir, data, but=file):
        await driver.call("NodeUnstageVolume", volume_id=data["volumeHandle"], staging_target_path=str(staging))
        drivers.filled.discard(staging)
        _remove_staging(staging)
    remove(file.parent)


def _remove_staging(staging: Path) -> None:
    _remove(staging)
    if staging.name == "globalmount":
        discard(staging.parent)


def _remove(path: Path) -> None:
    """What a driver has unmounted and left."""
    for point in mounted_below(path):
        unmount(point)
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def is_used(pods_dir: Path, data: Obj, but: Path | None = None) -> bool:
    """Whether a pod has the volume of a driver, or another place than `but` in the same pod."""
    return any(
        (other["driverName"], other["volumeHandle"]) == (data["driverName"], data["volumeHandle"])
        for pod in pods_dir.iterdir()
        for file, other in published(pods_dir, pod.name)
        if file != but
    )
