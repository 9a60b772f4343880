"""What an object costs its namespace: the names of a ResourceQuota it counts under, and how much of each.

Admission charges quotas with this, and the quota controller adds up what there is. Specified in
https://kubernetes.io/docs/concepts/policy/resource-quotas/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pinnace.apis.core.pod import qos_class
from pinnace.apis.core.pod_holding import holding
from pinnace.apis.core.pod_resources import Amounts, add, amounts, pod_limits, pod_requests
from pinnace.apis.fields import spec_of, status_of
from pinnace.machinery.meta import Obj, annotations_of, parse_time
from pinnace.machinery.quantity import Quantity

_ONE = Quantity(1)
_DEVICES_OF_ALL = 32  # what a claim for all devices of a node is charged with: the most that one may hold

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_NEEDED = ("cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory")
_COUNTED_BY_NAME = ("configmaps", "replicationcontrollers", "resourcequotas", "secrets")

Scopes = list[tuple[str, str, list[str]]]
"""Scope, operator and values: pods and claims count where all of them hold."""


def scopes_of(quota: Obj) -> Scopes:
    """Both ways to name scopes: a list of them, and a selector."""
    spec = spec_of(quota)
    found: Scopes = [(scope, "Exists", []) for scope in spec.get("scopes") or ()]
    for one in (spec.get("scopeSelector") or {}).get("matchExpressions") or ():
        found.append((one.get("scopeName") or "", one.get("operator") or "", one.get("values") or []))
    return found


def in_scope(quota: Obj, resource: tuple[str, str], obj: Obj) -> bool:
    """Whether the quota's scopes take the object in; without any, every object. `resource` is group and plural."""
    scopes = scopes_of(quota)
    if not scopes:
        return True
    holds = _SCOPED.get(resource)
    return holds is not None and all(holds(obj, *scope) for scope in scopes)


def counted(resource: tuple[str, str], hard: Iterable[str]) -> set[str]:
    """Those of a quota's names that objects of the resource count under."""
    evaluator = _EVALUATORS.get(resource)
    return {name for name in hard if name in _count_names(resource) or (evaluator is not None and evaluator.has(name))}


def usage(resource: tuple[str, str], obj: Obj, now: datetime) -> Amounts:
    """What the object is charged, by name; more names than any one quota has."""
    evaluator = _EVALUATORS.get(resource)
    found: Amounts = dict.fromkeys(_count_names(resource), _ONE)
    return found | evaluator.usage(obj, now) if evaluator is not None else found


def unmet(resource: tuple[str, str], obj: Obj, hard: Iterable[str]) -> str:
    """What the object must state because a quota limits it, worded for its author; empty where it does."""
    if resource != ("", "pods") or spec_of(obj).get("resources"):
        return ""
    needed = [name for name in _NEEDED if name in set(hard)]
    missing: dict[str, set[str]] = {}
    spec = spec_of(obj)
    for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
        resources = container.get("resources") or {}
        stated = _compute(amounts(resources.get("requests")), amounts(resources.get("limits")))
        for name in needed:
            if name not in stated:
                missing.setdefault(name, set()).add(container.get("name") or "")
    parts = [f"{name} for: {','.join(sorted(containers))}" for name, containers in sorted(missing.items())]
    return f"must specify {'; '.join(parts)}" if parts else ""


def _count_names(resource: tuple[str, str]) -> tuple[str, ...]:
    group, plural = resource
    generic = f"count/{plural}.{group}" if group else f"count/{plural}"
    return (generic, plural) if not group and plural in _COUNTED_BY_NAME else (generic,)


# Kinds with more to them than their number.


@dataclass(frozen=True, slots=True)
class _Evaluator:
    has: Callable[[str], bool]  # whether it knows how to count under a quota's name
    usage: Callable[[Obj, datetime], Amounts]


def _pod_has(name: str) -> bool:
    if name == "pods" or name.startswith(("hugepages-", "requests.hugepages-")):
        return True
    bare = name.removeprefix("requests.").removeprefix("limits.")
    return bare in _COMPUTE or (name.startswith("requests.") and is_extended(bare))


def is_extended(name: str) -> bool:
    """Whether a resource is none of Kubernetes' own, such as a device of some vendor."""
    return "/" in name and "kubernetes.io/" not in name and not name.startswith("requests.")


def _pod_usage(pod: Obj, now: datetime) -> Amounts:
    """A pod that has ended, or should have gone, counts as an object alone."""
    meta = pod["metadata"]
    if status_of(pod).get("phase") in ("Failed", "Succeeded"):
        return {}
    if meta.get("deletionTimestamp") and meta.get("deletionGracePeriodSeconds") is not None:
        grace = timedelta(seconds=meta["deletionGracePeriodSeconds"])
        if now > parse_time(meta["deletionTimestamp"]) + grace:
            return {}
    spec = spec_of(holding(pod))
    return {"pods": _ONE, **_compute(pod_requests(spec), pod_limits(spec))}


def _compute(requests: Mapping[str, Quantity], limits: Mapping[str, Quantity]) -> Amounts:
    found: Amounts = {}
    for name, request in requests.items():
        if name in _COMPUTE or name.startswith("hugepages-"):
            found[name] = request
        if name in _COMPUTE or name.startswith("hugepages-") or is_extended(name):
            found[f"requests.{name}"] = request
    found |= {f"limits.{name}": limits[name] for name in _COMPUTE if name in limits}
    return found


