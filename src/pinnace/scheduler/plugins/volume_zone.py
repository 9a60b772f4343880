"""Sends pods into the zones and regions that the labels of their volumes name.

Specified by https://kubernetes.io/docs/reference/labels-annotations-taints/#topologykubernetesiozone.
"""

from __future__ import annotations

from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES
from pinnace.machinery.meta import get_in, key_of, labels_of
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.framework import Rejection, Scope
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo, PodShape

_ELSEWHERE = Rejection(("node(s) had no available volume zone",), resolvable=False)
_NAMES = {  # each label and the other name that nodes may have it under
    "topology.kubernetes.io/zone": "failure-domain.beta.kubernetes.io/zone",
    "topology.kubernetes.io/region": "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
}


class VolumeZone:
    name = "VolumeZone"
    scope = Scope.NODE

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    def events_to_register(self) -> list[Hint]:
        changed = Action.ADD | Action.UPDATE
        return [
            Hint("PersistentVolumeClaim", changed, _is_used),
            Hint("PersistentVolume", changed),
            Hint("Node", Action.ADD | Action.UPDATE_LABEL),
        ]

    def concerns(self, shape: PodShape) -> bool:
        return bool(shape.claims)

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None:
        if not any(name in node.labels for name in _NAMES):
            return None
        for label, domains in self._wanted(shape):
            if node.labels.get(label, node.labels.get(_NAMES[label])) not in domains:
                return _ELSEWHERE
        return None

    def _wanted(self, shape: PodShape) -> list[tuple[str, frozenset[str]]]:
        """What the volumes of the pod's claims say: a label, and the domains that will do (`a__b` is two)."""
        found = []
        for key in shape.claims:
            claim = self._handle.objects(PERSISTENT_VOLUME_CLAIMS).get(key)
            name = get_in(claim, "spec", "volumeName") if claim is not None else None
            volume = self._handle.objects(PERSISTENT_VOLUMES).get(name) if name else None
            if volume is not None:
                labels = labels_of(volume)
                found += [(label, frozenset(labels[label].split("__"))) for label in _NAMES if label in labels]
        return found


def _is_used(pod: PodInfo, change: Change) -> bool:
    return key_of(change.subject) in pod.shape.claims
