"""Daemon sets: one pod on every node that fits.

Specified in https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import int_or_none, int_or_percent, percent_at_most_100, unchanged
from pinnace.apis.fields import (
    AGE,
    NAME,
    age,
    column,
    containers_text,
    labels_text,
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
    validate_counts,
    validate_own_template,
    validate_selector,
)
from pinnace.machinery.errors import Cause, invalid_value, not_supported, required
from pinnace.machinery.meta import Obj


def default(daemon_set: Obj) -> None:
    spec = default_workload(daemon_set)
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.get("rollingUpdate")
        if rolling is None:
            rolling = strategy["rollingUpdate"] = {}
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    if spec.get("revisionHistoryLimit") is None:
        spec["revisionHistoryLimit"] = 10


_COUNTS = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")


_GENERATION = "deprecated.daemonset.template.generation"


def prepare(daemon_set: Obj, old: Obj | None) -> None:
    """Count the templates a daemon set has had; the author may not."""
    if old is None:
        daemon_set["status"] = dict.fromkeys(_COUNTS, 0)
        generation = 1
    else:
        before = (old["metadata"].get("annotations") or {}).get(_GENERATION, "")
        changed = spec_of(daemon_set).get("template") != spec_of(old).get("template")
        generation = (int(before) if before.isdigit() else 0) + changed
    annotations = daemon_set["metadata"].get("annotations") or {}
    daemon_set["metadata"]["annotations"] = {**annotations, _GENERATION: str(generation)}


def validate(daemon_set: Obj) -> list[Cause]:
    spec = spec_of(daemon_set)
    errors = validate_selector(spec.get("selector"), "daemonset")
    errors += validate_own_template(spec, "DaemonSet")
    errors += validate_counts(spec, "minReadySeconds", "revisionHistoryLimit")
    return errors + _strategy(spec.get("updateStrategy") or {}, "spec.updateStrategy")


def _strategy(strategy: Obj, path: str) -> list[Cause]:
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        return [not_supported(path, strategy, ("RollingUpdate", "OnDelete"))]
    if rolling is None:
        return [required(f"{path}.rollingUpdate")]
    return _rollout(rolling, f"{path}.rollingUpdate")


def _rollout(rolling: Obj, path: str) -> list[Cause]:
    """Either a pod goes first or its successor comes first, never both."""
    errors: list[Cause] = []
    counts = {}
    for key in ("maxUnavailable", "maxSurge"):
        errors += int_or_percent(f"{path}.{key}", rolling.get(key))
        errors += percent_at_most_100(f"{path}.{key}", rolling.get(key))
        counts[key] = int_or_none(rolling.get(key)) or 0
    if counts["maxUnavailable"] and counts["maxSurge"]:
        why = "may not be set when maxUnavailable is non-zero"
        errors.append(invalid_value(f"{path}.maxSurge", rolling["maxSurge"], why))
    if not counts["maxUnavailable"] and not counts["maxSurge"]:
        errors.append(required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return errors


def validate_update(new: Obj, old: Obj) -> list[Cause]:
    return unchanged("spec.selector", new["spec"].get("selector"), old["spec"].get("selector"))


def row(daemon_set: Obj, now: datetime) -> list[Any]:
    spec, status = spec_of(daemon_set), status_of(daemon_set)
    pod = template_spec(daemon_set)
    containers, images = containers_text(pod)
    return [
        name(daemon_set),
        status.get("desiredNumberScheduled") or 0,
        status.get("currentNumberScheduled") or 0,
        status.get("numberReady") or 0,
        status.get("updatedNumberScheduled") or 0,
        status.get("numberAvailable") or 0,
        labels_text(pod.get("nodeSelector")),
        age(daemon_set, now),
        containers,
        images,
        selector_text(spec.get("selector")),
    ]


DAEMON_SET = Rules(
    columns=(
        NAME,
        column("Desired", "integer"),
        column("Current", "integer"),
        column("Ready", "integer"),
        column("Up-to-date", "integer"),
        column("Available", "integer"),
        column("Node Selector"),
        AGE,
        wide("Containers"),
        wide("Images"),
        wide("Selector"),
    ),
    row=row,
    default=default,
    validate=validate,
    validate_update=validate_update,
    prepare=prepare,
)
