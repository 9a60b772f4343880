"""Whether this node takes a pod: room, labels, host ports, taints; a pure function.

The scheduler asked the same before, but pods may name their node themselves
(https://kubernetes.io/docs/concepts/scheduling-eviction/, `status.reason` of a pod that was refused).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pinnace.apis.core.node_selection import node_selector_matches, untolerated
from pinnace.kubelet.containers.security import needs_apparmor
from pinnace.kubelet.pods import amount_of, containers, init_containers, is_sidecar, is_static, resource_requests
from pinnace.machinery.meta import Obj, get_in, labels_of, name_of


class Refusal(NamedTuple):
    """Why a pod is not taken, or no longer kept."""

    reason: str
    message: str  # status.message
    event: str


class Postponed(Exception):
    """The node takes the pod once others, which must make room for it, have ended."""


def refuse_apparmor(pod: Obj, *, enabled: bool) -> Refusal | None:
    """Why the pod cannot run where AppArmor is not `enabled`; None where it asks for none of it."""
    if enabled or not needs_apparmor(pod):
        return None
    text = "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    return Refusal("AppArmor", f"Pod was rejected: {text}", text)


def admit(pod: Obj, others: Iterable[Obj], node: Obj | None) -> Refusal | None:
    """None when the node takes the pod; `others` are the pods it has taken and that have not ended."""
    if node is None:
        return None
    others = list(others)
    wrong_system = _refuse_system(pod, node)
    if wrong_system is not None:
        return wrong_system
    if not is_static(pod):
        lacking = lacking_resource(pod, others, get_in(node, "status", "allocatable", default={}))
        if lacking is not None:
            return lacking
    if not matches_node(pod, node):
        return _predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
    if _ports(pod) and any(_conflict(mine, theirs) for mine in _ports(pod) for one in others for theirs in _ports(one)):
        return _predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    taints, tolerations = node["spec"].get("taints") or (), pod["spec"].get("tolerations") or ()
    if not is_static(pod) and untolerated(taints, tolerations, ("NoExecute",)) is not None:
        return _predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    return None


def _refuse_system(pod: Obj, node: Obj) -> Refusal | None:
    """Why the pod is of another operating system than the node's."""
    system = labels_of(node).get("kubernetes.io/os", "linux")
    if labels_of(pod).get("kubernetes.io/os", system) != system:
        text = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label"
        return Refusal("PodOSSelectorNodeLabelDoesNotMatch", f"Pod was rejected: {text}", text)
    if get_in(pod, "spec", "os", "name", default="linux") != "linux":
        text = "Failed to admit pod as the OS field doesn't match node OS"
        return Refusal("PodOSNotSupported", f"Pod was rejected: {text}", text)
    return None


def _predicate(name: str, why: str) -> Refusal:
    text = f"Predicate {name} failed: {why}"
    return Refusal(name, f"Pod was rejected: {text}", text)


def lacking_resource(pod: Obj, others: list[Obj], allocatable: Obj) -> Refusal | None:
    """What the node has too little of for the pod beside the others."""
    wanted = {"pods": 1, **resource_requests(pod)}
    used: dict[str, int] = {"pods": len(others)}
    for one in others:
        for name, amount in resource_requests(one).items():
            used[name] = used.get(name, 0) + amount
    for name, amount in wanted.items():
        capacity = amount_of(name, allocatable[name]) if name in allocatable else 0
        if amount > 0 and used.get(name, 0) + amount > capacity:
            text = f"Node didn't have enough resource: {name}, requested: {amount}, used: {used.get(name, 0)}, "
            text += f"capacity: {capacity}"
            return Refusal(f"OutOf{name}", f"Pod was rejected: {text}", text)
    return None


def matches_node(pod: Obj, node: Obj) -> bool:
    """Whether the node fits nodeSelector and the required node affinity."""
    required = get_in(
        pod, "spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"
    )
    return node_selector_matches(pod["spec"].get("nodeSelector") or {}, required, name_of(node), labels_of(node))


_Port = tuple[str, str, int]  # address, protocol, number


def _ports(pod: Obj) -> list[_Port]:
    sidecars = [one for one in init_containers(pod) if is_sidecar(one)]
    return [
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", port["hostPort"])
        for container in (*sidecars, *containers(pod))
        for port in container.get("ports") or ()
        if port.get("hostPort")
    ]


def _conflict(one: _Port, other: _Port) -> bool:
    same_address = one[0] == other[0] or "0.0.0.0" in (one[0], other[0])
    return same_address and one[1:] == other[1:]
