"""Endpoints: the addresses behind a service, as they were listed before endpoint slices.

Specified in https://kubernetes.io/docs/reference/kubernetes-api/service-resources/endpoints-v1/.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, one_of
from pinnace.apis.fields import AGE, NAME, NONE, age, column, name
from pinnace.apis.kind import Rules
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, invalid_value, required
from pinnace.machinery.meta import Obj

_SHOWN = 3
_LOCAL_MULTICAST = ipaddress.ip_network("224.0.0.0/24")


def default(endpoints: Obj) -> None:
    for subset in endpoints.get("subsets") or ():
        for port in subset.get("ports") or ():
            if not port.get("protocol"):
                port["protocol"] = "TCP"


def validate(endpoints: Obj) -> list[Cause]:
    errors: list[Cause] = []
    for index, subset in enumerate(endpoints.get("subsets") or ()):
        path = f"subsets[{index}]"
        ready, waiting = subset.get("addresses") or [], subset.get("notReadyAddresses") or []
        if not ready and not waiting:
            errors.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
        for key in ("addresses", "notReadyAddresses"):
            for place, address in enumerate(subset.get(key) or ()):
                errors += _address(address, f"{path}.{key}[{place}]")
        ports = subset.get("ports") or []
        for place, port in enumerate(ports):
            errors += _port(port, len(ports) > 1, f"{path}.ports[{place}]")
    return errors


def _address(address: Obj, path: str) -> list[Cause]:
    errors = validate_endpoint_ip(address.get("ip") or "", f"{path}.ip")
    if address.get("hostname"):
        errors += every(f"{path}.hostname", address["hostname"], names.is_dns_label(address["hostname"]))
    if address.get("nodeName") is not None:
        errors += every(f"{path}.nodeName", address["nodeName"], names.is_dns_subdomain(address["nodeName"]))
    return errors


def validate_endpoint_ip(ip: str, path: str) -> list[Cause]:
    """An address that traffic may be sent to from another machine."""
    if bad := every(path, ip, names.is_ip(ip)):
        return bad
    address = ipaddress.ip_address(ip)
    if address.is_unspecified:
        return [invalid_value(path, ip, f"may not be unspecified ({ip})")]
    if address.is_loopback:
        return [invalid_value(path, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)")]
    if address.is_multicast and (address in _LOCAL_MULTICAST or ip.lower().startswith("ff02:")):
        return [invalid_value(path, ip, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)")]
    if address.is_link_local:
        return [invalid_value(path, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)")]
    return []


def _port(port: Obj, needs_name: bool, path: str) -> list[Cause]:
    errors: list[Cause] = []
    if port.get("name"):
        errors += every(f"{path}.name", port["name"], names.is_dns_label(port["name"]))
    elif needs_name:
        errors.append(required(f"{path}.name"))
    errors += every(f"{path}.port", port.get("port") or 0, names.is_port_number(port.get("port") or 0))
    errors += one_of(f"{path}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
    if port.get("appProtocol"):
        errors += every(f"{path}.appProtocol", port["appProtocol"], names.is_qualified_name(port["appProtocol"]))
    return errors


def row(endpoints: Obj, now: datetime) -> list[Any]:
    return [name(endpoints), _text(endpoints.get("subsets") or []), age(endpoints, now)]


def _text(subsets: list[Obj]) -> str:
    """The first few, and how many more there are."""
    found: list[str] = []
    for subset in subsets:
        ips = [address.get("ip") or "" for address in subset.get("addresses") or ()]
        ports = [port.get("port") for port in subset.get("ports") or ()]
        found += [f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}" for port in ports for ip in ips] if ports else ips
    if not found:
        return NONE
    text = ",".join(found[:_SHOWN])
    return f"{text} + {len(found) - _SHOWN} more..." if len(found) > _SHOWN else text


ENDPOINTS = Rules(columns=(NAME, column("Endpoints"), AGE), row=row, default=default, validate=validate)
