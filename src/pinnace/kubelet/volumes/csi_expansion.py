"""Volumes that have grown while a driver had them, or before: what is on them is grown on the node, and the claim told.

Specified by https://kubernetes.io/docs/concepts/storage/persistent-volumes/#expanding-persistent-volumes-claims and
KEP-1790 (recovery from failed expansions).
"""

from __future__ import annotations

from pathlib import Path

from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS
from pinnace.cri.api import CriError
from pinnace.kubelet.go_words import rpc_error
from pinnace.kubelet.volumes import csi_published as places
from pinnace.kubelet.volumes.context import VolumeContext, VolumeError
from pinnace.kubelet.volumes.csi import secrets_of
from pinnace.kubelet.volumes.csi_volume import EXPAND_VOLUME, CsiVolume, capability
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of, format_time, get_in, name_of, namespace_of, utc_now
from pinnace.machinery.quantity import Quantity

_PENDING, _IN_PROGRESS, _INFEASIBLE = "NodeResizePending", "NodeResizeInProgress", "NodeResizeInfeasible"
_ERROR = "NodeResizeError"  # a condition's type
_ABOUT_RESIZING = ("Resizing", "FileSystemResizePending", "ControllerResizeError", _ERROR)
_UNFINISHED = ("CANCELLED", "DEADLINE_EXCEEDED", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "ABORTED")  # may yet succeed
_IMPOSSIBLE = ("INVALID_ARGUMENT", "OUT_OF_RANGE", "NOT_FOUND")
_NOT_ON_NODES = "volume.kubernetes.io/node-expansion-not-required"
_EXPANDER = "Expander.NodeExpand failed to expand the volume"

# Decisions.


def is_due(claim: Obj, size: str) -> bool:
    """Whether the node is to grow what is on a volume of this size."""
    before = get_in(claim, "status", "capacity", "storage")
    if not size or not before or Quantity.parse(size) <= Quantity.parse(before):
        return False
    stage = _stage_of(claim)
    if not stage:  # resizers that know nothing of stages leave both fields alone
        return get_in(claim, "status", "allocatedResources", "storage") is None
    return stage in (_PENDING, _IN_PROGRESS)


def grew_elsewhere(claim: Obj, size: str, known: str) -> bool:
    """Whether another node has grown a volume of many nodes, `known` to have been smaller when it was mounted here."""
    if not size or not known or Quantity.parse(size) <= Quantity.parse(known) or _stage_of(claim):
        return False
    many = "ReadWriteMany" in (get_in(claim, "spec", "accessModes") or ())
    has = Quantity.parse(get_in(claim, "status", "capacity", "storage") or "0")
    return many and has >= Quantity.parse(size) and _NOT_ON_NODES not in annotations_of(claim)


def begun(claim: Obj) -> Obj | None:
    """The patch of a claim's status when the node begins; None for none."""
    return (
        {"status": {"allocatedResourceStatuses": {"storage": _IN_PROGRESS}}} if _stage_of(claim) == _PENDING else None
    )


def grown(claim: Obj, size: str) -> Obj:
    """The patch when what is on the volume fills it."""
    status: Obj = {"capacity": {"storage": size}, "conditions": _replaced(claim, _ABOUT_RESIZING)}
    if _stage_of(claim):
        status["allocatedResourceStatuses"] = {"storage": None}
    return {"status": status}


def failed(claim: Obj, error: CriError, now: str) -> Obj | None:
    """The patch when the driver said that it cannot; None where it may still be at it, or the resizer is an old one."""
    if error.code in _UNFINISHED or not _stage_of(claim):
        return None
    why = f"failed to expand pvc with {_EXPANDER} : {rpc_error(error)}"
    condition = {"type": _ERROR, "status": "True", "lastTransitionTime": now, "message": why}
    for one in get_in(claim, "status", "conditions") or ():
        if one["type"] == _ERROR and one.get("message") == why:
            condition = one  # told already
    status: Obj = {"conditions": [*(_replaced(claim, (_ERROR,)) or ()), condition]}
    if error.code in _IMPOSSIBLE:
        status["allocatedResourceStatuses"] = {"storage": _INFEASIBLE}
    return {"status": status}


