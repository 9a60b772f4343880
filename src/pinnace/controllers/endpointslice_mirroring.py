"""Copies Endpoints that people write by hand, for Services without a selector, into EndpointSlices.

Specified by https://kubernetes.io/docs/concepts/services-networking/service/#services-without-selectors. `mirror`
decides, the controller writes.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pinnace.apis.resources import ENDPOINT_SLICES, ENDPOINTS, SERVICES
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.client.informer import InformerFactory
from pinnace.controllers.endpointslice import MANAGED_BY, SERVICE_NAME, Plan
from pinnace.controllers.expectations import Expectations
from pinnace.controllers.service_pods import TRIGGER_TIME, selects_pods
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    annotations_of,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    owner_reference,
)

MANAGER = "endpointslicemirroring-controller.k8s.io"
_SKIP = "endpointslice.kubernetes.io/skip-mirror"
_LEADER = "control-plane.alpha.kubernetes.io/leader"
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_ENDPOINTS = 1000  # of one subset

_Ports = tuple[tuple[tuple[str, object], ...], ...]
_Group = tuple[str, _Ports]

# Decisions.


@dataclass(slots=True)
class Mirrored:
    """What Endpoints amount to."""

    groups: dict[_Group, list[Obj]] = field(default_factory=dict)
    invalid: int = 0  # addresses that are none
    skipped: int = 0  # addresses left out, the invalid ones among them


def is_mirrored(endpoints: Obj, service: Obj | None) -> bool:
    """Whether they are to have slices: not when a controller writes them, or they are no endpoints but a lock."""
    if service is None or selects_pods(service) or is_deleting(endpoints):
        return False
    return labels_of(endpoints).get(_SKIP) != "true" and _LEADER not in annotations_of(endpoints)


def read(endpoints: Obj, most: int = MAX_ENDPOINTS) -> Mirrored:
    """Sort the addresses by what slices may not mix: address family and ports."""
    found = Mirrored()
    for subset in endpoints.get("subsets") or ():
        ports = tuple(tuple(sorted(_port(port).items())) for port in subset.get("ports") or ())
        addresses = [(one, True) for one in subset.get("addresses") or ()]
        addresses += [(one, False) for one in subset.get("notReadyAddresses") or ()]
        taken = 0
        for address, ready in addresses:
            family = _family(address["ip"])
            if taken == most or not family:
                found.skipped += 1
                found.invalid += not family and taken < most
                continue
            taken += 1
            found.groups.setdefault((family, ports), []).append(_endpoint(address, ready=ready))
    return found


def _port(port: Obj) -> Obj:
    return {"name": "", "protocol": "TCP", **{name: value for name, value in port.items() if value is not None}}


def _family(address: str) -> str:
    try:
        return f"IPv{ipaddress.ip_address(address).version}"
    except ValueError:
        return ""


def _endpoint(address: Obj, *, ready: bool) -> Obj:
    made: Obj = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for name in ("hostname", "nodeName", "targetRef"):
        if address.get(name):
            made[name] = address[name]
    return made


def mirror(endpoints: Obj, groups: dict[_Group, list[Obj]], slices: Iterable[Obj]) -> Plan:
    """How to get from the slices there are to one for each group."""
    plan = Plan()
    existing: dict[_Group, list[Obj]] = {}
    for one in slices:
        ports = tuple(tuple(sorted(_port(port).items())) for port in one.get("ports") or ())
        existing.setdefault((one.get("addressType", ""), ports), []).append(one)
    for group, members in groups.items():
        found = existing.pop(group, [])
        if not found:
            plan.create.append({**_slice(endpoints, group), "endpoints": members})
            continue
        first, *others = found
        plan.delete += others
        wanted = {**first, "endpoints": members, "metadata": {**first["metadata"], **_marks(endpoints)}}
        if _by_address(members) != _by_address(first.get("endpoints") or ()) or _remarked(wanted, first):
            plan.update.append(wanted)
    plan.delete += [one for rest in existing.values() for one in rest]
    _reuse(plan)
    return plan


def _reuse(plan: Plan) -> None:
    """Rewrite slices rather than delete them beside others that are made; family and ports cannot be rewritten."""
    for fresh in list(plan.create):
        same = [old for old in plan.delete if old.get("addressType") == fresh["addressType"]]
        if same:
            old = same[0]
            plan.create.remove(fresh)
            plan.delete.remove(old)
            metadata = {**old["metadata"], **{key: fresh["metadata"][key] for key in ("annotations", "labels")}}
            plan.update.append({**old, **fresh, "metadata": metadata})


def _by_address(members: Sequence[Obj]) -> list[Obj]:
    return sorted(members, key=lambda one: str(one["addresses"]))


def _remarked(wanted: Obj, found: Obj) -> bool:
    return any(
        wanted["metadata"].get(part) != (found["metadata"].get(part) or {}) for part in ("annotations", "labels")
    )


def _marks(endpoints: Obj) -> Obj:
    kept = {key: value for key, value in annotations_of(endpoints).items() if key not in (TRIGGER_TIME, _LAST_APPLIED)}
    labels = {**labels_of(endpoints), SERVICE_NAME: name_of(endpoints), MANAGED_BY: MANAGER}
    return {"annotations": kept, "labels": labels}


def _slice(endpoints: Obj, group: _Group) -> Obj:
    family, ports = group
    metadata = {
        "generateName": f"{name_of(endpoints)}-",
        "namespace": namespace_of(endpoints),
        "ownerReferences": [owner_reference(endpoints)],
        **_marks(endpoints),
    }
    return {
        "apiVersion": ENDPOINT_SLICES.api_version,
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "ports": [dict(port) for port in ports],
    }


# The controller.


class EndpointSliceMirroringController(Controller):
    """One key is one Endpoints object, and its Service."""

    name = "endpointslice-mirroring-controller"
    component = "endpoint-slice-mirroring-controller"

    def __init__(self, client: Client, informers: InformerFactory, *, most: int = MAX_ENDPOINTS) -> None:
        self._most = most
        super().__init__(client, informers)

    def setup(self) -> None:
        self.endpoints = self.watch(ENDPOINTS, itself)
        self.services = self.watch(SERVICES, itself)
        self.slices = self.watch(ENDPOINT_SLICES, mirrored_from)
        self.slices.add_index("mirrored", mirrored_from)
        self.expectations = Expectations(self.slices)

    async def reconcile(self, key: str) -> None:
        if not self.expectations.satisfied(key):
            return
        endpoints = self.endpoints.store.get(key)
        slices = [one for one in self.slices.store.by_index("mirrored", key) if not is_deleting(one)]
        if endpoints is None or not is_mirrored(endpoints, self.services.store.get(key)):
            for one in slices:
                await self._delete(key, one)
            return
        found = read(endpoints, self._most)
        self._say_what_is_missing(endpoints, found)
        plan = mirror(endpoints, found.groups, slices)
        for wanted in plan.create:
            self.expectations.created(key_of(endpoints), await self.client.create(ENDPOINT_SLICES, wanted))
        for wanted in plan.update:
            await self.client.update(ENDPOINT_SLICES, wanted)
        for one in plan.delete:
            await self._delete(key, one)

    def _say_what_is_missing(self, endpoints: Obj, found: Mirrored) -> None:
        if found.invalid:
            message = f"Skipped {found.invalid} invalid IP addresses when mirroring to EndpointSlices"
            self.recorder.event(endpoints, "Warning", "InvalidIPAddress", message)
        if found.skipped > found.invalid:
            message = (
                f"A max of {self._most} addresses can be mirrored to EndpointSlices per Endpoints subset. "
                f"{found.skipped} addresses were skipped"
            )
            self.recorder.event(endpoints, "Warning", "TooManyAddressesToMirror", message)

    async def _delete(self, key: str, one: Obj) -> None:
        try:
            await self.client.delete(ENDPOINT_SLICES, name_of(one), namespace_of(one), uid=one["metadata"]["uid"])
        except ApiError as error:
            if not error.is_not_found:
                raise
        else:
            self.expectations.deleted(key, one)


def mirrored_from(one: Obj) -> Iterable[str]:
    """Index function: the key of the Endpoints that our slice is a copy of."""
    labels = labels_of(one)
    if labels.get(MANAGED_BY) != MANAGER or not labels.get(SERVICE_NAME):
        return ()
    return (f"{namespace_of(one)}/{labels[SERVICE_NAME]}",)
