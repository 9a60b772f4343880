"""Replica sets: so many pods of one template.

Specified in https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import unchanged
from pinnace.apis.fields import (
    AGE,
    NAME,
    age,
    column,
    containers_text,
    name,
    selectable,
    selector_text,
    spec_of,
    status_of,
    template_spec,
    wide,
)
from pinnace.apis.kind import Rules
from pinnace.apis.workload import (
    default_workload,
    validate_counts,
    validate_own_template,
    validate_selector,
)
from pinnace.machinery.errors import Cause
from pinnace.machinery.meta import Obj


def default(replica_set: Obj) -> None:
    spec = default_workload(replica_set)
    if spec.get("replicas") is None:
        spec["replicas"] = 1


def prepare(replica_set: Obj, old: Obj | None) -> None:
    if old is None:
        replica_set["status"] = {"replicas": 0}


def validate(replica_set: Obj) -> list[Cause]:
    spec = spec_of(replica_set)
    errors = validate_counts(spec, "replicas", "minReadySeconds")
    errors += validate_selector(spec.get("selector"), "deployment")  # Kubernetes' own slip of the pen
    return errors + validate_own_template(spec, "ReplicaSet")


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("spec.selector", new["spec"].get("selector"), old["spec"].get("selector"))


def row(replica_set: Obj, now: datetime) -> list[Any]:
    spec, status = spec_of(replica_set), status_of(replica_set)
    containers, images = containers_text(template_spec(replica_set))
    return [
        name(replica_set),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        age(replica_set, now),
        containers,
        images,
        selector_text(spec.get("selector")),
    ]


COLUMNS = (
    NAME,
    column("Desired", "integer"),
    column("Current", "integer"),
    column("Ready", "integer"),
    AGE,
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
)

REPLICA_SET = Rules(
    columns=COLUMNS,
    row=row,
    default=default,
    validate=validate,
    validate_update=validate_update,
    prepare=prepare,
    selectable_fields=selectable("status.replicas", status_replicas="0"),
)
