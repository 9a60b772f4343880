"""Which pods must leave devices that are tainted, and when.

Pure functions over claims, the slices that publish devices, and rules that taint them. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/#device-taints-and-tolerations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from pinnace.apis.device_selection import rule_selects
from pinnace.machinery.meta import Obj, get_in, name_of, parse_time


class Device(NamedTuple):
    """A device by its full name."""

    driver: str
    pool: str
    name: str


def published_taints(slices: Iterable[Obj]) -> dict[Device, list[Obj]]:
    """The taints that drivers put on their devices; of each pool its newest generation counts."""
    slices = list(slices)
    newest: dict[tuple[str, str], int] = {}
    for one in slices:
        newest[_pool(one)] = max(newest.get(_pool(one), 0), one["spec"]["pool"].get("generation", 0))
    found: dict[Device, list[Obj]] = {}
    for one in slices:
        if one["spec"]["pool"].get("generation", 0) != newest[_pool(one)]:
            continue
        for device in one["spec"].get("devices") or ():
            if device.get("taints"):
                found[Device(*_pool(one), device["name"])] = list(device["taints"])
    return found


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
