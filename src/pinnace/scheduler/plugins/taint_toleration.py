"""Keeps pods off nodes with taints they do not tolerate, and prefers nodes with fewer `PreferNoSchedule` taints.

Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/.
"""

from __future__ import annotations

from pinnace.apis.core.node_selection import tolerates, untolerated
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.framework import Normalization, Rejection, Scope
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo, PodShape

_FORBIDDING = ("NoSchedule", "NoExecute")
_REJECTED = Rejection(("node(s) had untolerated taint(s)",), resolvable=False)


class TaintToleration:
    name = "TaintToleration"
    scope = Scope.NODE
    weight = 3
    normalization = Normalization.HIGHEST_REVERSED

    def events_to_register(self) -> list[Hint]:
        return [Hint("Node", Action.ADD | Action.UPDATE_TAINT, self._suits)]

    def _suits(self, pod: PodInfo, change: Change) -> bool:
        return self.filter(pod.shape, change.subject) is None

    def concerns(self, shape: PodShape) -> bool:  # noqa: ARG002
        return True

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None:
        if not node.taints:
            return None
        return _REJECTED if untolerated(node.taints, shape.tolerations, _FORBIDDING) is not None else None

    def scores(self, shape: PodShape) -> bool:  # noqa: ARG002
        return True

    def score(self, shape: PodShape, node: NodeInfo, cache: Cache) -> int:  # noqa: ARG002
        """How many taints that ask to stay away the pod does not tolerate."""
        soft = [t for t in shape.tolerations if t.get("effect", "") in ("", "PreferNoSchedule")]
        return sum(not any(tolerates(toleration, taint) for toleration in soft) for taint in node.prefer_no_schedule)
