"""Network policies: which pods may talk to which.

Specified in https://kubernetes.io/docs/concepts/services-networking/network-policies/.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, optional_one_of
from pinnace.apis.fields import AGE, NAME, age, column, name, selector_text, spec_of
from pinnace.apis.kind import Rules
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import label_selector_errors


def default(policy: Obj) -> None:
    """Without types, a policy is for ingress, and for egress if it has rules for it."""
    spec = policy.setdefault("spec", {})
    spec.setdefault("podSelector", {})
    for direction in ("ingress", "egress"):
        for rule in spec.get(direction) or ():
            for port in rule.get("ports") or ():
                if not port.get("protocol"):
                    port["protocol"] = "TCP"
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def validate(policy: Obj) -> list[Cause]:
    spec = spec_of(policy)
    errors = label_selector_errors(spec.get("podSelector"), "spec.podSelector")
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{index}]"
            for place, port in enumerate(rule.get("ports") or ()):
                errors += _port(port, f"{path}.ports[{place}]")
            for place, peer in enumerate(rule.get(peers) or ()):
                errors += _peer(peer, f"{path}.{peers}[{place}]")
    types = spec.get("policyTypes") or []
    if len(types) > 2:
        why = "may not specify more than two policyTypes"
        return [*errors, invalid_value("spec.policyTypes", types, why)]
    for index, kind in enumerate(types):
        if kind not in ("Egress", "Ingress"):
            errors.append(not_supported(f"spec.policyTypes[{index}]", kind, ("Egress", "Ingress")))
    return errors


def _port(port: Obj, path: str) -> list[Cause]:
    errors = optional_one_of(f"{path}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
    number, end = port.get("port"), port.get("endPort")
    if isinstance(number, int):
        errors += every(f"{path}.port", number, names.is_port_number(number))
        if end is not None and end < number:
            errors.append(invalid_value(f"{path}.endPort", end, "must be greater than or equal to `port`"))
    elif number is not None:
        if end is not None:
            errors.append(invalid_value(f"{path}.endPort", end, "may not be specified when `port` is non-numeric"))
        errors += every(f"{path}.port", number, names.is_port_name(number))
    elif end is not None:
        errors.append(invalid_value(f"{path}.endPort", end, "may not be specified when `port` is not specified"))
    return errors


def _peer(peer: Obj, path: str) -> list[Cause]:
    errors: list[Cause] = []
    selectors = [key for key in ("podSelector", "namespaceSelector") if peer.get(key) is not None]
    for key in selectors:
        errors += label_selector_errors(peer[key], f"{path}.{key}")
    block = peer.get("ipBlock")
    if block is not None:
        cidr = block.get("cidr")
        errors += (
            every(f"{path}.ipBlock.cidr", cidr, names.is_cidr(cidr)) if cidr else [required(f"{path}.ipBlock.cidr")]
        )
        for index, other in enumerate(block.get("except") or ()):
            at, bad = f"{path}.ipBlock.except[{index}]", names.is_cidr(other)
            errors += every(at, other, bad)
            if not bad and cidr and not names.is_cidr(cidr) and not _is_part(other, cidr):
                errors.append(invalid_value(at, other, "must be a strict subset of `cidr`"))
        if selectors:
            errors.append(field_forbidden(path, "may not specify both ipBlock and another peer"))
    elif not selectors:
        errors.append(required(path, "must specify a peer"))
    return errors


def _is_part(inner: str, outer: str) -> bool:
    part, whole = (ipaddress.ip_network(one, strict=False) for one in (inner, outer))
    return part.version == whole.version and part.prefixlen > whole.prefixlen and part.network_address in whole


def row(policy: Obj, now: datetime) -> list[Any]:
    return [name(policy), selector_text(spec_of(policy).get("podSelector")), age(policy, now)]


NETWORK_POLICY = Rules(
    columns=(NAME, column("Pod-Selector"), AGE),
    row=row,
    default=default,
    validate=validate,
)
