"""Puts the record of addresses and ports right where it and the Services say different things.

Servers keep both in step, so this finds what others did: a record deleted or changed by hand, state brought back from a
snapshot, Services of a time before there were records. Events and their wording are kube-apiserver's; what is wrong is
decided by `address_finding` and `record_finding`, as functions.
https://kubernetes.io/docs/reference/networking/virtual-ips/#ip-address-objects.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple

import structlog

from pinnace.apis.core.service_families import family_of
from pinnace.apis.resources import IP_ADDRESSES, SERVICE_CIDRS, SERVICES
from pinnace.apiserver.allocation.default_range import DEFAULT, ensure_default
from pinnace.apiserver.allocation.records import (
    ALLOCATOR,
    MANAGED_BY,
    address_text,
    is_well_labelled,
    number_of,
    owner_of,
)
from pinnace.apiserver.allocation.reservations import Book, Reservations
from pinnace.apiserver.cache import CachedObject, Event, Filter, Watcher
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    GVR,
    Obj,
    format_micro_time,
    gvk_of,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    parse_time,
    uid_of,
    utc_now,
)
from pinnace.store.contract import StoreError, Write

log = structlog.get_logger()

INTERVAL = 180.0  # seconds between looks at everything
GRACE = 60.0  # seconds that an address may be without its Service, which another program may be about to make
EVENTS = GVR("events.k8s.io", "v1", "events")
_REPORTER = "ipallocator-repair-controller"

Request = Callable[[str, str, Obj | None], Awaitable[Obj]]
"""`(method, path, body)` with the rights of the server itself."""


class Finding(NamedTuple):
    """Something that is wrong with a record, and whether it is to be made anew, deleted, or only told of."""

    reason: str  # of the event; none is written where it is empty
    note: str = ""
    remedy: str = ""  # "claim", "delete" or nothing


def address_finding(
    address: str, service: Obj, record: Obj | None, other: Obj | None, *, in_range: bool
) -> Finding | None:
    """What is wrong with the record of a Service's address. `other` is the Service that the record names, if it is."""
    family = family_of(address)
    where = f"[{family}]: {address}"
    if not in_range:
        return Finding(
            "ClusterIPOutOfRange",
            f"Cluster IP {where} is not within any configured Service CIDR; please recreate service",
        )
    if record is None:
        return Finding("ClusterIPNotAllocated", f"Cluster IP {where} is not allocated; repairing", "claim")
    if owner_of(record) == key_of(service):
        return None if is_well_labelled(record) else Finding("", "", "claim")
    if other is None:
        note = f"the ClusterIP {where} for Service {key_of(service)} has a wrong reference; repairing"
        return Finding("ClusterIPNotAllocated", note, "claim")
    if address in (other["spec"].get("clusterIPs") or ()):
        note = f"Cluster IP [{family}]:{address} was assigned to multiple services; please recreate service"
        return Finding("ClusterIPAlreadyAllocated", note)
    return None


def record_finding(address: Obj, service: Obj | None, now: datetime) -> Finding | None:
    """What is wrong with an IPAddress; `service` is the one that it names, if there is one."""
    if labels_of(address).get(MANAGED_BY) != ALLOCATOR:
        return None
    name, owner = name_of(address), owner_of(address)
    if not owner:
        parent = address["spec"].get("parentRef") or {}
        shown = " ".join(parent.get(part, "") for part in ("group", "resource", "namespace", "name"))
        note = f"IPAddress {name} appears to have been modified, not referencing a Service &{{{shown}}}: cleaning up"
        return Finding("IPAddressNotAllocated", note, "delete")
    if service is None:
        if (now - parse_time(address["metadata"]["creationTimestamp"])).total_seconds() <= GRACE:
            return None
        note = f"IPAddress: {name} for Service {owner} appears to have leaked: cleaning up"
        return Finding("IPAddressNotAllocated", note, "delete")
    if name in (service["spec"].get("clusterIPs") or ()):
        return None
    note = f"IPAddress: {name} for Service {owner} has a wrong reference; cleaning up"
    return Finding("IPAddressWrongReference", note, "delete")


