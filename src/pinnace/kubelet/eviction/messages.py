"""What a pod that is evicted is told, in Kubernetes' words; pure."""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.kubelet.eviction.ranking import ContainerUsage, PodUsage
from pinnace.kubelet.eviction.thresholds import Observations, Threshold
from pinnace.kubelet.pods import containers, init_containers, is_sidecar
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity

REASON = "Evicted"


def eviction_message(
    resource: str, pod: Obj, usage: PodUsage | None, thresholds: Iterable[Threshold], observations: Observations
) -> tuple[str, dict[str, str]]:
    """Status message, and annotations of the event that tells of it."""
    message = f"The node was low on resource: {resource}. "
    annotations = {"starved_resource": resource}
    threshold = next((one for one in thresholds if one.signal.resource == resource), None)
    seen = observations.get(threshold.signal) if threshold is not None else None
    if threshold is not None and seen is not None:
        quantity = amount(resource, threshold.value.of(seen.capacity))
        message += f"Threshold quantity: {quantity}, available: {amount(resource, seen.available)}. "
    names, amounts = [], []
    for name, used, asked in _greedy(resource, pod, usage):
        message += f"Container {name} was using {used}, request is {asked}, has larger consumption of {resource}. "
        names.append(name)
        amounts.append(str(used))
    annotations["offending_containers"] = ",".join(names)
    annotations["offending_containers_usage"] = ",".join(amounts)
    return message, annotations


def amount(resource: str, value: int) -> Quantity:
    """So much of a resource as Kubernetes writes it."""
    return Quantity(value, "binary" if resource in ("memory", "ephemeral-storage") else "decimal")


def _greedy(resource: str, pod: Obj, usage: PodUsage | None) -> list[tuple[str, Quantity, Quantity]]:
    """Containers that use more than they asked for: name, use, request."""
    by_name = {one["name"]: one for one in (*filter(is_sidecar, init_containers(pod)), *containers(pod))}
    found = []
    for one in usage.containers if usage is not None else ():
        container = by_name.get(one.name)
        used = _used(resource, one)
        if container is None or used is None:
            continue
        text = ((container.get("resources") or {}).get("requests") or {}).get(resource, "0")
        asked, spent = Quantity.parse(str(text)), amount(resource, used)
        if spent > asked:
            found.append((one.name, spent, asked))
    return found


def _used(resource: str, usage: ContainerUsage) -> int | None:
    if resource == "memory":
        return usage.memory
    return usage.rootfs.used + usage.logs.used if resource == "ephemeral-storage" else None


def condition_message(conditions: Iterable[str]) -> str:
    """Why a new pod is not taken."""
    return f"The node had condition: [{' '.join(conditions)}]. "
