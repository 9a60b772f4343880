"""What a pod asks for as a whole: the sum over its containers, as quotas and limit ranges count it.

Init containers run one after another, so the greatest of them counts; sidecars run on and are added. Specified in
https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers, KEP-753 and
KEP-2837 (resources of the pod as a whole).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinnace.apis.checks import amount
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import ZERO, Quantity

Amounts = dict[str, Quantity]

_OF_PODS = ("cpu", "memory")  # and hugepages: what `spec.resources` may set in place of the containers' sum


def amounts(resources: Mapping[str, Any] | None) -> Amounts:
    """The quantities of a resource list; what is no quantity is left out."""
    found = {name: amount(text) for name, text in (resources or {}).items()}
    return {name: quantity for name, quantity in found.items() if quantity is not None}


def add(left: Mapping[str, Quantity], right: Mapping[str, Quantity]) -> Amounts:
    """The sum, of all names in either."""
    return {
        name: left[name] + right[name] if name in left and name in right else left.get(name) or right.get(name) or ZERO
        for name in {**left, **right}
    }


def greatest(left: Mapping[str, Quantity], right: Mapping[str, Quantity]) -> Amounts:
    return {name: max(left.get(name, ZERO), right.get(name, ZERO)) for name in {**left, **right}}


def pod_requests(spec: Obj) -> Amounts:
    """What the pod requests, with its overhead."""
    return add(_total(spec, "requests"), amounts(spec.get("overhead")))


def pod_limits(spec: Obj) -> Amounts:
    """What the pod is limited to; overhead counts where there is a limit at all."""
    total = _total(spec, "limits")
    overhead = amounts(spec.get("overhead"))
    return add(total, {name: quantity for name, quantity in overhead.items() if total.get(name)})


def _total(spec: Obj, part: str) -> Amounts:
    total: Amounts = {}
    for container in spec.get("containers") or ():
        total = add(total, _of(container, part))
    sidecars: Amounts = {}
    most: Amounts = {}
    for container in spec.get("initContainers") or ():
        needs = _of(container, part)
        if container.get("restartPolicy") == "Always":
            total = add(total, needs)
            needs = sidecars = add(sidecars, needs)
        else:
            needs = add(needs, sidecars)
        most = greatest(most, needs)
    total = greatest(total, most) if most else total
    whole = amounts((spec.get("resources") or {}).get(part))
    return total | {
        name: quantity for name, quantity in whole.items() if name in _OF_PODS or name.startswith("hugepages-")
    }


def _of(container: Obj, part: str) -> Amounts:
    return amounts((container.get("resources") or {}).get(part))
