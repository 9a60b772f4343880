"""Pod disruption budgets and priority classes: who goes first, and who may go at all.

Specified in https://kubernetes.io/docs/tasks/run-application/configure-pdb/ and
https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import int_or_percent, one_of, optional_one_of, percent_at_most_100
from pinnace.apis.fields import AGE, NAME, age, column, name, spec_of, status_of
from pinnace.apis.kind import Rules
from pinnace.machinery.errors import Cause, field_forbidden, invalid_value
from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import label_selector_errors

_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")


def prepare_budget(budget: Obj, old: Obj | None) -> None:
    if old is None:
        budget["status"] = dict.fromkeys(_COUNTS, 0)


def validate_budget(budget: Obj) -> list[Cause]:
    spec = spec_of(budget)
    errors: list[Cause] = []
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if least is not None and most is not None:
        why = "minAvailable and maxUnavailable cannot be both set"
        errors.append(invalid_value("spec", spec, why))
    for key, value in (("minAvailable", least), ("maxUnavailable", most)):
        errors += int_or_percent(f"spec.{key}", value)
        errors += percent_at_most_100(f"spec.{key}", value)
    errors += label_selector_errors(spec.get("selector"), "spec.selector")
    policy = spec.get("unhealthyPodEvictionPolicy")
    options = ("AlwaysAllow", "IfHealthyBudget")
    return errors + optional_one_of("spec.unhealthyPodEvictionPolicy", policy, options)


def row_budget(budget: Obj, now: datetime) -> list[Any]:
    spec = spec_of(budget)
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    return [
        name(budget),
        "N/A" if least is None else str(least),
        "N/A" if most is None else str(most),
        status_of(budget).get("disruptionsAllowed") or 0,
        age(budget, now),
    ]


POD_DISRUPTION_BUDGET = Rules(
    columns=(
        NAME,
        column("Min Available"),
        column("Max Unavailable"),
        column("Allowed Disruptions", "integer"),
        AGE,
    ),
    row=row_budget,
    validate=validate_budget,
    prepare=prepare_budget,
)

HIGHEST_USER_PRIORITY = 1_000_000_000
SYSTEM_CLASSES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def default_priority(priority: Obj) -> None:
    if not priority.get("preemptionPolicy"):
        priority["preemptionPolicy"] = "PreemptLowerPriority"
    priority.setdefault("value", 0)


def validate_priority(priority: Obj) -> list[Cause]:
    errors: list[Cause] = []
    given, value = priority["metadata"].get("name") or "", priority.get("value") or 0
    if given.startswith("system-"):
        if SYSTEM_CLASSES.get(given) != value or priority.get("globalDefault"):
            why = (
                "priority class names with 'system-' prefix are reserved for system use only. "
                f"error: {given} is not a known system priority class"
            )
            errors.append(field_forbidden("metadata.name", why))
    elif value > HIGHEST_USER_PRIORITY:
        why = f"maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"
        errors.append(field_forbidden("value", why))
    policy = priority.get("preemptionPolicy")
    return errors + one_of("preemptionPolicy", policy, ("Never", "PreemptLowerPriority"))


def validate_priority_update(new: Obj, old: Obj) -> list[Cause]:
    errors: list[Cause] = []
    if (new.get("value") or 0) != (old.get("value") or 0):
        errors.append(field_forbidden("value", "may not be changed in an update."))
    if new.get("preemptionPolicy") != old.get("preemptionPolicy"):
        why = "field is immutable"
        errors.append(invalid_value("preemptionPolicy", new.get("preemptionPolicy"), why))
    return errors


def row_priority(priority: Obj, now: datetime) -> list[Any]:
    return [
        name(priority),
        priority.get("value") or 0,
        bool(priority.get("globalDefault")),
        age(priority, now),
        priority.get("preemptionPolicy") or "",
    ]


PRIORITY_CLASS = Rules(
    columns=(NAME, column("Value"), column("Global-Default"), AGE, column("PreemptionPolicy")),
    row=row_priority,
    default=default_priority,
    validate=validate_priority,
    validate_update=validate_priority_update,
)
