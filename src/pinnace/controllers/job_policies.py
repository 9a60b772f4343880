"""What a Job's own rules make of its pods: which failures end it or do not count, and which successes are enough.

Pure functions. Specified by https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy and
https://kubernetes.io/docs/concepts/workloads/controllers/job/#success-policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import NamedTuple

from pinnace.controllers.pods import phase
from pinnace.machinery.meta import Obj, get_in, is_deleting, name_of, namespace_of

FINALIZER = "batch.kubernetes.io/job-tracking"


class Verdict(NamedTuple):
    """What a rule says of a failed pod, and why."""

    action: str  # FailJob, FailIndex, Ignore or Count
    message: str


def verdict(job: Obj, pod: Obj) -> Verdict | None:
    """The first rule of `podFailurePolicy` that fits a failed pod; None where none does."""
    for number, rule in enumerate(get_in(job, "spec", "podFailurePolicy", "rules", default=())):
        why = _by_exit_code(rule, pod) if rule.get("onExitCodes") else _by_condition(rule, pod)
        if why:
            return Verdict(rule["action"], f"{why} matching {rule['action']} rule at index {number}")
    return None


def _by_exit_code(rule: Obj, pod: Obj) -> str:
    asked = rule["onExitCodes"]
    for field in ("containerStatuses", "initContainerStatuses"):
        for status in get_in(pod, "status", field, default=()):
            code = get_in(status, "state", "terminated", "exitCode", default=0)
            if not code or asked.get("containerName") not in (None, status["name"]):
                continue
            if (code in asked["values"]) == (asked["operator"] == "In"):
                where = f"{namespace_of(pod)}/{name_of(pod)}"
                return f"Container {status['name']} for pod {where} failed with exit code {code}"
    return ""


def _by_condition(rule: Obj, pod: Obj) -> str:
    for asked in rule.get("onPodConditions") or ():
        for found in get_in(pod, "status", "conditions", default=()):
            if found["type"] == asked["type"] and found.get("status") == asked.get("status", "True"):
                return f"Pod {namespace_of(pod)}/{name_of(pod)} has condition {found['type']}"
    return ""


def has_finalizer(pod: Obj) -> bool:
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def replaces_failed_only(job: Obj) -> bool:
    """Whether a pod that is being deleted holds its place until it has ended."""
    return bool(get_in(job, "spec", "podReplacementPolicy") == "Failed" or get_in(job, "spec", "podFailurePolicy"))


def has_failed(job: Obj, pod: Obj) -> bool:
    """Whether the pod counts as a failure: so it ended, or somebody deletes it before it could."""
    if phase(pod) == "Failed":
        return True
    return is_deleting(pod) and phase(pod) != "Succeeded" and has_finalizer(pod) and not replaces_failed_only(job)


def is_ignored(job: Obj, pod: Obj) -> bool:
    """Whether this failure does not count."""
    found = verdict(job, pod)
    return found is not None and found.action == "Ignore"


def reason_to_fail(job: Obj, failed: Iterable[Obj]) -> str:
    """Why one of these failures ends the whole Job; empty if none does."""
    verdicts = (verdict(job, pod) for pod in failed)
    return next((found.message for found in verdicts if found is not None and found.action == "FailJob"), "")


def enough_succeeded(rules: Iterable[tuple[Set[int] | None, int | None]], done: Set[int]) -> str:
    """Which rule of `successPolicy` the completed indexes satisfy, as a message; empty for none."""
    for number, (indexes, count) in enumerate(rules):
        counted = done if indexes is None else done & indexes
        wanted = count if count is not None else len(indexes or ())
        if (indexes is not None or count is not None) and len(counted) >= wanted:
            return f"Matched rules at index {number}"
    return ""
