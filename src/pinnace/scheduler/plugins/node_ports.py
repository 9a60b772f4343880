"""Keeps pods off nodes where a host port they ask for is taken."""

from __future__ import annotations

from pinnace.scheduler.events import Action, Change, Hint
from pinnace.scheduler.framework import Rejection, Scope
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo, PodShape

_REJECTED = Rejection(("node(s) didn't have free ports for the requested pod ports",))


class NodePorts:
    name = "NodePorts"
    scope = Scope.PODS

    def events_to_register(self) -> list[Hint]:
        return [Hint("Pod", Action.DELETE, _frees_a_port), Hint("Node", Action.ADD)]

    def concerns(self, shape: PodShape) -> bool:
        return bool(shape.host_ports)

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None:
        taken = any(port.conflicts(used) for port in shape.host_ports for used in node.ports)
        return _REJECTED if taken else None


def _frees_a_port(pod: PodInfo, change: Change) -> bool:
    gone: PodInfo = change.subject
    return any(port.conflicts(free) for port in pod.shape.host_ports for free in gone.shape.host_ports)
