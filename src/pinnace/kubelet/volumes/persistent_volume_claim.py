"""`persistentVolumeClaim` and `ephemeral` volumes whose claim is bound: what the persistent volume is, made ready.

Specified by https://kubernetes.io/docs/concepts/storage/persistent-volumes/.
"""

from __future__ import annotations

from pathlib import Path

from pinnace.apis.core.node_selection import node_selector_matches
from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from pinnace.kubelet.pods import all_containers
from pinnace.kubelet.statistics.volume_measures import plugin_of
from pinnace.kubelet.volumes import csi, csi_expansion, csi_volume, rare
from pinnace.kubelet.volumes.context import UnprocessedError, VolumeContext, VolumeError
from pinnace.kubelet.volumes.host_path import check_host_path
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, is_deleting, labels_of, name_of, namespace_of, uid_of


def claim_name(pod: Obj, volume: Obj) -> str:
    """The claim that a volume means: its own, for an ephemeral volume."""
    if volume.get("ephemeral"):
        return f"{name_of(pod)}-{volume['name']}"
    name: str = volume["persistentVolumeClaim"]["claimName"]
    return name


async def set_up(context: VolumeContext, volume: Obj) -> Path:
    claim = await _claim(context, volume)
    persistent = await _persistent(context, claim)
    context.plugins[volume["name"]] = plugin_of(persistent["spec"])
    _check_mode(context.pod, volume, persistent)
    block = is_block(persistent)
    try:
        _check_affinity(context, persistent)
        return await _make(context, volume, claim, persistent)
    except UnprocessedError:
        raise
    except VolumeError as error:
        error.volume = name_of(persistent)
        if block and error.operation == "MountVolume.SetUp failed":
            error.operation = "MapVolume.MapPodDevice failed"
        raise


def is_block(persistent: Obj) -> bool:
    return bool(persistent["spec"].get("volumeMode") == "Block")


# What the volume is.


async def _claim(context: VolumeContext, volume: Obj) -> Obj:
    """The volume's claim, which is bound. Raises UnprocessedError."""
    pod = context.pod
    namespace, name = namespace_of(pod), claim_name(pod, volume)
    try:
        claim = await context.client.get(PERSISTENT_VOLUME_CLAIMS, name, namespace)
        why = claim_problem(claim, pod, ephemeral=bool(volume.get("ephemeral")))
    except ApiError as error:
        why = f"failed to fetch PVC from API server: {error.message}"
    if why:
        raise UnprocessedError(f"error processing PVC {namespace}/{name}: {why}")
    return claim


def claim_problem(claim: Obj, pod: Obj, *, ephemeral: bool) -> str:
    """Why a claim cannot be used by a pod, empty where it can."""
    if is_deleting(claim):
        return "PVC is being deleted"
    if get_in(claim, "status", "phase") != "Bound":
        return "PVC is not bound"
    if not get_in(claim, "spec", "volumeName"):
        return "PVC has empty pvc.Spec.VolumeName"
    owners = claim["metadata"].get("ownerReferences") or ()
    if ephemeral and not any(one.get("controller") and one.get("uid") == uid_of(pod) for one in owners):
        of, wants = (f"{namespace_of(one)}/{name_of(one)}" for one in (claim, pod))
        return f"PVC {of} was not created for pod {wants} (pod is not owner)"
    return ""


async def _persistent(context: VolumeContext, claim: Obj) -> Obj:
    """The volume that a claim is bound to. Raises UnprocessedError."""
    name = claim["spec"]["volumeName"]
    try:
        persistent = await context.client.get(PERSISTENT_VOLUMES, name)
    except ApiError as error:
        why = f"failed to fetch PV {name} from API server: {error.message}"
    else:
        why = binding_problem(persistent, claim)
    if why:
        raise UnprocessedError(f"error processing PVC {namespace_of(claim)}/{name_of(claim)}: {why}")
    return persistent


def binding_problem(persistent: Obj, claim: Obj) -> str:
    """Why a volume is not the claim's, though that says so; empty where it is."""
    reference, found = get_in(persistent, "spec", "claimRef"), f"found PV object {name_of(persistent)} but"
    if not reference:
        return f"{found} it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim"
    if reference.get("uid") != uid_of(claim):
        uid = reference.get("uid") or ""
        return f"{found} its pv.Spec.ClaimRef.UID {uid} does not point to claim.UID {uid_of(claim)}"
    return ""


def _check_mode(pod: Obj, volume: Obj, persistent: Obj) -> None:
    """Containers use a volume as what it is. Raises UnprocessedError."""
    mode = persistent["spec"].get("volumeMode") or "Filesystem"
    name = volume["name"]
    for field, fits in (("volumeMounts", "Filesystem"), ("volumeDevices", "Block")):
        used = any(one["name"] == name for container in all_containers(pod) for one in container.get(field) or ())
        if used and mode != fits:
            raise UnprocessedError(f"volume {name} has volumeMode {mode}, but is specified in {field}")


def _check_affinity(context: VolumeContext, persistent: Obj) -> None:
    """The volume must be within reach of this node. Raises VolumeError."""
    required = get_in(persistent, "spec", "nodeAffinity", "required")
    node = context.node()
    if not required or node is None:
        return
    if not node_selector_matches({}, required["nodeSelectorTerms"], name_of(node), labels_of(node)):
        operation = ("MapVolume" if is_block(persistent) else "MountVolume") + ".NodeAffinity check failed"
        raise VolumeError("no matching NodeSelectorTerms", operation=operation)


# Making it ready.


async def _make(context: VolumeContext, volume: Obj, claim: Obj, persistent: Obj) -> Path:
    spec = persistent["spec"]
    if spec.get("mountOptions") and (spec.get("hostPath") or spec.get("flexVolume")):
        operation = "MountVolume.MountOptionSupport check failed"
        raise VolumeError("mount options are not supported for this volume type", operation=operation)
    if spec.get("csi"):
        return await _make_csi(context, csi_volume.of_persistent(persistent, volume), claim, persistent)
    if spec.get("hostPath"):
        return check_host_path(spec["hostPath"])
    for kind, set_up_kind in rare.PERSISTENT.items():
        if spec.get(kind):
            return await set_up_kind(context, volume, persistent)
    name = name_of(persistent)
    raise UnprocessedError(f'failed to get Plugin from volumeSpec for volume "{name}" err=no volume plugin matched')


async def _make_csi(context: VolumeContext, volume: csi_volume.CsiVolume, claim: Obj, persistent: Obj) -> Path:
    mounted = csi.is_published(context, volume)
    path = await csi.set_up_persistent(context, volume)
    await csi_expansion.expand(context, volume, claim, persistent, path, mounted=mounted)
    return path
