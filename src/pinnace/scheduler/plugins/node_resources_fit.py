"""Whether what a pod requests is free on a node; scores nodes by how much would stay free (LeastAllocated).

Specified by https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#how-pods-with-resource-requests-are-scheduled.
"""

from __future__ import annotations

from pinnace.scheduler.cache import Cache
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.framework import MAX_SCORE, Normalization, Rejection, Scope
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo, PodShape

SCORED = ("cpu", "memory")


class NodeResourcesFit:
    name = "NodeResourcesFit"
    scope = Scope.PODS
    weight = 1
    normalization = Normalization.NONE

    def events_to_register(self) -> list[Hint]:
        return [
            Hint("Pod", Action.DELETE | Action.UPDATE_SCALE_DOWN),
            Hint("Node", Action.ADD | Action.UPDATE_ALLOCATABLE, self._suits),
        ]

    def _suits(self, pod: PodInfo, change: Change) -> bool:
        return self.filter(pod.shape, change.subject) is None

    def concerns(self, shape: PodShape) -> bool:  # noqa: ARG002
        return True  # every pod takes one of the node's `pods`

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None:
        allocatable, requested = node.allocatable, node.requested
        if len(node.pods) + 1 <= allocatable.get("pods", 0):
            for resource, wanted in shape.requests.items():
                if wanted > allocatable.get(resource, 0) - requested.get(resource, 0):
                    break
            else:
                return None
        return self._rejection(shape, node)

    @staticmethod
    def _rejection(shape: PodShape, node: NodeInfo) -> Rejection:
        """Everything that is short; resolvable unless the empty node would be too small."""
        allocatable, requested = node.allocatable, node.requested
        reasons = []
        resolvable = True
        if len(node.pods) + 1 > allocatable.get("pods", 0):
            reasons.append("Too many pods")
        for resource, wanted in shape.requests.items():
            if wanted > allocatable.get(resource, 0) - requested.get(resource, 0):
                reasons.append(f"Insufficient {resource}")
                resolvable = resolvable and wanted <= allocatable.get(resource, 0)
        return Rejection(tuple(reasons), resolvable)

    def scores(self, shape: PodShape) -> bool:  # noqa: ARG002
        return True

    def score(self, shape: PodShape, node: NodeInfo, cache: Cache) -> int:  # noqa: ARG002
        """The share of CPU and memory that would stay free, as MAX_SCORE shares, averaged."""
        total = scored = 0
        for resource in SCORED:
            capacity = node.allocatable.get(resource, 0)
            if capacity:
                scored += 1
                used = node.scoring_requested.get(resource, 0) + shape.scoring_requests.get(resource, 0)
                if used < capacity:
                    total += (capacity - used) * MAX_SCORE // capacity
        return total // scored if scored else 0
