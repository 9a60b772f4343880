"""`persistentVolumeClaim` and `ephemeral` volumes whose claim is bound: to hostPath, local or a CSI driver's volume.

Specified by https://kubernetes.io/docs/concepts/storage/persistent-volumes/.
"""

from __future__ import annotations

from pathlib import Path

from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from pinnace.kubelet.pods import all_containers
from pinnace.kubelet.volumes import csi
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.host_path import check_host_path
from pinnace.kubelet.volumes.ownership import give_to_group
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, name_of, namespace_of


def claim_name(pod: Obj, volume: Obj) -> str:
    """The claim that a volume means: its own, for an ephemeral volume."""
    if volume.get("ephemeral"):
        return f"{name_of(pod)}-{volume['name']}"
    name: str = volume["persistentVolumeClaim"]["claimName"]
    return name


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    namespace, name = namespace_of(context.pod), claim_name(context.pod, volume)
    try:
        claim = await context.client.get(PERSISTENT_VOLUME_CLAIMS, name, namespace)
        bound = get_in(claim, "spec", "volumeName")
        if get_in(claim, "status", "phase") != "Bound" or not bound:
            raise VolumeError("PVC is not bound")
        persistent = await context.client.get(PERSISTENT_VOLUMES, bound)
    except ApiError as error:
        raise VolumeError(f"failed to fetch PVC from API server: {error.message}") from error
    mode = persistent["spec"].get("volumeMode") or "Filesystem"
    wanted, field = ("Block", "volumeDevices") if _is_device(context.pod, volume) else ("Filesystem", "volumeMounts")
    if mode != wanted:
        raise VolumeError(f"volume {volume['name']} has volumeMode {mode}, but is specified in {field}")
    if persistent["spec"].get("csi"):
        return await csi.set_up_persistent(context, volume, claim, persistent)
    path = _path(persistent)
    if mode == "Block":
        return path
    group = context.fs_group
    if group is not None and persistent["spec"].get("local"):
        policy = get_in(context.pod, "spec", "securityContext", "fsGroupChangePolicy")
        try:
            give_to_group(path, group, only_on_mismatch=policy == "OnRootMismatch")
        except OSError as error:
            raise VolumeError(f"applyFSGroup failed for vol {name_of(persistent)}: {error}") from error
    return path


def _is_device(pod: Obj, volume: Obj) -> bool:
    return any(
        device["name"] == volume["name"]
        for container in all_containers(pod)
        for device in container.get("volumeDevices") or ()
    )


def _path(persistent: Obj) -> Path:
    spec = persistent["spec"]
    if spec.get("hostPath"):
        return check_host_path(spec["hostPath"])
    if spec.get("local"):
        path = Path(spec["local"]["path"])
        if not path.exists():
            raise VolumeError(f'path "{path}" does not exist')
        return path
    raise VolumeError(f'no volume plugin matched for persistent volume "{name_of(persistent)}"')
