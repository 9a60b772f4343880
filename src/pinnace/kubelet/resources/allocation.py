"""What the node has granted its pods: the resources they run with, which may lag behind those that they ask for.

Pure: reading sizes out of a pod and putting others in, and the verdict on a wish for other sizes, in Kubernetes' words
(https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/, KEP-1287).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from pinnace.kubelet.admission.rules import lacking_resource
from pinnace.kubelet.pods import (
    GUARANTEED,
    amount_of,
    containers,
    init_containers,
    is_sidecar,
    is_static,
    qos_class,
    resource_requests,
)
from pinnace.machinery.meta import Obj, get_in

POD = ""
"""The name under which `Sizes` hold the resources of the pod as a whole."""

Sizes = dict[str, Obj]
"""`resources` by container, of the main containers and sidecars, and by `POD` where the pod has some of its own."""

DEFERRED, INFEASIBLE = "Deferred", "Infeasible"
_MANAGERS = {"cpu": 'CPU Manager policy "static"', "memory": 'Memory Manager policy "Static"'}
_QOS_ORDER = ("Guaranteed", "Burstable", "BestEffort")


class Verdict(NamedTuple):
    """Why a resize cannot be granted: `Deferred` may become possible, `Infeasible` will not."""

    reason: str
    message: str


def resizable(pod: Obj) -> Iterator[Obj]:
    """The containers whose sizes may change: sidecars and main ones."""
    yield from (container for container in init_containers(pod) if is_sidecar(container))
    yield from containers(pod)


def sizes_of(pod: Obj) -> Sizes:
    """What the pod asks for."""
    found = {container["name"]: container.get("resources") or {} for container in resizable(pod)}
    if pod["spec"].get("resources"):
        found[POD] = pod["spec"]["resources"]
    return found


def with_sizes(pod: Obj, sizes: Mapping[str, Obj]) -> Obj:
    """The pod with these sizes in place of its own; the pod itself where they are the same."""
    asked = sizes_of(pod)
    changed = {name for name in asked if name in sizes and not same(asked[name], sizes[name])}
    if not changed:
        return pod
    spec = dict(pod["spec"])
    if POD in changed:
        spec["resources"] = sizes[POD]
    for kind in ("initContainers", "containers"):
        if kind in spec:
            spec[kind] = [
                {**one, "resources": sizes[one["name"]]} if one["name"] in changed else one for one in spec[kind]
            ]
    return {**pod, "spec": spec}


def same(one: Obj, other: Obj) -> bool:
    """Whether two `resources` mean the same amounts, however they are written."""
    return one == other or _amounts(one) == _amounts(other)


def _amounts(resources: Obj) -> dict[tuple[str, str], int]:
    return {
        (part, name): amount_of(name, text)
        for part in ("requests", "limits")
        for name, text in (resources.get(part) or {}).items()
    }


def amounts(resources: Obj | None, part: str) -> dict[str, int]:
    """`requests` or `limits` as numbers: millicores of cpu, units of anything else."""
    return {name: amount_of(name, text) for name, text in ((resources or {}).get(part) or {}).items()}


def judge(
    pod: Obj,
    granted: Mapping[str, Obj],
    others: Iterable[Obj],
    node: Obj | None,
    fixed: Iterable[str] = (),
    swaps: Callable[[Obj, Obj], bool] = lambda _pod, _container: False,
) -> Verdict | None:
    """None where the node can grant what the pod asks for beyond what it was granted.

    `others` are the other pods here as they were granted; `fixed` names resources (`cpu`, `memory`) that a static
    manager hands out, with which a Guaranteed pod keeps what it has; `swaps` tells whether a container has swap space.
    """
    if is_static(pod):
        return Verdict(INFEASIBLE, "In-place resize of static-pods is not supported")
    if any(swaps(pod, container) and _grows_in_place(container, granted) for container in resizable(pod)):
        return Verdict(INFEASIBLE, "In-place resize of containers with swap is not supported.")
    if qos_class(pod) == GUARANTEED:
        for resource in fixed:
            if _request_changes(pod, granted, resource):
                return Verdict(INFEASIBLE, f"Resize is infeasible for Guaranteed Pods alongside {_MANAGERS[resource]}")
    allocatable = get_in(node or {}, "status", "allocatable", default={})
    wanted = resource_requests(pod)
    for resource in ("memory", "cpu"):
        if resource not in allocatable:
            continue
        capacity = amount_of(resource, allocatable[resource])
        if wanted.get(resource, 0) > capacity:
            text = f"{resource}, requested: {wanted[resource]}, capacity: {capacity}"
            return Verdict(INFEASIBLE, f"Node didn't have enough capacity: {text}")
    lacking = lacking_resource(pod, list(others), allocatable) if node is not None else None
    return Verdict(DEFERRED, lacking.event) if lacking else None


def _grows_in_place(container: Obj, granted: Mapping[str, Obj]) -> bool:
    """Whether the container is to have another memory request without being restarted."""
    before = amounts(granted.get(container["name"]), "requests").get("memory")
    policies = {one["resourceName"]: one.get("restartPolicy") for one in container.get("resizePolicy") or ()}
    changes = amounts(container.get("resources"), "requests").get("memory") != before
    return changes and policies.get("memory") != "RestartContainer"


def _request_changes(pod: Obj, granted: Mapping[str, Obj], resource: str) -> bool:
    return any(
        amounts(asked, "requests").get(resource) != amounts(granted.get(name), "requests").get(resource)
        for name, asked in sizes_of(pod).items()
    )


def urgency(pod: Obj, granted: Mapping[str, Obj], waits_since: float) -> tuple[bool, int, int, float]:
    """Sorts pods that wait for a resize: those that ask for no more first, then by priority, QoS class and patience."""
    before, after = resource_requests(with_sizes(pod, granted)), resource_requests(pod)
    grows = any(after.get(name, 0) > before.get(name, 0) for name in ("cpu", "memory"))
    return grows, -(pod["spec"].get("priority") or 0), _QOS_ORDER.index(qos_class(pod)), waits_since
