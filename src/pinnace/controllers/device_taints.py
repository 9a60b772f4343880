"""Which pods must leave devices that are tainted, and when; what a rule's status says of that.

Pure functions over claims, the slices that publish devices, and rules that taint them. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/#device-taints-and-tolerations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from pinnace.apis.device_selection import rule_selects
from pinnace.controllers.pods import is_finished
from pinnace.machinery.meta import Obj, format_time, get_in, is_deleting, name_of, namespace_of, parse_time


class Device(NamedTuple):
    """A device by its full name."""

    driver: str
    pool: str
    name: str


def published_taints(slices: Iterable[Obj]) -> dict[Device, list[Obj]]:
    """The taints that drivers put on their devices; of each pool its newest generation counts."""
    found: dict[Device, list[Obj]] = {}
    for one in current_slices(slices):
        for device in one["spec"].get("devices") or ():
            if device.get("taints"):
                found[Device(*_pool(one), device["name"])] = list(device["taints"])
    return found


def current_slices(slices: Iterable[Obj]) -> list[Obj]:
    """Those of each pool's newest generation."""
    slices = list(slices)
    newest: dict[tuple[str, str], int] = {}
    for one in slices:
        newest[_pool(one)] = max(newest.get(_pool(one), 0), one["spec"]["pool"].get("generation", 0))
    return [one for one in slices if one["spec"]["pool"].get("generation", 0) == newest[_pool(one)]]


def _pool(one: Obj) -> tuple[str, str]:
    return one["spec"]["driver"], one["spec"]["pool"]["name"]


def taints_of(device: Device, published: dict[Device, list[Obj]], rules: Iterable[Obj]) -> Iterator[Obj]:
    """The taints of a device that evict."""
    by_rule = [rule["spec"]["taint"] for rule in rules if rule_selects(rule, *device)]
    for taint in (*published.get(device, ()), *by_rule):
        if taint.get("effect") == "NoExecute":
            yield taint


def tolerates(toleration: Obj, taint: Obj) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") not in (None, "", taint.get("key")):
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return (toleration.get("value") or "") == (taint.get("value") or "")


def evicted_at(claim: Obj, published: dict[Device, list[Obj]], rules: Sequence[Obj], now: datetime) -> datetime | None:
    """When the users of an allocated claim must go; None while they may stay."""
    moments = []
    for result in get_in(claim, "status", "allocation", "devices", "results") or ():
        device = Device(result["driver"], result["pool"], result["device"])
        for taint in taints_of(device, published, rules):
            moment = _end(taint, result.get("tolerations") or (), now)
            if moment is not None:
                moments.append(moment)
    return min(moments, default=None)


def _end(taint: Obj, tolerations: Sequence[Obj], now: datetime) -> datetime | None:
    fitting = [one for one in tolerations if tolerates(one, taint)]
    begun = parse_time(taint["timeAdded"]) if taint.get("timeAdded") else now
    if not fitting:
        return begun
    limits = [one["tolerationSeconds"] for one in fitting if one.get("tolerationSeconds") is not None]
    return begun + timedelta(seconds=max(0, min(limits))) if limits else None


def users(claim: Obj, pods: Iterable[Obj]) -> list[Obj]:
    """The pods that a claim is reserved for."""
    reserved = {
        one["uid"]
        for one in get_in(claim, "status", "reservedFor") or ()
        if one.get("resource") == "pods" and not one.get("apiGroup")
    }
    return sorted((pod for pod in pods if pod["metadata"].get("uid") in reserved), key=name_of)


# What a rule's status says.


def pending(rule: Obj, claims: Iterable[Obj], pods: Mapping[str, Sequence[Obj]], now: datetime) -> list[Obj]:
    """The pods that have to go because of a rule, or would have to if it evicted; `pods` are by namespace."""
    taint = {**rule["spec"]["taint"], "effect": "NoExecute"}
    found: dict[str, Obj] = {}
    for claim in claims:
        results = get_in(claim, "status", "allocation", "devices", "results") or ()
        tainted = [one for one in results if rule_selects(rule, one["driver"], one["pool"], one["device"])]
        if any(_end(taint, one.get("tolerations") or (), now) is not None for one in tainted):
            for pod in users(claim, pods.get(namespace_of(claim), ())):
                found[pod["metadata"]["uid"]] = pod
    return [pod for pod in found.values() if not is_deleting(pod) and not is_finished(pod)]


def selected(rule: Obj, slices: Iterable[Obj], claims: Iterable[Obj]) -> tuple[int, int]:
    """How many devices that are published, and that are allocated, a rule is about."""
    published = sum(
        rule_selects(rule, *_pool(one), device["name"])
        for one in current_slices(slices)
        for device in one["spec"].get("devices") or ()
    )
    allocated = sum(
        rule_selects(rule, one["driver"], one["pool"], one["device"])
        for claim in claims
        for one in get_in(claim, "status", "allocation", "devices", "results") or ()
    )
    return published, allocated


def progress(rule: Obj, to_go: Sequence[Obj], evicted: int, counts: tuple[int, int], now: datetime) -> Obj:
    """The condition EvictionInProgress; `counts` are what `selected` tells."""
    effect = rule["spec"]["taint"].get("effect")
    if effect == "NoExecute":
        reason = "PodsPendingEviction" if to_go else "Completed" if evicted else "NotStarted"
        said = [f"{_pods(len(to_go))} {'needs' if len(to_go) == 1 else 'need'} to be evicted in {_spaces(to_go)}."]
        said = said if to_go else []
    elif effect == "None":
        reason = "NoEffect"
        said = [
            f"{_many(counts[0], 'published device')} selected.",
            f"{_many(counts[1], 'allocated device')} selected.",
            f"{_pods(len(to_go))} would be evicted in {_spaces(to_go)} if the effect was NoExecute.",
            "This information will not be updated again. Recreate the DeviceTaintRule to trigger an update.",
        ]
    else:
        reason, said = "OtherEffect", ["Eviction only happens for the NoExecute effect."]
    if evicted:
        said.append(f"{_pods(evicted)} evicted since starting the controller.")
    return {
        "type": "EvictionInProgress",
        "status": "True" if reason == "PodsPendingEviction" else "False",
        "reason": reason,
        "message": " ".join(said),
        "observedGeneration": rule["metadata"].get("generation", 0),
        "lastTransitionTime": format_time(now),
    }


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _pods(count: int) -> str:
    return _many(count, "pod")


def _spaces(pods: Iterable[Obj]) -> str:
    count = len({namespace_of(pod) for pod in pods})
    return "1 namespace" if count == 1 else f"{count} different namespaces"
