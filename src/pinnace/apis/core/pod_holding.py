"""What a pod on a node holds while it is being resized: the most of what it asks for, was granted and has.

A wish that the kubelet called infeasible does not count. Pure (KEP-1287, "Scheduler and API Server Interaction").
"""

from __future__ import annotations

from typing import Any

from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity

_KINDS = (("containers", "containerStatuses"), ("initContainers", "initContainerStatuses"))


def marks(pod: Obj) -> list[Any]:
    """What of a pod's status bears on what it holds; a change of anything else need not be looked at."""
    status = pod.get("status") or {}
    shown = [one for _, kind in _KINDS for one in status.get(kind) or ()]
    return [_is_infeasible(status), *((one.get("allocatedResources"), one.get("resources")) for one in shown)]


def holding(pod: Obj) -> Obj:
    """The pod with requests of what it holds in place of those it asks for; as it is where they are the same."""
    status = pod.get("status") or {}
    infeasible = _is_infeasible(status)
    changed: Obj = {}
    for kind, statuses in _KINDS:
        shown = {one["name"]: one for one in status.get(statuses) or () if "resources" in one}
        if not shown:
            continue
        containers = [_held(one, shown.get(one["name"]), infeasible) for one in pod["spec"].get(kind) or ()]
        if any(new is not old for new, old in zip(containers, pod["spec"].get(kind) or (), strict=True)):
            changed[kind] = containers
    return {**pod, "spec": {**pod["spec"], **changed}} if changed else pod


def _held(container: Obj, status: Obj | None, infeasible: bool) -> Obj:
    if status is None:
        return container
    asked = (container.get("resources") or {}).get("requests") or {}
    granted = status.get("allocatedResources") or {}
    has = (status.get("resources") or {}).get("requests") or {}
    if granted in (asked, {}) and has in (asked, {}):
        return container
    most: Obj = {} if infeasible and granted else dict(asked)
    for listed in (granted, has):
        for name, text in listed.items():
            if name not in most or Quantity.parse(text) > Quantity.parse(most[name]):
                most[name] = text
    if most == asked:
        return container
    return {**container, "resources": {**(container.get("resources") or {}), "requests": most}}


def _is_infeasible(status: Obj) -> bool:
    return any(
        one.get("type") == "PodResizePending" and one.get("reason") == "Infeasible"
        for one in status.get("conditions") or ()
    )
