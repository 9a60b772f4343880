"""Keeps pods apart that may not share a volume: claims with ReadWriteOncePod, and disks that only one may write to.

Specified by https://kubernetes.io/docs/concepts/storage/persistent-volumes/#access-modes.
"""

from __future__ import annotations

from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS
from pinnace.machinery.meta import Obj, get_in, key_of
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.framework import Rejection, Scope
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import Disk, PodInfo, PodShape

_DISK_TAKEN = Rejection(("node(s) had no available disk",))
_CLAIM_TAKEN = Rejection(
    ("node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",)
)


class VolumeRestrictions:
    name = "VolumeRestrictions"
    scope = Scope.PODS

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def events_to_register(self) -> list[Hint]:
        return [
            Hint("Pod", Action.DELETE, _frees_a_volume),
            Hint("PersistentVolumeClaim", Action.ADD | Action.UPDATE, _is_used),
            Hint("Node", Action.ADD),
        ]

    def concerns(self, shape: PodShape) -> bool:
        return bool(shape.disks or shape.claims)

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None:
        if shape.disks and any(
            conflicts(mine, theirs)
            for pod in node.pods.values()
            for theirs in pod.shape.disks
            for mine in shape.disks
        ):  # fmt: skip
            return _DISK_TAKEN
        users = self._handle.cache.claim_users if shape.claims else {}
        return _CLAIM_TAKEN if any(users.get(key) and self._is_exclusive(key) for key in shape.claims) else None

    def _is_exclusive(self, key: str) -> bool:
        claim = self._handle.objects(PERSISTENT_VOLUME_CLAIMS).get(key)
        return claim is not None and "ReadWriteOncePod" in (get_in(claim, "spec", "accessModes") or ())


def conflicts(one: Disk, other: Disk) -> bool:
    """Whether two pods on one node would get in each other's way by these volumes."""
    if one.kind != other.kind:
        return False
    mine, theirs = one.source, other.source
    match one.kind:
        case "awsElasticBlockStore":
            return bool(mine.get("volumeID") == theirs.get("volumeID"))
        case "gcePersistentDisk":
            same = mine.get("pdName") == theirs.get("pdName")
        case "iscsi":
            same = mine.get("iqn") == theirs.get("iqn")
        case _:
            same = _is_same_image(mine, theirs)
    return same and not (mine.get("readOnly") and theirs.get("readOnly"))


def _is_same_image(mine: Obj, theirs: Obj) -> bool:
    """Whether two rbd volumes are one: a common monitor, the same pool and image."""
    monitors = set(mine.get("monitors") or ()) & set(theirs.get("monitors") or ())
    pools = mine.get("pool", "rbd"), theirs.get("pool", "rbd")
    return bool(monitors) and pools[0] == pools[1] and mine.get("image") == theirs.get("image")


def _is_used(pod: PodInfo, change: Change) -> bool:
    return key_of(change.subject) in pod.shape.claims


def _frees_a_volume(pod: PodInfo, change: Change) -> bool:
    gone: PodInfo = change.subject
    return not set(gone.shape.claims).isdisjoint(pod.shape.claims) or any(
        conflicts(mine, theirs) for mine in pod.shape.disks for theirs in gone.shape.disks
    )
