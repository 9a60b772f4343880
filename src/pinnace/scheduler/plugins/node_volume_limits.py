"""Keeps to the number of volumes that a CSI driver can attach to a node, as the node's CSINode says.

Specified by https://kubernetes.io/docs/concepts/storage/storage-limits/.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.apis.core.volume_binding import class_of
from pinnace.apis.resources import CSI_NODES, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, STORAGE_CLASSES
from pinnace.machinery.meta import get_in
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.framework import Rejection, Scope
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo, PodShape

_TOO_MANY = Rejection(("node(s) exceed max volume count",))


class NodeVolumeLimits:
    name = "NodeVolumeLimits"
    scope = Scope.PODS

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def events_to_register(self) -> list[Hint]:
        return [
            Hint("Pod", Action.DELETE, _has_volumes),
            Hint("CSINode", Action.ADD | Action.UPDATE),
            Hint("PersistentVolumeClaim", Action.ADD | Action.UPDATE),
            Hint("Node", Action.ADD),
        ]

    def concerns(self, shape: PodShape) -> bool:
        return bool(shape.claims)

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None:
        limits = self._limits(node.name)
        if not limits:
            return None
        wanted = self._volumes(shape.claims)
        if not any(driver in limits for driver, _ in wanted):
            return None
        attached = self._volumes(key for pod in node.pods.values() for key in pod.shape.claims)
        for driver, limit in limits.items():
            new = sum(one[0] == driver for one in wanted - attached)
            if new and sum(one[0] == driver for one in attached) + new > limit:
                return _TOO_MANY
        return None

    def _limits(self, node_name: str) -> dict[str, int]:
        """How many volumes of each driver the node takes."""
        csi_node = self._handle.objects(CSI_NODES).get(node_name)
        drivers = get_in(csi_node, "spec", "drivers") if csi_node is not None else None
        counts = {driver["name"]: get_in(driver, "allocatable", "count") for driver in drivers or ()}
        return {name: count for name, count in counts.items() if count is not None}

    def _volumes(self, claims: Iterable[str]) -> set[tuple[str, str]]:
        """Driver and handle of each volume, once; a claim without a volume yet stands for one of its own."""
        found = set()
        for key in claims:
            claim = self._handle.objects(PERSISTENT_VOLUME_CLAIMS).get(key)
            if claim is None:
                continue
            volume = self._handle.objects(PERSISTENT_VOLUMES).get(get_in(claim, "spec", "volumeName") or "")
            if volume is not None:
                source = get_in(volume, "spec", "csi")
                if source:
                    found.add((source["driver"], source["volumeHandle"]))
                continue
            storage_class = self._handle.objects(STORAGE_CLASSES).get(class_of(claim))
            if storage_class is not None:
                found.add((storage_class.get("provisioner", ""), f"claim {key}"))
        return found


def _has_volumes(pod: PodInfo, change: Change) -> bool:  # noqa: ARG001
    gone: PodInfo = change.subject
    return bool(gone.shape.claims)
