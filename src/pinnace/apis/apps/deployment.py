"""Deployments: replica sets rolled out one after another.

Specified in https://kubernetes.io/docs/concepts/workloads/controllers/deployment/.
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
    selector_text,
    spec_of,
    status_of,
    template_spec,
    wide,
)
from pinnace.apis.kind import Rules
from pinnace.apis.workload import (
    default_workload,
    forget_status,
    validate_counts,
    validate_own_template,
    validate_rollout,
    validate_selector,
)
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj


def default(deployment: Obj) -> None:
    spec = default_workload(deployment)
    if spec.get("replicas") is None:
        spec["replicas"] = 1
    strategy = spec.setdefault("strategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        if rolling is None:
            rolling = strategy["rollingUpdate"] = {}
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    if spec.get("revisionHistoryLimit") is None:
        spec["revisionHistoryLimit"] = 10
    if spec.get("progressDeadlineSeconds") is None:
        spec["progressDeadlineSeconds"] = 600


def validate(deployment: Obj) -> list[Cause]:
    spec = spec_of(deployment)
    errors = validate_counts(spec, "replicas")
    errors += validate_selector(spec.get("selector"), "deployment")
    errors += validate_own_template(spec, "ReplicaSet")
    errors += _strategy(spec.get("strategy") or {}, "spec.strategy")
    errors += validate_counts(spec, "minReadySeconds", "revisionHistoryLimit")
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        errors += validate_counts(spec, "progressDeadlineSeconds")
        if deadline <= (spec.get("minReadySeconds") or 0):
            errors.append(
                invalid_value("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")
            )
    return errors


def _strategy(strategy: Obj, path: str) -> list[Cause]:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            why = "may not be specified when strategy `type` is 'Recreate'"
            return [field_forbidden(f"{path}.rollingUpdate", why)]
        return []
    if kind == "RollingUpdate":
        if rolling is None:
            return [required(f"{path}.rollingUpdate", "this should be defaulted and never be nil")]
        return validate_rollout(rolling, f"{path}.rollingUpdate")
    return [not_supported(path, strategy, ("Recreate", "RollingUpdate"))]


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("spec.selector", new["spec"].get("selector"), old["spec"].get("selector"))


def row(deployment: Obj, now: datetime) -> list[Any]:
    spec, status = spec_of(deployment), status_of(deployment)
    containers, images = containers_text(template_spec(deployment))
    return [
        name(deployment),
        f"{status.get('readyReplicas') or 0}/{spec.get('replicas') or 0}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        age(deployment, now),
        containers,
        images,
        selector_text(spec.get("selector")),
    ]


DEPLOYMENT = Rules(
    status_leaves=("labels",),
    columns=(
        NAME,
        column("Ready", description="Number of the pod with ready state"),
        column("Up-to-date"),
        column("Available"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ),
    row=row,
    default=default,
    validate=validate,
    validate_update=validate_update,
    prepare=forget_status,
)
