"""`spec.nodeSelector` and node affinity: required terms filter, preferred terms score.

Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity.
"""

from __future__ import annotations

from pinnace.apis.core.node_selection import node_selector_matches, term_matches
from pinnace.machinery.meta import Obj
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.framework import Normalization, Rejection, Scope
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo, PodShape

_REJECTED = Rejection(("node(s) didn't match Pod's node affinity/selector",), resolvable=False)

_ENFORCED = Rejection(("node(s) didn't match scheduler-enforced node affinity",), resolvable=False)


class NodeAffinity:
    name = "NodeAffinity"
    scope = Scope.NODE
    weight = 2
    normalization = Normalization.HIGHEST

    def __init__(self, added_affinity: Obj | None = None) -> None:
        added = added_affinity or {}
        required = added.get("requiredDuringSchedulingIgnoredDuringExecution")
        self._added_terms = None if required is None else required.get("nodeSelectorTerms") or []
        self._added_preferences = added.get("preferredDuringSchedulingIgnoredDuringExecution") or []

    def events_to_register(self) -> list[Hint]:
        return [Hint("Node", Action.ADD | Action.UPDATE_LABEL, self._suits)]

    def _suits(self, pod: PodInfo, change: Change) -> bool:
        return self.filter(pod.shape, change.subject) is None

    def concerns(self, shape: PodShape) -> bool:
        return bool(shape.node_selector) or shape.required_node_terms is not None or self._added_terms is not None

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None:
        if self._added_terms is not None and not any(
            term_matches(term, node.name, node.labels) for term in self._added_terms
        ):
            return _ENFORCED
        if node_selector_matches(shape.node_selector, shape.required_node_terms, node.name, node.labels):
            return None
        return _REJECTED

    def scores(self, shape: PodShape) -> bool:
        return bool(shape.preferred_node_terms or self._added_preferences)

    def score(self, shape: PodShape, node: NodeInfo, cache: Cache) -> int:  # noqa: ARG002
        """The weights of the preferred terms that the node meets; an empty term is met by all."""
        total = 0
        for entry in (*shape.preferred_node_terms, *self._added_preferences):
            term = entry.get("preference") or {}
            if not any(term.values()) or term_matches(term, node.name, node.labels):
                total += entry["weight"]
        return total
