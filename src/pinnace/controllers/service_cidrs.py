"""Says of ServiceCIDRs that they are ready, and keeps those from vanishing whose addresses Services still have.

The API server gives out addresses of those that are ready and not being deleted. Specified by
https://kubernetes.io/docs/tasks/network/extend-service-ip-ranges/.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pinnace.apis.resources import IP_ADDRESSES, SERVICE_CIDRS
from pinnace.client.controller import Controller
from pinnace.controllers.conditions import condition, without
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    format_time,
    get_in,
    is_deleting,
    labels_of,
    name_of,
    parse_time,
    utc_now,
)

FINALIZER = "networking.k8s.io/service-cidr-finalizer"
ALLOCATOR = "ipallocator.k8s.io"
GRACE = 10.0  # seconds until every API server knows that it must give out no more addresses of a range

_BLOCKED = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks_of(service_cidr: Obj) -> list[_Network]:
    return [ipaddress.ip_network(cidr, strict=False) for cidr in get_in(service_cidr, "spec", "cidrs") or ()]


def may_go(service_cidr: Obj, others: Iterable[Obj], addresses: Iterable[Obj]) -> bool:
    """Whether every address that the allocator gave out would still be of some ServiceCIDR without this one."""
    left = [network for other in others for network in networks_of(other)]
    networks = networks_of(service_cidr)
    if all(any(_contains(network, inner) for network in left) for inner in networks):
        return True
    for address in addresses:
        if labels_of(address).get("ipaddress.kubernetes.io/managed-by") != ALLOCATOR:
            continue
        number = ipaddress.ip_address(name_of(address))
        if any(number in network for network in networks) and not any(number in network for network in left):
            return False
    return True


def _contains(outer: _Network, inner: Any) -> bool:
    return outer.version == inner.version and bool(inner.subnet_of(outer))


def ready_condition(service_cidr: Obj, now: datetime, *, blocked: bool) -> Obj | None:
    """The condition Ready as it should be; None if it is so already."""
    wanted = {
        "type": "Ready",
        "status": "False" if blocked else "True",
        "reason": "Terminating" if blocked else "",
        "message": _BLOCKED if blocked else "Kubernetes Service CIDR is ready",
    }
    found = condition(service_cidr, "Ready") or {}
    if all((found.get(field) or "") == value for field, value in wanted.items()):
        return None
    same = found.get("status") == wanted["status"] and found.get("lastTransitionTime")
    return wanted | {"lastTransitionTime": same or format_time(now)}


class ServiceCidrsController(Controller):
    """One key is one ServiceCIDR; what happens to addresses and to the others may set it free."""

    name = "service-cidr-controller"
    component = "service-cidrs-controller"
    workers = 1

    def setup(self) -> None:
        self.cidrs = self.watch(SERVICE_CIDRS, lambda _: self._all())
        self.addresses = self.watch(IP_ADDRESSES, lambda _: self._ending())

    def _all(self) -> Iterable[str]:
        return [name_of(one) for one in self.cidrs.store.list()]

    def _ending(self) -> Iterable[str]:
        return [name_of(one) for one in self.cidrs.store.list() if is_deleting(one)]

    async def reconcile(self, key: str) -> float | None:
        found = self.cidrs.store.get(key)
        if found is None:
            return None
        finalizers = found["metadata"].get("finalizers") or []
        try:
            if is_deleting(found):
                return await self._end(found, finalizers)
            if FINALIZER not in finalizers:
                found = await self.client.update(SERVICE_CIDRS, _with_finalizers(found, [*finalizers, FINALIZER]))
            await self._say(found, blocked=False)
        except ApiError as error:
            if not error.is_not_found:
                raise
        return None

    async def _end(self, found: Obj, finalizers: list[str]) -> float | None:
        if FINALIZER not in finalizers:
            return None
        others = [one for one in self.cidrs.store.list() if name_of(one) != name_of(found)]
        if not may_go(found, others, self.addresses.store.list()):
            await self._say(found, blocked=True)
            return None
        left = GRACE - (utc_now() - parse_time(found["metadata"]["deletionTimestamp"])).total_seconds()
        if left > 0:
            return left
        rest = [one for one in finalizers if one != FINALIZER]
        await self.client.update(SERVICE_CIDRS, _with_finalizers(found, rest))
        return None

    async def _say(self, found: Obj, *, blocked: bool) -> None:
        ready = ready_condition(found, utc_now(), blocked=blocked)
        if ready is None:
            return
        others = without(get_in(found, "status", "conditions") or (), "Ready")
        try:
            await self.client.update_status(SERVICE_CIDRS, {**found, "status": {"conditions": [*others, ready]}})
        except ApiError as error:
            if error.is_conflict or error.is_not_found:
                raise
            why = "The ServiceCIDR Status can not be set to Ready=True"
            self.recorder.event(found, "Warning", "KubernetesServiceCIDRError", why)
            raise


def _with_finalizers(service_cidr: Obj, finalizers: list[str]) -> Obj:
    return {**service_cidr, "metadata": {**service_cidr["metadata"], "finalizers": finalizers}}
