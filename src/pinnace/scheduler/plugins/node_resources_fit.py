"""Whether what a pod requests is free on a node; scores nodes by how full they would be.

Specified by https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/#how-pods-with-resource-requests-are-scheduled.
"""

from __future__ import annotations

from collections.abc import Collection

from pinnace.scheduler.cache import Cache
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.extended_resources import Backing
from pinnace.scheduler.framework import Normalization, Rejection, Scope
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import Amounts, PodInfo, PodShape
from pinnace.scheduler.resources import Strategy

_LEAST_ALLOCATED = Strategy()


class NodeResourcesFit:
    name = "NodeResourcesFit"
    scope = Scope.PODS
    weight = 1
    normalization = Normalization.NONE

    def __init__(
        self,
        strategy: Strategy = _LEAST_ALLOCATED,
        ignored: Collection[str] = (),
        ignored_groups: Collection[str] = (),
        backing: Backing | None = None,
    ) -> None:
        self._backing = backing  # devices that stand behind extended resources
        self._strategy = strategy
        self._ignored = frozenset(ignored)  # extended resources that others look after
        self._ignored_groups = frozenset(ignored_groups)  # what is before the slash of their names

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
                free = allocatable.get(resource, 0) - requested.get(resource, 0)
                if wanted > free and not self._is_elsewhere(resource, allocatable):
                    break
            else:
                return None
        return self._rejection(shape, node)

    def _is_elsewhere(self, resource: str, allocatable: Amounts) -> bool:
        """Whether others look after the resource on this node: an extender, or devices that claims are made for."""
        group, slash, _ = resource.partition("/")
        if not slash:
            return False
        if resource in self._ignored or group in self._ignored_groups:
            return True
        return self._backing is not None and not allocatable.get(resource) and resource in self._backing.classes

    def _rejection(self, shape: PodShape, node: NodeInfo) -> Rejection:
        """Everything that is short; resolvable unless the empty node would be too small."""
        allocatable, requested = node.allocatable, node.requested
        reasons = []
        resolvable = True
        if len(node.pods) + 1 > allocatable.get("pods", 0):
            reasons.append("Too many pods")
        for resource, wanted in shape.requests.items():
            short = wanted > allocatable.get(resource, 0) - requested.get(resource, 0)
            if short and not self._is_elsewhere(resource, allocatable):
                reasons.append(f"Insufficient {resource}")
                resolvable = resolvable and wanted <= allocatable.get(resource, 0)
        return Rejection(tuple(reasons), resolvable)

    def scores(self, shape: PodShape) -> bool:  # noqa: ARG002
        return True

    def score(self, shape: PodShape, node: NodeInfo, cache: Cache) -> int:  # noqa: ARG002
        return self._strategy.score_of(shape, node)
