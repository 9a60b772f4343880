"""Services, EndpointSlices and Namespaces as DNS records: a pure index that answers questions.

The schema is Kubernetes' DNS-based service discovery 1.1.0
(https://github.com/kubernetes/dns/blob/master/docs/specification.md); where it leaves a choice, CoreDNS' is taken:
endpoints without a host name are named by their address with dashes, and an SRV question for a Service names all ports.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from pinnace.machinery.meta import Obj, key_of, labels_of, name_of, namespace_of

SCHEMA_VERSION = "1.1.0"
PRIORITY, WEIGHT = 0, 100  # of SRV records

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_SERVICE_LABEL = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record; `data` is an address, a name without the last dot, a text, or `(port, name)` for SRV."""

    name: str
    type: str  # A, AAAA, CNAME, PTR, SRV, TXT, NS
    data: str | tuple[int, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a name; `exists` without records is NODATA, not `exists` is NXDOMAIN."""

    exists: bool
    records: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()
    alias: str = ""  # a name outside of the cluster that the last record, a CNAME, leads to


@dataclass(slots=True)
class _Service:
    namespace: str
    name: str
    addresses: tuple[str, ...]  # cluster IPs; none for a headless or external one
    external_name: str
    ports: tuple[tuple[str, str, int], ...]  # (name, protocol, number)

    @property
    def headless(self) -> bool:
        return not self.addresses and not self.external_name


@dataclass(slots=True)
class _Slice:
    service: tuple[str, str]  # namespace and name
    endpoints: tuple[tuple[str, str, bool], ...]  # (name, address, whether the name is its own); ready ones only
    ports: tuple[tuple[str, str, int], ...]


NXDOMAIN = Answer(False)
NODATA = Answer(True)


def is_ipv4(address: str) -> bool:
    return ":" not in address


def _canonical(address: str) -> str:
    """An IP address in its usual form; empty for anything else, `None` of headless Services among it."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return ""


def _addresses(name: str, addresses: Iterable[str]) -> tuple[Record, ...]:
    return tuple(Record(name, "A" if is_ipv4(address) else "AAAA", address) for address in addresses)


def dashed(address: str) -> str:
    """`10.1.2.3` as a label: `10-1-2-3`."""
    return address.replace(".", "-").replace(":", "-")


def address_of_label(label: str) -> str:
    """Undo `dashed`; empty where the label is no address."""
    for text in (label.replace("-", "."), label.replace("-", ":")):
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            continue
    return ""


def reverse_address(name: str) -> str:
    """The address that a name below in-addr.arpa or ip6.arpa asks for; empty where it is none."""
    for suffix, separator, width in ((".in-addr.arpa", ".", 1), (".ip6.arpa", ":", 4)):
        if not name.endswith(suffix):
            continue
        digits = name[: -len(suffix)].split(".")[::-1]
        groups = ["".join(digits[start : start + width]) for start in range(0, len(digits), width)]
        try:
            return str(ipaddress.ip_address(separator.join(groups)))
        except ValueError:
            return ""
    return ""


@dataclass(slots=True)
class Zone:
    """Everything below one cluster domain. Objects go in as they come and go; `lookup` answers."""

    domain: str = "cluster.local"
    _services: dict[tuple[str, str], _Service] = field(default_factory=dict)
    _by_address: dict[str, tuple[str, str]] = field(default_factory=dict)  # cluster IP -> Service
    _slices: dict[str, _Slice] = field(default_factory=dict)
    _slices_of: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)  # Service -> keys of its slices
    _named: dict[str, dict[str, str]] = field(default_factory=dict)  # address -> slice key -> name of the endpoint
    _namespaces: set[str] = field(default_factory=set)

    # Objects.

    def set_service(self, service: Obj) -> None:
        self.remove_service(service)
        spec = service.get("spec") or {}
        listed = spec.get("clusterIPs") or [spec.get("clusterIP") or ""]
        external = spec.get("externalName", "").lower().rstrip(".") if spec.get("type") == "ExternalName" else ""
        made = _Service(
            namespace=namespace_of(service),
            name=name_of(service),
            addresses=() if external else tuple(filter(None, map(_canonical, listed))),
            external_name=external,
            ports=_ports(spec.get("ports"), "port"),
        )
        key = (made.namespace, made.name)
        self._services[key] = made
        for address in made.addresses:
            self._by_address[address] = key

    def remove_service(self, service: Obj) -> None:
        key = (namespace_of(service), name_of(service))
        gone = self._services.pop(key, None)
        for address in gone.addresses if gone else ():
            if self._by_address.get(address) == key:
                del self._by_address[address]

    def set_slice(self, piece: Obj) -> None:
        self.remove_slice(piece)
        service = labels_of(piece).get(_SERVICE_LABEL)
        if not service or piece.get("addressType") == "FQDN":
            return
        key = key_of(piece)
        made = _Slice((namespace_of(piece), service), tuple(_endpoints(piece)), _ports(piece.get("ports"), "port"))
        self._slices[key] = made
        self._slices_of.setdefault(made.service, {})[key] = None
        for name, address, own in made.endpoints:
            if own:
                full = f"{name}.{service}.{namespace_of(piece)}.svc.{self.domain}"
                self._named.setdefault(address, {})[key] = full

    def remove_slice(self, piece: Obj) -> None:
        key = key_of(piece)
        gone = self._slices.pop(key, None)
        if gone is None:
            return
        _discard(self._slices_of, gone.service, key)
        for _, address, _ in gone.endpoints:
            _discard(self._named, address, key)

    def set_namespace(self, namespace: Obj) -> None:
        self._namespaces.add(name_of(namespace))

    def remove_namespace(self, namespace: Obj) -> None:
        self._namespaces.discard(name_of(namespace))

    # Questions.

    def covers(self, name: str) -> bool:
        """Whether the name, in lower case and without the last dot, is the zone's or below it."""
        return name == self.domain or name.endswith("." + self.domain)

    def lookup(self, name: str, kind: str) -> Answer | None:
        """What the cluster knows of a name (lower case, no last dot) for a type of record; None: ask others."""
        if not self.covers(name):
            return self._reverse(name, kind)
        labels = name[: -len(self.domain)].rstrip(".").split(".") if name != self.domain else []
        if not labels:
            return self._answer([Record(name, "NS", f"ns.dns.{self.domain}")], kind)
        if labels == ["dns-version"]:
            return self._answer([Record(name, "TXT", SCHEMA_VERSION)], kind)
        if labels[-1] == "dns":
            return self._name_server(name, labels, kind)
        if labels[-1] == "svc":
            return self._service_name(name, labels[:-1], kind)
        if labels[-1] == "pod":
            return self._pod_name(name, labels[:-1], kind)
        return NXDOMAIN

    def _answer(self, records: Sequence[Record], kind: str) -> Answer:
        return Answer(True, tuple(record for record in records if kind in (record.type, "ANY")))

    def _name_server(self, name: str, labels: list[str], kind: str) -> Answer:
        if labels == ["dns"]:
            return NODATA
        dns = self._services.get(("kube-system", "kube-dns"))
        if labels != ["ns", "dns"]:
            return NXDOMAIN
        return self._answer(_addresses(name, dns.addresses if dns else ()), kind)

    def _reverse(self, name: str, kind: str) -> Answer | None:
        address = reverse_address(name)
        if not address:
            return None
        service = self._by_address.get(address)
        if service is not None:
            names: Iterable[str] = [f"{service[1]}.{service[0]}.svc.{self.domain}"]
        else:
            names = dict.fromkeys(self._named.get(address, {}).values())
        records = [Record(name, "PTR", found) for found in names]
        return self._answer(records, kind) if records else None

    def _pod_name(self, name: str, labels: list[str], kind: str) -> Answer:
        if not labels:
            return NODATA
        if labels[-1] not in self._namespaces or len(labels) > 2:
            return NXDOMAIN
        if len(labels) == 1:
            return NODATA
        address = address_of_label(labels[0])
        return self._answer(_addresses(name, [address]), kind) if address else NXDOMAIN

    def _service_name(self, name: str, labels: list[str], kind: str) -> Answer:
        if not labels:
            return NODATA
        if len(labels) == 1:
            return NODATA if labels[0] in self._namespaces else NXDOMAIN
        service = self._services.get((labels[-1], labels[-2]))
        if service is None or len(labels) > 4:
            return NXDOMAIN
        if len(labels) == 2:
            return self._whole_service(service, name, kind)
        if service.external_name:
            return NXDOMAIN
        if len(labels) == 4:
            return self._port(service, name, labels[0], labels[1], kind)
        if labels[0].startswith("_"):
            known = any(protocol == labels[0][1:] and port for port, protocol, _ in service.ports)
            return NODATA if known else NXDOMAIN
        found = [address for label, address in self._ready(service) if label == labels[0]]
        return self._answer(_addresses(name, dict.fromkeys(found)), kind) if found else NXDOMAIN

    def _whole_service(self, service: _Service, name: str, kind: str) -> Answer:
        if service.external_name:
            return self._external(service, name, kind)
        endpoints = [] if service.addresses else list(self._ready(service))
        if service.headless and not endpoints:
            return NXDOMAIN
        if kind == "SRV":
            return self._srv(service, name, service.ports)
        addresses = service.addresses or tuple(dict.fromkeys(address for _, address in endpoints))
        return self._answer(_addresses(name, addresses), kind)

    def _external(self, service: _Service, name: str, kind: str) -> Answer:
        alias = Record(name, "CNAME", service.external_name)
        if kind in ("CNAME", "ANY"):
            return Answer(True, (alias,))
        if not self.covers(service.external_name):
            return Answer(True, (alias,), alias=service.external_name)
        if service.external_name == name:
            return Answer(True, (alias,))
        target = self._services_only(service.external_name, kind)
        return Answer(True, (alias, *target.records), target.additional)

    def _services_only(self, name: str, kind: str) -> Answer:
        """Look an alias' target up; one that is an alias itself ends there, so that aliases cannot circle."""
        labels = name[: -len(self.domain)].rstrip(".").split(".")
        if len(labels) >= 3 and labels[-1] == "svc":
            service = self._services.get((labels[-2], labels[-3]))
            if service and service.external_name:
                return Answer(True, (Record(name, "CNAME", service.external_name),))
        return self.lookup(name, kind) or NXDOMAIN

    def _port(self, service: _Service, name: str, port: str, protocol: str, kind: str) -> Answer:
        if not port.startswith("_") or not protocol.startswith("_"):
            return NXDOMAIN
        asked = [item for item in service.ports if item[0] == port[1:] and item[1] == protocol[1:]]
        if not asked:
            return NXDOMAIN
        answer = self._srv(service, name, asked)
        if not answer.records:
            return NXDOMAIN
        return answer if kind in ("SRV", "ANY") else NODATA

    def _srv(self, service: _Service, name: str, ports: Sequence[tuple[str, str, int]]) -> Answer:
        whole = f"{service.name}.{service.namespace}.svc.{self.domain}"
        if service.addresses:
            records = [Record(name, "SRV", (number, whole)) for _, _, number in ports]
            return Answer(True, tuple(records), _addresses(whole, service.addresses))
        found: dict[Record, None] = {}
        additional: dict[Record, None] = {}
        wanted = {(port, protocol) for port, protocol, _ in ports}
        for piece in self._pieces(service):
            for label, address, _ in piece.endpoints:
                target = f"{label}.{whole}"
                for port, protocol, number in piece.ports:
                    if (port, protocol) in wanted:
                        found[Record(name, "SRV", (number, target))] = None
                        additional[_addresses(target, [address])[0]] = None
        return Answer(True, tuple(found), tuple(additional))

    def _pieces(self, service: _Service) -> Iterator[_Slice]:
        for key in self._slices_of.get((service.namespace, service.name), ()):
            yield self._slices[key]

    def _ready(self, service: _Service) -> Iterator[tuple[str, str]]:
        """Name and address of each ready endpoint."""
        for piece in self._pieces(service):
            for label, address, _ in piece.endpoints:
                yield label, address


def _discard(index: dict[_Key, dict[str, _Value]], key: _Key, item: str) -> None:
    """Take `item` out from under `key`, and the key when nothing is left under it."""
    found = index.get(key)
    if found is not None:
        found.pop(item, None)
        if not found:
            del index[key]


def _ports(ports: Iterable[Obj] | None, number: str) -> tuple[tuple[str, str, int], ...]:
    return tuple(
        ((port.get("name") or "").lower(), port.get("protocol", "TCP").lower(), port[number])
        for port in ports or ()
        if port.get(number)
    )


def _endpoints(piece: Obj) -> Iterator[tuple[str, str, bool]]:
    for endpoint in piece.get("endpoints") or ():
        if (endpoint.get("conditions") or {}).get("ready") is False:
            continue
        hostname = (endpoint.get("hostname") or "").lower()
        for address in filter(None, map(_canonical, endpoint.get("addresses") or ())):
            yield hostname or dashed(address), address, bool(hostname)