def _service_usage(service: Obj, _now: datetime) -> Amounts:
    spec = spec_of(service)
    ports = spec.get("ports") or []
    node_ports = 0
    if spec.get("type") == "NodePort":
        node_ports = len(ports)
    elif spec.get("type") == "LoadBalancer":  # those still to be allocated count too
        allocates = spec.get("allocateLoadBalancerNodePorts") is not False
        node_ports = sum(1 for port in ports if allocates or port.get("nodePort"))
    balancers = 1 if spec.get("type") == "LoadBalancer" else 0
    return {"services": _ONE, "services.nodeports": Quantity(node_ports), "services.loadbalancers": Quantity(balancers)}


_OF_CLASS = ".storageclass.storage.k8s.io/"
_OF_DEVICES = ".deviceclass.resource.k8s.io/devices"


def _claim_has(name: str) -> bool:
    bare = name.partition(_OF_CLASS)[2] if _OF_CLASS in name else name
    return bare in ("persistentvolumeclaims", "requests.storage")


def _claim_usage(claim: Obj, _now: datetime) -> Amounts:
    spec = spec_of(claim)
    found: Amounts = {"persistentvolumeclaims": _ONE}
    asked = amounts((spec.get("resources") or {}).get("requests")).get("storage")
    granted = amounts(status_of(claim).get("allocatedResources")).get("storage")
    if asked is not None:
        found["requests.storage"] = max(asked, granted) if granted is not None else asked
    of_class = class_of(claim)
    if of_class:
        found |= {f"{of_class}{_OF_CLASS}{name}": quantity for name, quantity in found.items()}
    return found


def class_of(claim: Obj) -> str:
    """The storage class of a claim, which was an annotation once; empty where it names none."""
    beta = annotations_of(claim).get("volume.beta.kubernetes.io/storage-class")
    return str(beta or spec_of(claim).get("storageClassName") or "")


def _devices_usage(claim: Obj, _now: datetime) -> Amounts:
    """Of alternatives, the dearest counts."""
    found: Amounts = {}
    for request in ((spec_of(claim).get("devices") or {}).get("requests")) or ():
        dearest: Amounts = {}
        for one in request.get("firstAvailable") or [request.get("exactly") or request]:
            count = _DEVICES_OF_ALL if one.get("allocationMode") == "All" else one.get("count") or 1
            name = f"{one.get('deviceClassName', '')}{_OF_DEVICES}"
            dearest[name] = max(dearest.get(name, Quantity(0)), Quantity(count))
        found = add(found, dearest)
    return found


_SERVICES = ("services", "services.nodeports", "services.loadbalancers")
_EVALUATORS: dict[tuple[str, str], _Evaluator] = {
    ("", "pods"): _Evaluator(_pod_has, _pod_usage),
    ("", "services"): _Evaluator(_SERVICES.__contains__, _service_usage),
    ("", "persistentvolumeclaims"): _Evaluator(_claim_has, _claim_usage),
    ("resource.k8s.io", "resourceclaims"): _Evaluator(lambda name: name.endswith(_OF_DEVICES), _devices_usage),
}
EVALUATED = frozenset(_EVALUATORS)
"""Resources, by group and plural, whose objects are charged for what they say and not only for being there."""


# Scopes.


def _pod_in(pod: Obj, scope: str, operator: str, values: list[str]) -> bool:
    spec = spec_of(pod)
    match scope:
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return qos_class(spec) == "BestEffort"
        case "NotBestEffort":
            return qos_class(spec) != "BestEffort"
        case "PriorityClass":
            return _chosen(spec.get("priorityClassName") or "", operator, values)
        case "CrossNamespacePodAffinity":
            return _looks_elsewhere(spec.get("affinity") or {})
    return False


def _claim_in(claim: Obj, scope: str, operator: str, values: list[str]) -> bool:
    if scope != "VolumeAttributesClass":
        return False
    status = status_of(claim)
    target = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
    classes = (spec_of(claim).get("volumeAttributesClassName"), status.get("currentVolumeAttributesClassName"), target)
    return any(_chosen(name, operator, values) for name in {one or "" for one in classes} - {""} or {""})


def _chosen(name: str, operator: str, values: list[str]) -> bool:
    match operator:
        case "Exists":
            return bool(name)
        case "DoesNotExist":
            return not name
        case "In":
            return name in values and bool(name)
        case "NotIn":
            return name not in values
    return False


def _looks_elsewhere(affinity: Obj) -> bool:
    """Whether any term of affinity between pods names namespaces."""
    terms: list[Obj] = []
    for kind in ("podAffinity", "podAntiAffinity"):
        part = affinity.get(kind) or {}
        terms += part.get("requiredDuringSchedulingIgnoredDuringExecution") or []
        preferred = part.get("preferredDuringSchedulingIgnoredDuringExecution") or []
        terms += [one.get("podAffinityTerm") or {} for one in preferred]
    return any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms)


_SCOPED: dict[tuple[str, str], Callable[[Obj, str, str, list[str]], bool]] = {
    ("", "pods"): _pod_in,
    ("", "persistentvolumeclaims"): _claim_in,
}
