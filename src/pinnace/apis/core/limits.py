"""What a LimitRange does to pods and claims: fills in what containers leave out, and says which bounds are broken.

Specified in https://kubernetes.io/docs/concepts/policy/limit-range/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pinnace.apis.core.pod_resources import Amounts, amounts, pod_limits, pod_requests
from pinnace.apis.fields import spec_of
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity

ANNOTATION = "kubernetes.io/limit-ranger"

Bound = Callable[[str, str, Quantity, Amounts, Amounts], "str | None"]
"""`(type, resource, bound, requests, limits)`: how the bound is broken, None where it holds."""


def fill_in(pod: Obj, limit_range: Obj) -> None:
    """Give the pod's containers the defaults of a range, in place, and note so in an annotation."""
    limits: Obj = {}
    requests: Obj = {}
    for item in spec_of(limit_range).get("limits") or ():
        if item.get("type") == "Container":
            limits |= item.get("default") or {}
            requests |= item.get("defaultRequest") or {}
    spec = spec_of(pod)
    notes = [note for one in spec.get("containers") or () for note in _fill(one, "container", requests, limits)]
    notes += [
        note for one in spec.get("initContainers") or () for note in _fill(one, "init container", requests, limits)
    ]
    if notes:
        annotations = pod["metadata"].get("annotations") or {}
        pod["metadata"]["annotations"] = {**annotations, ANNOTATION: f"LimitRanger plugin set: {'; '.join(notes)}"}


def _fill(container: Obj, word: str, requests: Obj, limits: Obj) -> Iterator[str]:
    for part, key, defaults in (("request", "requests", requests), ("limit", "limits", limits)):
        resources = container.get("resources") or {}
        present = resources.get(key) or {}
        missing = {name: value for name, value in defaults.items() if name not in present}
        if missing:
            container["resources"] = {**resources, key: {**present, **missing}}
            yield f"{', '.join(sorted(missing))} {part} for {word} {container.get('name', '')}"


def broken_by_pod(pod: Obj, limit_range: Obj) -> list[str]:
    """Which bounds of the range the pod breaks, worded for its author."""
    spec = spec_of(pod)
    found: list[str] = []
    for item in spec_of(limit_range).get("limits") or ():
        if item.get("type") == "Container":
            for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
                resources = container.get("resources") or {}
                requests, limits = amounts(resources.get("requests")), amounts(resources.get("limits"))
                found += _broken(item, requests, limits, _BOUNDS)
        elif item.get("type") == "Pod":
            found += _broken(item, pod_requests(spec), pod_limits(spec), _BOUNDS)
    return list(dict.fromkeys(found))


def broken_by_claim(claim: Obj, limit_range: Obj) -> list[str]:
    """Which bounds of the range a PersistentVolumeClaim breaks; its requests alone count."""
    requests = amounts((spec_of(claim).get("resources") or {}).get("requests"))
    found: list[str] = []
    for item in spec_of(limit_range).get("limits") or ():
        if item.get("type") == "PersistentVolumeClaim":
            found += _broken(item, requests, {}, _CLAIM_BOUNDS)
    return list(dict.fromkeys(found))


def _broken(item: Obj, requests: Amounts, limits: Amounts, bounds: Iterable[tuple[str, Bound]]) -> Iterator[str]:
    for key, bound in bounds:
        for resource, value in sorted(amounts(item.get(key)).items()):
            message = bound(item["type"], resource, value, requests, limits)
            if message:
                yield message


def _minimum(kind: str, resource: str, bound: Quantity, requests: Amounts, limits: Amounts) -> str | None:
    rule = f"minimum {resource} usage per {kind} is {bound}"
    request, limit = requests.get(resource), limits.get(resource)
    if request is None:
        return f"{rule}.  No request is specified"
    if request < bound:
        return f"{rule}, but request is {request}"
    if limit is not None and limit < bound:
        return f"{rule}, but limit is {limit}"
    return None


def _maximum(kind: str, resource: str, bound: Quantity, requests: Amounts, limits: Amounts) -> str | None:
    rule = f"maximum {resource} usage per {kind} is {bound}"
    request, limit = requests.get(resource), limits.get(resource)
    if limit is None:
        return f"{rule}.  No limit is specified"
    if limit > bound:
        return f"{rule}, but limit is {limit}"
    if request is not None and request > bound:
        return f"{rule}, but request is {request}"
    return None


def _maximum_request(kind: str, resource: str, bound: Quantity, requests: Amounts, _limits: Amounts) -> str | None:
    rule = f"maximum {resource} usage per {kind} is {bound}"
    request = requests.get(resource)
    if request is None:
        return f"{rule}.  No request is specified"
    return f"{rule}, but request is {request}" if request > bound else None


def _ratio(kind: str, resource: str, bound: Quantity, requests: Amounts, limits: Amounts) -> str | None:
    rule = f"{resource} max limit to request ratio per {kind} is {bound}"
    request, limit = requests.get(resource), limits.get(resource)
    if not request:
        return f"{rule}, but no request is specified or request is 0"
    if not limit:
        return f"{rule}, but no limit is specified or limit is 0"
    ratio = float(limit.amount / request.amount)
    return f"{rule}, but provided ratio is {ratio:f}" if ratio > float(bound.amount) else None


_BOUNDS: tuple[tuple[str, Bound], ...] = (("min", _minimum), ("max", _maximum), ("maxLimitRequestRatio", _ratio))
_CLAIM_BOUNDS: tuple[tuple[str, Bound], ...] = (("min", _minimum), ("max", _maximum_request))
