"""Kinds of the cluster's own machinery: leases and runtime classes.

Specified in https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import every, needed, not_negative, unchanged
from pinnace.apis.core.affinity import validate_tolerations
from pinnace.apis.core.container import validate_overhead
from pinnace.apis.fields import AGE, NAME, age, column, name, spec_of
from pinnace.apis.kind import Rules
from pinnace.apis.workload import forget_status
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value
from pinnace.machinery.meta import Obj


def validate_lease(lease: Obj) -> list[Cause]:
    spec = spec_of(lease)
    errors: list[Cause] = []
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        errors.append(invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if spec.get("holderIdentity") == "":
        errors.append(invalid_value("spec.holderIdentity", "", "must not be empty"))
    errors += not_negative("spec.leaseTransitions", spec.get("leaseTransitions"))
    strategy, preferred = spec.get("strategy"), spec.get("preferredHolder")
    if strategy is not None:
        errors += every("spec.strategy", strategy, names.is_qualified_name(strategy))
    if preferred and not strategy:
        why = "may only be specified if `strategy` is defined"
        errors.append(field_forbidden("spec.preferredHolder", why))
    return errors


def row_lease(lease: Obj, now: datetime) -> list[Any]:
    return [name(lease), spec_of(lease).get("holderIdentity") or "", age(lease, now)]


LEASE = Rules(columns=(NAME, column("Holder"), AGE), row=row_lease, validate=validate_lease)


def validate_runtime_class(runtime_class: Obj) -> list[Cause]:
    handler = runtime_class.get("handler") or ""
    errors = every("handler", handler, names.is_dns_label(handler))
    overhead, scheduling = runtime_class.get("overhead") or {}, runtime_class.get("scheduling") or {}
    if overhead.get("podFixed"):
        errors += validate_overhead(overhead["podFixed"], "overhead.podFixed")
    errors += names.label_errors(scheduling.get("nodeSelector") or {}, "scheduling.nodeSelector")
    return errors + validate_tolerations(scheduling.get("tolerations") or [], "scheduling.tolerations")


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


def validate_migration(migration: Obj) -> list[Cause]:
    resource = spec_of(migration).get("resource") or {}
    return needed("spec.resource.resource", resource.get("resource"), "resource is required")


def validate_migration_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("spec", new.get("spec"), old.get("spec"))


STORAGE_VERSION_MIGRATION = Rules(
    validate=validate_migration, validate_update=validate_migration_update, prepare=forget_status
)