class Repair:
    """`request` has the rights of the server."""

    def __init__(self, reservations: Reservations, request: Request) -> None:
        self._reservations = reservations
        self._storage = reservations.storage
        self._request = request
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Look at everything, and again after a while or when a record was touched; until cancelled."""
        leave = self._watch()
        try:
            while True:
                self._wake.clear()
                await self.once()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(INTERVAL):
                        await self._wake.wait()
        finally:
            for one in leave:
                one()

    def _watch(self) -> list[Callable[[], None]]:
        if not self._reservations.has_objects:
            return []
        pool = self._reservations.ips.pool

        def address(kind: str, obj: CachedObject, _: Event) -> None:
            # Our own deletions come after the Service has let go of the address.
            if kind == "MODIFIED" or (kind == "DELETED" and number_of(obj.name) in pool):
                self._wake.set()

        def cidr(kind: str, obj: CachedObject, _: Event) -> None:
            if kind == "DELETED" and obj.name == DEFAULT:
                self._wake.set()

        caches = self._storage
        return [
            caches.cache(IP_ADDRESSES).watch(Watcher(Filter(), address)),
            caches.cache(SERVICE_CIDRS).watch(Watcher(Filter(), cidr)),
        ]

    async def once(self) -> None:
        """One look at everything."""
        try:
            if self._reservations.has_objects:
                await ensure_default(self._request, tuple(self._reservations.cidrs.values()))
            for found in list(self._storage.cache(SERVICES).objects.values()):
                await self._service(found.obj())
            await self._leaks()
        except (ApiError, StoreError) as error:
            log.warning("cannot put records of addresses right", error=str(error))

    async def _service(self, service: Obj) -> None:
        for book, value in self._reservations.holdings(service):
            is_address = book is self._reservations.ips
            if is_address and self._reservations.has_objects:
                finding = self._judge_address(service, value)
            else:
                finding = self._judge_entry(service, book, value, is_address=is_address)
            if finding is None:
                continue
            action = "ClusterIPAllocation" if is_address else "PortAllocation"
            await self._tell(service, action, finding)
            if finding.remedy:
                claim = book.records.claim(value, service)
                if book.records.owner(value) is not None:
                    claim = claim._replace(expected=book.records.release(value).expected)
                await self._write(claim)

    def _judge_address(self, service: Obj, value: int) -> Finding | None:
        record = self._existing(IP_ADDRESSES, address_text(value))
        other = self._existing(SERVICES, owner_of(record)) if record is not None else None
        return address_finding(
            address_text(value), service, record, other, in_range=self._reservations.is_in_some_range(value)
        )

    def _judge_entry(self, service: Obj, book: Book, value: int, *, is_address: bool) -> Finding | None:
        """As `address_finding`, for records that are no objects."""
        owner = book.records.owner(value)
        if owner == key_of(service):
            return None
        what = f"Port {value}"
        if is_address:
            address = address_text(value)
            what = f"Cluster IP [{family_of(address)}]:{address}"
        prefix = "ClusterIP" if is_address else "Port"
        if owner is not None and self._holds(owner, book, value):
            note = f"{what} was assigned to multiple services; please recreate service"
            return Finding(f"{prefix}AlreadyAllocated", note)
        return Finding(f"{prefix}NotAllocated", f"{what} is not allocated; repairing", "claim")

    def _holds(self, owner: str, book: Book, value: int) -> bool:
        service = self._existing(SERVICES, owner)
        return service is not None and (book, value) in self._reservations.holdings(service)

    async def _leaks(self) -> None:
        """Take off the record what no Service has."""
        now = utc_now()
        for book in (self._reservations.ips, self._reservations.ports):
            for value in book.records:
                owner = book.records.owner(value)
                if owner is None:
                    continue
                if book is self._reservations.ips and self._reservations.has_objects:
                    address = self._existing(IP_ADDRESSES, address_text(value))
                    if address is None:
                        continue
                    finding = record_finding(address, self._existing(SERVICES, owner), now)
                    if finding is None:
                        continue
                    await self._tell(address, "IPAddressAllocation", finding)
                elif self._holds(owner, book, value):
                    continue
                if book.records.owner(value) is not None:  # it may have gone while that was told
                    await self._write(book.records.release(value))

    def _existing(self, resource: GVR, key: str) -> Obj | None:
        found = self._storage.cache(resource).get(key) if key else None
        return found.obj() if found is not None else None

    async def _write(self, write: Write) -> None:
        """What is in the way of it is looked at next time."""
        try:
            await self._storage.store.write([write])
        except (StoreError, KeyError) as error:
            log.info("a record has changed meanwhile", key=write.key, error=str(error))

    async def _tell(self, about: Obj, action: str, finding: Finding) -> None:
        if not finding.reason:
            return
        log.warning("record of addresses and ports", reason=finding.reason, note=finding.note)
        namespace = namespace_of(about) or "default"
        with contextlib.suppress(ApiError):
            event = _event(about, namespace, action, finding)
            await self._request("POST", EVENTS.path(namespace), event)


def _event(about: Obj, namespace: str, action: str, finding: Finding) -> Obj:
    regarding = {
        "apiVersion": gvk_of(about).api_version,
        "kind": gvk_of(about).kind,
        "name": name_of(about),
        "uid": uid_of(about),
    }
    if namespace_of(about):
        regarding["namespace"] = namespace_of(about)
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{name_of(about)}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
        "eventTime": format_micro_time(utc_now()),
        "type": "Warning",
        "reason": finding.reason,
        "action": action,
        "note": finding.note,
        "regarding": regarding,
        "reportingController": _REPORTER,
        "reportingInstance": _REPORTER,
    }
