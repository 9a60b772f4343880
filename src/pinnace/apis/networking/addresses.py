"""Service CIDRs and the IP addresses given out of them.

Specified in https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/service-cidr-v1/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import IMMUTABLE, every, unchanged
from pinnace.apis.fields import AGE, NAME, age, column, name, selectable, spec_of
from pinnace.apis.kind import Rules
from pinnace.apis.metadata import name_is_anything
from pinnace.apis.workload import forget_status
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, invalid_value, required
from pinnace.machinery.meta import Obj


def validate_address(address: Obj) -> list[Cause]:
    """Its name is the address itself, in canonical form."""
    given = address["metadata"].get("name") or ""
    errors = every("metadata.name", given, names.is_ip(given))
    parent = spec_of(address).get("parentRef")
    if not parent:
        return [*errors, required("spec.parentRef")]
    return errors + [required(f"spec.parentRef.{key}") for key in ("resource", "name") if not parent.get(key)]


def validate_address_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("spec.parentRef", spec_of(new).get("parentRef"), spec_of(old).get("parentRef"))


def row_address(address: Obj, now: datetime) -> list[Any]:  # noqa: ARG001 (a Row's shape)
    parent = spec_of(address).get("parentRef") or {}
    group = f"{parent['group']}/" if parent.get("group") else ""
    namespace = f"{parent['namespace']}/" if parent.get("namespace") else ""
    return [name(address), f"{group}{parent.get('resource')}/{namespace}{parent.get('name')}"]


IP_ADDRESS = Rules(
    name=name_is_anything,
    columns=(NAME, column("ParentRef")),
    row=row_address,
    validate=validate_address,
    validate_update=validate_address_update,
    selectable_fields=selectable("spec.parentRef.name"),
)


def validate_cidr(service_cidr: Obj) -> list[Cause]:
    cidrs = spec_of(service_cidr).get("cidrs") or []
    if not cidrs:
        return [required("spec.cidrs", "at least one CIDR required")]
    if len(cidrs) > 2:
        return [invalid_value("spec", spec_of(service_cidr), "may only hold up to 2 values")]
    errors = [
        error for index, cidr in enumerate(cidrs) for error in every(f"spec.cidrs[{index}]", cidr, names.is_cidr(cidr))
    ]
    if not errors and len({":" in cidr for cidr in cidrs}) < len(cidrs):
        why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
        errors.append(invalid_value("spec.cidrs", cidrs, why))
    return errors


def validate_cidr_update(new: Obj, old: Obj) -> list[Cause]:
    """A range stays as it is; one of the other family may come to a single one."""
    now, before = spec_of(new).get("cidrs") or [], spec_of(old).get("cidrs") or []
    if len(now) != len(before) and not (len(now) == 2 and len(before) == 1):
        return [invalid_value("spec.cidrs", now, IMMUTABLE)]
    return [
        invalid_value(f"spec.cidrs[{index}]", cidr, IMMUTABLE)
        for index, (cidr, then) in enumerate(zip(now, before, strict=False))
        if cidr != then
    ]


def row_cidr(service_cidr: Obj, now: datetime) -> list[Any]:
    return [name(service_cidr), ",".join(spec_of(service_cidr).get("cidrs") or ()), age(service_cidr, now)]


SERVICE_CIDR = Rules(
    columns=(NAME, column("CIDRs"), AGE),
    row=row_cidr,
    validate=validate_cidr,
    validate_update=validate_cidr_update,
    prepare=forget_status,
)
