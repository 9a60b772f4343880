"""Service addresses and ports: every cluster IP and node port belongs to one Service.

What is taken follows from the records and from the Services there are, seen through the watch cache; what is being
written is reserved until the write is through. Records are written with their Service, so that of two servers that give
out one value at the same moment one tries another. https://kubernetes.io/docs/reference/networking/virtual-ips/#ip-address-objects
and https://kubernetes.io/docs/concepts/services-networking/service/#type-nodeport.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import Any

from pinnace.apis.core.service_families import HEADLESS, family_of, settle
from pinnace.apis.kind import Kind
from pinnace.apis.resources import IP_ADDRESSES, SERVICE_CIDRS, SERVICES
from pinnace.apiserver.allocation.pools import CLASSIC_ADDRESSES, Pool, Span, address_span, port_span
from pinnace.apiserver.allocation.records import IpAddresses, Ledger, Records, address_text, number_of
from pinnace.apiserver.cache import CachedObject, Event, Filter, Watcher
from pinnace.apiserver.storage import Storage
from pinnace.machinery import errors
from pinnace.machinery.errors import Cause
from pinnace.machinery.meta import Obj, get_in, is_deleting, key_of
from pinnace.store.contract import Write

_NODE_PORT_TYPES = ("NodePort", "LoadBalancer")


class Book:
    """One sort of value: which are taken, and the record of who has them."""

    def __init__(self, records: Records, spans: Iterable[Span]) -> None:
        self.records = records
        self.pool = Pool(tuple(spans))

    def changed(self, value: int, taken: bool) -> None:
        if taken:
            self.pool.take(value)
        else:
            self.pool.give_back(value)


Holdings = list[tuple[Book, int]]


class Claim:
    """What one write of a Service needs, reserved until `release`."""

    def __init__(self, old: Obj | None, held: Holdings) -> None:
        self._old = old
        self.held = held  # by the Service as it was
        self.wanted: Holdings = []  # by the Service as it is to be
        self._filled: list[tuple[Obj, str, Any]] = []

    def reserve(self, book: Book, value: int) -> None:
        book.pool.take(value)
        self.wanted.append((book, value))

    def fill(self, where: Obj, field: str, value: Any) -> None:
        """Set a field that its author left to us."""
        self._filled.append((where, field, where.get(field)))
        where[field] = value

    def writes(self, service: Obj) -> list[Write]:
        """What is to be written together with the Service, to put on record what it has from now on."""
        found = {
            (book, value): book.records.claim(value, service)
            for book, value in self.wanted
            if book.records.owner(value) is None
        }
        kept = set(self.wanted)
        return [*found.values(), *_releases([one for one in self.held if one not in kept], self._old)]

    def lose(self) -> None:
        """Another server was first: leave the fields that were filled to the next attempt."""
        for where, field, before in reversed(self._filled):
            if before is None:
                where.pop(field, None)
            else:
                where[field] = before
        self._filled.clear()

    def release(self) -> None:
        """The write is through, or has failed."""
        for book, value in self.wanted:
            book.pool.give_back(value)
        self.wanted.clear()


def _releases(holdings: Holdings, service: Obj | None) -> list[Write]:
    owner = key_of(service) if service is not None else ""
    return [
        book.records.release(value) for book, value in dict.fromkeys(holdings) if book.records.owner(value) == owner
    ]


NOTHING = Claim(None, [])
"""Of every kind but Services."""


class Reservations:
    """Gives Services their addresses and ports as part of their being written. To be made before the storage starts.

    `cidrs` are a range, or one of each family separated by a comma, the one that Services have by default first.
    """

    def __init__(self, cidrs: str, node_ports: tuple[int, int], storage: Storage) -> None:
        self.cidrs = {family_of(cidr): cidr for cidr in cidrs.split(",")}
        self.families = tuple(self.cidrs)
        self.storage = storage
        self.has_objects = IP_ADDRESSES in storage.caches  # addresses are on record as IPAddresses
        ledgers = (
            [Ledger("servicenodeports")] if self.has_objects else [Ledger("servicenodeports"), Ledger("serviceips")]
        )
        for ledger in ledgers:
            storage.adopt(ledger)
        addresses = IpAddresses(storage.cache(IP_ADDRESSES)) if self.has_objects else ledgers[1]
        self.ips = Book(addresses, self._address_spans())
        self.ports = Book(ledgers[0], [port_span(*node_ports)])
        self._leave: list[Callable[[], None]] = []

    def follow(self) -> None:
        """Take what is taken, and keep up with it, until `stop`."""
        services = self.storage.cache(SERVICES)
        for found in services.objects.values():
            self._take(found)
        self._leave = [
            services.watch(Watcher(Filter(), self._service_changed)),
            self.ips.records.follow(self.ips.changed),
            self.ports.records.follow(self.ports.changed),
        ]
        if self.has_objects:
            self.ips.pool.spans = self._address_spans()
            self._leave.append(self.storage.cache(SERVICE_CIDRS).watch(Watcher(Filter(), self._ranges_changed)))

    def stop(self) -> None:
        for leave in self._leave:
            leave()
        self._leave.clear()

    def is_in_some_range(self, address: int) -> bool:
        """Whether an address is of the flag's range or of a ServiceCIDR's, ready or not."""
        cidrs = set(self.cidrs.values())
        for item in self.storage.cache(SERVICE_CIDRS).objects.values():
            cidrs.update(get_in(item.obj(), "spec", "cidrs") or ())
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(cidr, strict=False) for cidr in cidrs)

    def _address_spans(self) -> tuple[Span, ...]:
        """The ranges of the flag, and those of the ServiceCIDRs that are ready."""
        if not self.has_objects:
            return tuple(address_span(cidr, CLASSIC_ADDRESSES) for cidr in self.cidrs.values())
        found = {cidr: address_span(cidr) for cidr in self.cidrs.values()}
        for item in self.storage.cache(SERVICE_CIDRS).objects.values():
            if is_ready(item.obj()):
                for cidr in get_in(item.obj(), "spec", "cidrs") or ():
                    if family_of(cidr) in self.cidrs:
                        found.setdefault(cidr, address_span(cidr))
        return tuple(found.values())

    def _ranges_changed(self, _: str, __: CachedObject, ___: Event) -> None:
        self.ips.pool.spans = self._address_spans()

    def _service_changed(self, _: str, __: CachedObject, event: Event) -> None:
        if event.new is not None:
            self._take(event.new)
        if event.old is not None:
            for book, value in self.holdings(event.old.obj()):
                book.pool.give_back(value)

    def _take(self, service: CachedObject) -> None:
        for book, value in self.holdings(service.obj()):
            book.pool.take(value)

    def holdings(self, service: Obj) -> Holdings:
        """What a Service has."""
        spec = service.get("spec") or {}
        return [(self.ips, ip) for ip in _ips(spec)] + [(self.ports, port) for port in _ports(spec)]

    def releases(self, kind: Kind, service: Obj) -> list[Write]:
        """What is to be written together with the deletion of an object."""
        if kind.plural != "services" or kind.group:
            return []
        return _releases(self.holdings(service), service)

    def claim(self, kind: Kind, new: Obj, old: Obj | None) -> Claim:
        """Fill in what `new` needs, and reserve it.

        Raises 422 for a value that is taken or outside its range.
        """
        if kind.plural != "services" or kind.group:
            return NOTHING
        spec = new.get("spec")
        if not isinstance(spec, dict):
            return NOTHING
        claim = Claim(old, self.holdings(old) if old is not None else [])
        try:
            before = (old.get("spec") or {}) if old is not None else None
            causes = settle(spec, before, self.families)
            if not causes:
                causes = self._fill_ips(spec, before, claim) + self._fill_ports(spec, claim)
            if causes:
                raise errors.invalid("Service", new["metadata"].get("name", ""), causes)
        except errors.ApiError:
            claim.release()
            raise
        return claim

    # Addresses.

    def _fill_ips(self, spec: Obj, before: Obj | None, claim: Claim) -> list[Cause]:
        """An address for each family of the Service."""
        if spec.get("type") == "ExternalName" or spec.get("clusterIP") == HEADLESS:
            return []
        ips = list(spec.get("clusterIPs") or ())
        for index, family in enumerate(spec.get("ipFamilies") or ()):
            asked = ips[index] if index < len(ips) else ""
            value = number_of(asked) if asked else self.ips.pool.pick(self._spans_of(family))
            if value is None:
                why = "failed to allocate a serviceIP: range is full"
                return [errors.invalid_value("spec.clusterIPs", ips, why)]
            if not asked:
                ips.append(address_text(value))
            elif (self.ips, value) not in claim.held:
                if _has_address(before, index):
                    continue  # validation says that it cannot be another
                if cause := self._refuse_ip(asked, family, value, ips):
                    return [cause]
            claim.reserve(self.ips, value)
        if ips and ips != spec.get("clusterIPs"):
            claim.fill(spec, "clusterIPs", ips)
            claim.fill(spec, "clusterIP", ips[0])
        return []

    def _spans_of(self, family: str) -> tuple[Span, ...]:
        return tuple(span for span in self.ips.pool.spans if family_of(address_text(span.first)) == family)

    def _refuse_ip(self, asked: str, family: str, value: int, ips: list[str]) -> Cause | None:
        if not self.ips.pool.covers(value):
            why = f"failed to allocate IP {asked}: {self._why_outside(asked, family)}"
            return errors.invalid_value("spec.clusterIPs", ips, why)
        if value in self.ips.pool:
            why = f"failed to allocate IP {asked}: provided IP is already allocated"
            return errors.invalid_value("spec.clusterIPs", ips, why)
        return None

    def _why_outside(self, asked: str, family: str) -> str:
        network = ipaddress.ip_network(self.cidrs[family])
        if self.has_objects and ipaddress.ip_address(asked) not in network:
            return "the provided network does not match the current range"
        return f"the provided IP ({asked}) is not in the valid range. The range of valid IPs is {network}"

    # Ports.

    def _fill_ports(self, spec: Obj, claim: Claim) -> list[Cause]:
        causes: list[Cause] = []
        if spec.get("type") not in _NODE_PORT_TYPES:
            return causes
        wanted = spec.get("type") == "NodePort" or spec.get("allocateLoadBalancerNodePorts") is not False
        given: dict[int, set[str]] = {}  # one number may serve several protocols of one Service
        for index, port in enumerate(spec.get("ports") or ()):
            where = f"spec.ports[{index}].nodePort"
            number = port.get("nodePort") or 0
            protocol = port.get("protocol", "TCP")
            if number:
                if number in given and protocol not in given[number]:
                    given[number].add(protocol)
                    continue
                cause = self._refuse_port(where, number, claim, number in given)
                if cause:
                    causes.append(cause)
                    continue
            elif wanted:
                number = self._port_of_sibling(port, protocol, given, spec)
                if number in given:
                    claim.fill(port, "nodePort", number)
                    given[number].add(protocol)
                    continue
                picked = self.ports.pool.pick()
                if picked is None:
                    causes.append(errors.invalid_value(where, 0, "failed to allocate a nodePort: range is full"))
                    continue
                number = picked
                claim.fill(port, "nodePort", number)
            else:
                continue
            given.setdefault(number, set()).add(protocol)
            claim.reserve(self.ports, number)
        return causes + self._fill_health_port(spec, claim)

    @staticmethod
    def _port_of_sibling(port: Obj, protocol: str, given: dict[int, set[str]], spec: Obj) -> int:
        """The node port of another entry with the same port and another protocol (DNS over TCP and UDP)."""
        for other in spec.get("ports") or ():
            number = other.get("nodePort") or 0
            same = other is not port and other.get("port") == port.get("port")
            if same and number in given and protocol not in given[number]:
                return int(number)
        return 0

    def _fill_health_port(self, spec: Obj, claim: Claim) -> list[Cause]:
        if spec.get("type") != "LoadBalancer" or spec.get("externalTrafficPolicy") != "Local":
            spec.pop("healthCheckNodePort", None)
            return []
        number = spec.get("healthCheckNodePort") or 0
        if number:
            cause = self._refuse_port("spec.healthCheckNodePort", number, claim, False)
            if cause:
                return [cause]
        else:
            picked = self.ports.pool.pick()
            if picked is None:
                why = "failed to allocate a nodePort: range is full"
                return [errors.invalid_value("spec.healthCheckNodePort", 0, why)]
            number = picked
            claim.fill(spec, "healthCheckNodePort", number)
        claim.reserve(self.ports, number)
        return []

    def _refuse_port(self, where: str, number: int, claim: Claim, again: bool) -> Cause | None:
        pool = self.ports.pool
        if not pool.covers(number):
            span = pool.spans[0]
            why = f"provided port is not in the valid range. The range of valid ports is {span.first}-{span.last}"
            return errors.invalid_value(where, number, why)
        if again or (number in pool and (self.ports, number) not in claim.held):
            return errors.invalid_value(where, number, "provided port is already allocated")
        return None


def _has_address(spec: Obj | None, index: int) -> bool:
    return spec is not None and spec.get("type") != "ExternalName" and index < len(spec.get("clusterIPs") or ())


def is_ready(service_cidr: Obj) -> bool:
    """Whether addresses may be given out of a ServiceCIDR; nobody may have said so yet where no controller runs."""
    if is_deleting(service_cidr):
        return False
    for condition in get_in(service_cidr, "status", "conditions") or ():
        if condition.get("type") == "Ready":
            return bool(condition.get("status") == "True")
    return True


def _ips(spec: Obj) -> Iterable[int]:
    for text in spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else []):
        try:
            yield number_of(text)
        except ValueError:
            continue


def _ports(spec: Obj) -> Iterable[int]:
    found = {port.get("nodePort") for port in spec.get("ports") or ()} | {spec.get("healthCheckNodePort")}
    return (port for port in found if port)
