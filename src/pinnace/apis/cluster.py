"""Kinds of the cluster's own machinery: leases, runtime classes, flow control and devices.

Specified in https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, not_negative, one_of, unchanged
from pinnace.apis.fields import AGE, NAME, NONE, age, column, name, selectable, spec_of, status_of
from pinnace.apis.kind import Rules
from pinnace.apis.workload import forget_status
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, invalid_value, required
from pinnace.machinery.meta import Obj


def validate_lease(lease: Obj) -> list[Cause]:
    spec = spec_of(lease)
    errors: list[Cause] = []
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        errors.append(invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if spec.get("holderIdentity") == "":
        errors.append(invalid_value("spec.holderIdentity", "", "must not be empty"))
    return errors + not_negative("spec.leaseTransitions", spec.get("leaseTransitions"))


def row_lease(lease: Obj, now: datetime) -> list[Any]:
    return [name(lease), spec_of(lease).get("holderIdentity") or "", age(lease, now)]


LEASE = Rules(columns=(NAME, column("Holder"), AGE), row=row_lease, validate=validate_lease)


def validate_runtime_class(runtime_class: Obj) -> list[Cause]:
    handler = runtime_class.get("handler") or ""
    return every("handler", handler, names.is_dns_label(handler))


def validate_runtime_class_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("handler", new.get("handler"), old.get("handler"))


def row_runtime_class(runtime_class: Obj, now: datetime) -> list[Any]:
    return [name(runtime_class), runtime_class.get("handler") or "", age(runtime_class, now)]


RUNTIME_CLASS = Rules(
    columns=(NAME, column("Handler"), AGE),
    row=row_runtime_class,
    validate=validate_runtime_class,
    validate_update=validate_runtime_class_update,
)


def default_flow_schema(schema: Obj) -> None:
    spec = schema.setdefault("spec", {})
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = 1000


def validate_flow_schema(schema: Obj) -> list[Cause]:
    spec = spec_of(schema)
    errors: list[Cause] = []
    precedence = spec.get("matchingPrecedence") or 0
    if precedence > 10000:
        why = "must not be greater than 10000"
        errors.append(invalid_value("spec.matchingPrecedence", precedence, why))
    if precedence < 1:
        errors.append(invalid_value("spec.matchingPrecedence", precedence, "must be a positive value"))
    if not (spec.get("priorityLevelConfiguration") or {}).get("name"):
        errors.append(required("spec.priorityLevelConfiguration.name", "must reference a priority level"))
    method = spec.get("distinguisherMethod")
    if method is not None:
        errors += one_of("spec.distinguisherMethod", method.get("type"), ("ByNamespace", "ByUser"))
    return errors


def row_flow_schema(schema: Obj, now: datetime) -> list[Any]:
    spec = spec_of(schema)
    dangling = [one for one in status_of(schema).get("conditions") or () if one.get("type") == "Dangling"]
    return [
        name(schema),
        (spec.get("priorityLevelConfiguration") or {}).get("name") or "",
        spec.get("matchingPrecedence") or 0,
        (spec.get("distinguisherMethod") or {}).get("type") or NONE,
        age(schema, now),
        dangling[0].get("status") if dangling else "?",
    ]


FLOW_SCHEMA = Rules(
    columns=(
        NAME,
        column("PriorityLevel"),
        column("MatchingPrecedence"),
        column("DistinguisherMethod"),
        AGE,
        column("MissingPL"),
    ),
    row=row_flow_schema,
    default=default_flow_schema,
    validate=validate_flow_schema,
    prepare=forget_status,
)


def default_priority_level(level: Obj) -> None:
    spec = level.setdefault("spec", {})
    limited, exempt = spec.get("limited"), spec.get("exempt")
    if spec.get("type") == "Exempt" and exempt is None:
        exempt = spec["exempt"] = {}
    if exempt is not None:
        exempt.setdefault("nominalConcurrencyShares", 0)
        exempt.setdefault("lendablePercent", 0)
    if limited is not None:
        limited.setdefault("nominalConcurrencyShares", 30)
        limited.setdefault("lendablePercent", 0)
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            for key, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                if not queuing.get(key):
                    queuing[key] = value


def validate_priority_level(level: Obj) -> list[Cause]:
    spec = spec_of(level)
    errors = one_of("spec.type", spec.get("type"), ("Exempt", "Limited"))
    if spec.get("type") == "Limited" and spec.get("limited") is None:
        errors.append(required("spec.limited", "must not be empty when type is Limited"))
    return errors


def row_priority_level(level: Obj, now: datetime) -> list[Any]:
    spec = spec_of(level)
    settings = spec.get("limited") or spec.get("exempt") or {}
    queuing = ((spec.get("limited") or {}).get("limitResponse") or {}).get("queuing") or {}
    shown = [queuing.get(key, NONE) for key in ("queues", "handSize", "queueLengthLimit")]
    return [
        name(level),
        spec.get("type") or "",
        settings.get("nominalConcurrencyShares", NONE),
        *shown,
        age(level, now),
    ]


PRIORITY_LEVEL_CONFIGURATION = Rules(
    columns=(
        NAME,
        column("Type"),
        column("NominalConcurrencyShares"),
        column("Queues"),
        column("HandSize"),
        column("QueueLengthLimit"),
        AGE,
    ),
    row=row_priority_level,
    default=default_priority_level,
    validate=validate_priority_level,
    prepare=forget_status,
)


def row_claim(claim: Obj, now: datetime) -> list[Any]:
    """`pending`, or what was done with the claim so far."""
    status = status_of(claim)
    words = ["deleted"] if claim["metadata"].get("deletionTimestamp") else []
    if status.get("allocation") is None:
        words = words or ["pending"]
    else:
        words.append("allocated")
        if status.get("reservedFor"):
            words.append("reserved")
    return [name(claim), ",".join(words), age(claim, now)]


RESOURCE_CLAIM = Rules(columns=(NAME, column("State"), AGE), row=row_claim, prepare=forget_status)


def row_slice(resource_slice: Obj, now: datetime) -> list[Any]:
    spec = spec_of(resource_slice)
    node = spec.get("nodeName") or ("<all>" if spec.get("allNodes") else "<some>" if spec.get("nodeSelector") else "")
    pool = (spec.get("pool") or {}).get("name") or ""
    return [name(resource_slice), node, spec.get("driver") or "", pool, age(resource_slice, now)]


RESOURCE_SLICE = Rules(
    columns=(NAME, column("Node"), column("Driver"), column("Pool"), AGE),
    row=row_slice,
    selectable_fields=selectable("spec.nodeName", "spec.driver"),
)

FRESH_STATUS = Rules(prepare=forget_status)
"""For kinds with a status and no other rules."""
