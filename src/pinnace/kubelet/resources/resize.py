"""How a running pod gets from the sizes it has to those it was granted: which containers change, and in which order.

Pure (KEP-1287, "Actuating Resizes"): limits of the pod's cgroup grow before those of its containers and shrink after
them, memory before CPU, so that no container is ever limited to more than its pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson

from pinnace.cri.api import ContainerState, LinuxContainerResources
from pinnace.kubelet.go_words import aggregate
from pinnace.kubelet.resources.allocation import amounts, resizable, same
from pinnace.kubelet.runtime.status import PodRuntimeStatus
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import canonical

MEMORY = ("memory_limit_in_bytes",)
CPU = ("cpu_shares", "cpu_quota", "cpu_period")
UNLIMITED = -1


@dataclass(frozen=True, slots=True)
class Difference:
    """What of a pod does not run with the sizes it was granted."""

    restart: frozenset[str] = frozenset()  # names of containers that a changed resource restarts
    update: dict[str, str] = field(default_factory=dict)  # container id by name, of those that change as they run

    def __bool__(self) -> bool:
        return bool(self.restart or self.update)


def difference(pod: Obj, actual: Mapping[str, Obj], runtime: PodRuntimeStatus) -> Difference:
    """`pod` as it was granted against the sizes that its running containers have."""
    restart: set[str] = set()
    update: dict[str, str] = {}
    for container in resizable(pod):
        name = container["name"]
        status = runtime.current(name)
        wanted, present = container.get("resources") or {}, actual.get(name)
        if status is None or status.state is not ContainerState.RUNNING or present is None or same(wanted, present):
            continue
        if _changed(wanted, present) & _restarting(container):
            restart.add(name)
        else:
            update[name] = status.id
    return Difference(frozenset(restart), update)


def _changed(one: Obj, other: Obj) -> set[str]:
    """The resources of which a request or limit differs."""
    return {
        resource
        for resource in ("cpu", "memory")
        for part in ("requests", "limits")
        if amounts(one, part).get(resource, 0) != amounts(other, part).get(resource, 0)
    }


def _restarting(container: Obj) -> set[str]:
    return {
        policy["resourceName"]
        for policy in container.get("resizePolicy") or ()
        if policy.get("restartPolicy") == "RestartContainer"
    }


@dataclass(frozen=True, slots=True)
class Step:
    """One change of limits: of a container, or of the pod's cgroup where `container_id` is empty."""

    container_id: str
    limits: LinuxContainerResources  # only what changes; UNLIMITED lifts a limit


Limits = tuple[LinuxContainerResources, LinuxContainerResources]
"""Before and after; 0 is no limit."""


def steps(pod: Limits, containers: Mapping[str, Limits]) -> list[Step]:
    """Every change of limits, in order; containers by id."""
    found: list[Step] = []
    for names in (MEMORY, CPU):
        inner = [Step(identity, part) for identity, limits in containers.items() if (part := _part(*limits, names))]
        outer = [Step("", part)] if (part := _part(*pod, names)) else []
        found += [*outer, *inner] if _grows(*pod, names) else [*inner, *outer]
    return found


def _part(
    before: LinuxContainerResources, after: LinuxContainerResources, names: tuple[str, ...]
) -> LinuxContainerResources | None:
    if all(getattr(before, name) == getattr(after, name) for name in names):
        return None
    values = {name: getattr(after, name) for name in names}
    for name in ("cpu_quota", "memory_limit_in_bytes"):
        if name in values and not values[name] and getattr(before, name):
            values[name] = UNLIMITED
    return LinuxContainerResources(**values)


def _grows(before: LinuxContainerResources, after: LinuxContainerResources, names: tuple[str, ...]) -> bool:
    def height(value: int) -> float:
        return value if value > 0 else float("inf")

    limit = "cpu_quota" if "cpu_quota" in names else names[0]
    return height(getattr(after, limit)) > height(getattr(before, limit))


def too_small(pod: Limits, pod_use: int, containers: Mapping[str, tuple[Limits, int]]) -> str:
    """Why memory limits cannot shrink so far; empty where they can. Containers by name, with bytes in use."""
    errors = []
    if _shrinks_below(pod, pod_use):
        limit = pod[1].memory_limit_in_bytes
        errors.append(f"attempting to set pod memory limit ({limit}) below current usage ({pod_use})")
    for name, (limits, use) in containers.items():
        if _shrinks_below(limits, use):
            limit = limits[1].memory_limit_in_bytes
            errors.append(f'attempting to set container "{name}" memory limit ({limit}) below current usage ({use})')
    return f"cannot decrease memory limits: {aggregate(errors)}" if errors else ""


def _shrinks_below(limits: Limits, use: int) -> bool:
    before, after = (one.memory_limit_in_bytes for one in limits)
    return 0 < after < use and not 0 < before <= after


# What events say.


def summary(pod: Obj, generation: int, error: str = "") -> str:
    """The sizes of a pod as the events about resizes carry them."""
    told: Obj = {}
    for kind in ("initContainers", "containers"):
        listed = [
            {"name": one["name"], "resources": _written(one.get("resources") or {})}
            for one in pod["spec"].get(kind) or ()
            if kind == "containers" or one.get("restartPolicy") == "Always"
        ]
        if listed:
            told[kind] = listed
    told["generation"] = generation
    if error:
        told["error"] = error
    return orjson.dumps(told).decode()


def _written(resources: Obj) -> Obj:
    return {
        part: {name: canonical(str(text)) for name, text in sorted(resources[part].items())}
        for part in ("limits", "requests")
        if resources.get(part)
    }
