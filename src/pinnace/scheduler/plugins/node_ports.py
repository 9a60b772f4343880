"""Keeps pods off nodes where a host port they ask for is taken."""

from __future__ import annotations

from pinnace.scheduler.framework import Rejection, Scope
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodShape

_REJECTED = Rejection(("node(s) didn't have free ports for the requested pod ports",))


class NodePorts:
    name = "NodePorts"
    scope = Scope.PODS

    def concerns(self, shape: PodShape) -> bool:
        return bool(shape.host_ports)

    def filter(self, shape: PodShape, node: NodeInfo) -> Rejection | None:
        taken = any(port.conflicts(used) for port in shape.host_ports for used in node.ports)
        return _REJECTED if taken else None
