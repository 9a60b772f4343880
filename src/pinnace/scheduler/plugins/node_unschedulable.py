"""Keeps pods off cordoned nodes (`spec.unschedulable`), unless they tolerate the taint that says the same."""

from __future__ import annotations

from pinnace.apis.core.node_selection import tolerates
from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.framework import Rejection, Scope
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo, PodShape

_TAINT = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
_REJECTED = Rejection(("node(s) were unschedulable",), resolvable=False)


class NodeUnschedulable:
    name = "NodeUnschedulable"
    scope = Scope.NODE

    def events_to_register(self) -> list[Hint]:
        return [Hint("Node", Action.ADD | Action.UPDATE_TAINT, _suits)]

    def concerns(self, shape: PodShape) -> bool:
        return not any(tolerates(toleration, _TAINT) for toleration in shape.tolerations)

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None:  # noqa: ARG002
        return _REJECTED if node.unschedulable else None


def _suits(pod: PodInfo, change: Change) -> bool:  # noqa: ARG001
    node: NodeInfo = change.subject
    return not node.unschedulable
