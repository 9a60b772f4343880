"""Endpoint slices: some of the addresses behind a service.

Specified in https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, one_of, optional_one_of, unchanged
from pinnace.apis.core.endpoints import validate_endpoint_ip
from pinnace.apis.fields import AGE, NAME, UNSET, age, column, name
from pinnace.apis.kind import Rules
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, required, too_many
from pinnace.machinery.meta import Obj

ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
MAX_ENDPOINTS = 1000
MAX_PORTS = 20000
MAX_ADDRESSES = 100
_SHOWN = 3


def default(endpoint_slice: Obj) -> None:
    for port in endpoint_slice.get("ports") or ():
        if port.get("name") is None:
            port["name"] = ""
        if not port.get("protocol"):
            port["protocol"] = "TCP"


def validate(endpoint_slice: Obj) -> list[Cause]:
    kind = endpoint_slice.get("addressType")
    errors = one_of("addressType", kind, ADDRESS_TYPES)
    endpoints = endpoint_slice.get("endpoints") or []
    if len(endpoints) > MAX_ENDPOINTS:
        return [*errors, too_many("endpoints", len(endpoints), MAX_ENDPOINTS)]
    for index, endpoint in enumerate(endpoints):
        errors += _endpoint(endpoint, kind, f"endpoints[{index}]")
    return errors + _ports(endpoint_slice.get("ports") or [])


def _endpoint(endpoint: Obj, kind: Any, path: str) -> list[Cause]:
    addresses = endpoint.get("addresses") or []
    errors: list[Cause] = []
    if not addresses:
        errors.append(required(f"{path}.addresses", "must contain at least 1 address"))
    elif len(addresses) > MAX_ADDRESSES:
        errors.append(too_many(f"{path}.addresses", len(addresses), MAX_ADDRESSES))
    for index, address in enumerate(addresses):
        at = f"{path}.addresses[{index}]"
        if kind == "FQDN":
            errors += every(at, address, names.is_fully_qualified_domain(address))
        else:
            errors += validate_endpoint_ip(address, at)
            errors += _family(address, kind, at)
    if endpoint.get("nodeName"):
        errors += every(f"{path}.nodeName", endpoint["nodeName"], names.is_dns_subdomain(endpoint["nodeName"]))
    if endpoint.get("hostname"):
        errors += every(f"{path}.hostname", endpoint["hostname"], names.is_dns_label(endpoint["hostname"]))
    return errors


def _family(address: str, kind: Any, path: str) -> list[Cause]:
    if kind == "IPv4" and ":" in address:
        return every(path, address, ["must be an IPv4 address"])
    if kind == "IPv6" and ":" not in address:
        return every(path, address, ["must be an IPv6 address"])
    return []


def _ports(ports: list[Obj]) -> list[Cause]:
    if len(ports) > MAX_PORTS:
        return [too_many("ports", len(ports), MAX_PORTS)]
    errors: list[Cause] = []
    seen = set()
    for index, port in enumerate(ports):
        path, port_name = f"ports[{index}]", port.get("name") or ""
        if port_name:
            errors += every(f"{path}.name", port_name, names.is_dns_label(port_name))
        if port_name in seen:
            errors.append(duplicate(f"{path}.name", port_name))
        seen.add(port_name)
        errors += optional_one_of(f"{path}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
    return errors


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("addressType", new.get("addressType"), old.get("addressType"))


def row(endpoint_slice: Obj, now: datetime) -> list[Any]:
    addresses = [one for endpoint in endpoint_slice.get("endpoints") or () for one in endpoint.get("addresses") or ()]
    ports = [str(port["port"]) if port.get("port") else "*" for port in endpoint_slice.get("ports") or ()]
    return [
        name(endpoint_slice),
        endpoint_slice.get("addressType") or "",
        _some(ports),
        _some(addresses),
        age(endpoint_slice, now),
    ]


def _some(values: list[str]) -> str:
    if not values:
        return UNSET
    text = ",".join(values[:_SHOWN])
    return f"{text} + {len(values) - _SHOWN} more..." if len(values) > _SHOWN else text


ENDPOINT_SLICE = Rules(
    columns=(NAME, column("AddressType"), column("Ports"), column("Endpoints"), AGE),
    row=row,
    default=default,
    validate=validate,
    validate_update=validate_update,
)