def _stage_of(claim: Obj) -> str:
    return str(get_in(claim, "status", "allocatedResourceStatuses", "storage") or "")


def _replaced(claim: Obj, types: tuple[str, ...]) -> list[Obj] | None:
    """A claim's conditions without those of some types."""
    return [one for one in get_in(claim, "status", "conditions") or () if one["type"] not in types] or None


# Doing it.


async def expand(
    context: VolumeContext, volume: CsiVolume, claim: Obj, persistent: Obj, path: Path, *, mounted: bool
) -> None:
    """Have the driver grow what is on a volume that has grown; `mounted`: since before. Raises VolumeError."""
    size = get_in(persistent, "spec", "capacity", "storage") or ""
    known = context.csi.sizes.setdefault(volume.unique_name, size)
    elsewhere = grew_elsewhere(claim, size, known)
    if not (is_due(claim, size) or elsewhere) or volume.unique_name in context.csi.not_while_mounted:
        return
    if volume.read_only:
        context.csi.not_while_mounted.add(volume.unique_name)
        why = f'MountVolume.NodeExpandVolume failed for volume "{volume.name}" requested read-only file system'
        _tell(context, claim, "Warning", "FileSystemResizeFailed", why)
        return
    operation = (
        "NodeExpandVolume.NodeExpandVolume failed" if mounted else "MountVolume.Setup failed while expanding volume"
    )
    try:
        await _expand(context, volume, None if elsewhere else claim, size, path)
        context.csi.sizes[volume.unique_name] = size
        succeeded = f'MountVolume.NodeExpandVolume succeeded for volume "{volume.name}" {context.csi.node_name}'
        _tell(context, claim, "Normal", "FileSystemResizeSuccessful", succeeded)
    except VolumeError as error:
        error.operation = operation
        raise
    except CriError as error:
        if error.code == "FAILED_PRECONDITION":  # to be grown when it is mounted the next time
            context.csi.not_while_mounted.add(volume.unique_name)
            return
        raise VolumeError(f"{_EXPANDER} : {rpc_error(error)}", operation=operation) from error
    except ApiError as error:
        raise VolumeError(
            f"mountVolume.NodeExpandVolume update pvc status failed: {error}", operation=operation
        ) from error


async def _expand(context: VolumeContext, volume: CsiVolume, claim: Obj | None, size: str, path: Path) -> None:
    """The claim is told of it, but for None."""
    driver = places.driver_of(context.csi, volume.driver, "failed to get CSI client")
    can = await driver.capabilities()
    if EXPAND_VOLUME not in can:
        name = f"{places.PLUGIN_NAME}/{volume.driver}"
        raise VolumeError(f"Expander.NodeExpand found CSI plugin {name} to not support node expansion")
    if claim is not None and (patch := begun(claim)):
        claim = await _patch(context, claim, patch)
    staging = places.staging_of(context.csi, volume)
    try:
        await driver.call(
            "NodeExpandVolume",
            volume_id=volume.handle,
            volume_path=str(path),
            capacity_range={"required_bytes": Quantity.parse(size).value()},
            staging_target_path=str(staging) if staging.exists() else "",
            volume_capability=capability(volume, can),
            secrets=await secrets_of(context, volume, "NodeExpand"),
        )
    except CriError as error:
        if claim is not None and (patch := failed(claim, error, format_time(utc_now()))):
            await _patch(context, claim, patch)
        raise
    if claim is not None:
        await _patch(context, claim, grown(claim, size))


async def _patch(context: VolumeContext, claim: Obj, patch: Obj) -> Obj:
    name, namespace = name_of(claim), namespace_of(claim)
    return await context.client.patch(PERSISTENT_VOLUME_CLAIMS, name, patch, namespace, subresource="status")


def _tell(context: VolumeContext, claim: Obj, kind: str, reason: str, message: str) -> None:
    """An event about the pod and about the claim."""
    for about in (context.pod, claim):
        context.tell(about, kind, reason, message)
