"""How far a Job is and what it needs next: counts, indexes, and how it ends.

Pure functions from a Job and its pods. Specified by https://kubernetes.io/docs/concepts/workloads/controllers/job/ and,
for counting pods once, KEP-2307.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pinnace.controllers.conditions import condition
from pinnace.controllers.job_indexes import (
    completions_of,
    failed_indexes,
    index_of,
    is_indexed,
    last_failures,
    limit_per_index,
    parse_indexes,
)
from pinnace.controllers.job_policies import enough_succeeded, has_failed, has_finalizer, is_ignored, reason_to_fail
from pinnace.controllers.pods import is_active, is_finished, phase
from pinnace.machinery.meta import Obj, format_time, get_in, is_deleting, parse_time, uid_of


@dataclass(frozen=True, slots=True)
class Ending:
    """How a Job ends: the terminal condition, and the one that announces it."""

    type: str  # Complete or Failed
    reason: str
    message: str

    @property
    def announced_by(self) -> str:
        return "SuccessCriteriaMet" if self.type == "Complete" else "FailureTarget"


@dataclass(slots=True)
class Progress:
    """What a Job's pods amount to."""

    active: list[Obj]
    terminating: int  # being deleted, not finished yet
    succeeded: int
    failed: int
    indexes: set[int]  # of an Indexed Job, those completed
    newly_succeeded: list[Obj]  # finished pods that are counted nowhere yet
    newly_failed: list[Obj]
    ignored: list[Obj] = field(default_factory=list)  # failed in a way that does not count
    failed_indexes: set[int] = field(default_factory=set)  # given up, with `backoffLimitPerIndex`
    last_failures: dict[int, Obj] = field(default_factory=dict)  # index -> failed pod that waits to be replaced

    @property
    def settled_indexes(self) -> set[int]:
        """Those on which no pod is to work."""
        return self.indexes | self.failed_indexes

    @property
    def taken_indexes(self) -> set[int]:
        """Those that are settled or worked on."""
        return self.settled_indexes | {index for pod in self.active if (index := index_of(pod)) is not None}


def is_finished_job(job: Obj) -> bool:
    return any(
        one.get("type") in ("Complete", "Failed") and one.get("status") == "True"
        for one in get_in(job, "status", "conditions", default=())
    )


def is_managed_elsewhere(job: Obj) -> bool:
    """Whether another controller than this one sees to the Job."""
    return get_in(job, "spec", "managedBy") not in (None, "kubernetes.io/job-controller")


def is_suspended(job: Obj) -> bool:
    return bool(get_in(job, "spec", "suspend"))


def parallelism_of(job: Obj) -> int:
    value = get_in(job, "spec", "parallelism")
    return 1 if value is None else int(value)


def progress(job: Obj, pods: Sequence[Obj]) -> Progress:
    """Count the pods, each finished one once: by the status if it is in there, else as new."""
    status = job.get("status") or {}
    uncounted = status.get("uncountedTerminatedPods") or {}
    known = set(uncounted.get("succeeded") or ()) | set(uncounted.get("failed") or ())
    fresh = [pod for pod in pods if has_finalizer(pod) and uid_of(pod) not in known]
    newly_succeeded = [pod for pod in fresh if phase(pod) == "Succeeded"]
    all_failed = [pod for pod in fresh if has_failed(job, pod)]
    newly_failed = [pod for pod in all_failed if not is_ignored(job, pod)]
    succeeded = status.get("succeeded", 0) + len(uncounted.get("succeeded") or ()) + len(newly_succeeded)
    indexes: set[int] = set()
    if is_indexed(job):
        completions = completions_of(job) or 0
        indexes = parse_indexes(status.get("completedIndexes", ""))
        indexes |= {index for pod in newly_succeeded if (index := index_of(pod)) is not None}
        indexes = {index for index in indexes if index < completions}
        succeeded = len(indexes)
    now_at = Progress(
        active=[pod for pod in pods if is_active(pod)],
        terminating=sum(is_deleting(pod) and not is_finished(pod) for pod in pods),
        succeeded=succeeded,
        failed=status.get("failed", 0) + len(uncounted.get("failed") or ()) + len(newly_failed),
        indexes=indexes,
        newly_succeeded=newly_succeeded,
        newly_failed=newly_failed,
        ignored=[pod for pod in all_failed if is_ignored(job, pod)],
    )
    if limit_per_index(job) is not None:
        now_at.failed_indexes = failed_indexes(job, pods)
        now_at.last_failures = last_failures(job, pods, now_at.taken_indexes)
    return now_at


def ending(job: Obj, now_at: Progress, now: datetime) -> Ending | None:
    """How the Job ends, if it is time: an ending announced before stands."""
    announced = announced_ending(job)
    if announced is not None:
        return announced
    if why := reason_to_fail(job, now_at.newly_failed):
        return Ending("Failed", "PodFailurePolicy", why)
    if _over_backoff_limit(job, now_at):
        return Ending("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
    if (left := deadline_in(job, now)) is not None and left <= 0:
        return Ending("Failed", "DeadlineExceeded", "Job was active longer than specified deadline")
    if why_not := _index_failures(job, now_at):
        return why_not
    if enough := enough_succeeded(_success_rules(job), now_at.indexes):
        return Ending("Complete", "SuccessPolicy", enough)
    completions = completions_of(job)
    if completions is None:
        complete = now_at.succeeded > 0 and not now_at.active
    else:
        complete = now_at.succeeded >= completions and not now_at.active
    if complete and not (is_suspended(job) and completions is None):
        return Ending("Complete", "CompletionsReached", "Reached expected number of succeeded pods")
    return None


def _index_failures(job: Obj, now_at: Progress) -> Ending | None:
    """How failed indexes end the Job: too many of them, or nothing left to do but them."""
    failed, most = len(now_at.failed_indexes), get_in(job, "spec", "maxFailedIndexes")
    if most is not None and failed > most:
        message = "Job has exceeded the specified maximal number of failed indexes"
        return Ending("Failed", "MaxFailedIndexesExceeded", message)
    if failed and failed + len(now_at.indexes) >= (completions_of(job) or 0):
        return Ending("Failed", "FailedIndexes", "Job has failed indexes")
    return None


def _success_rules(job: Obj) -> list[tuple[set[int] | None, int | None]]:
    """The indexes and the count that each rule of `successPolicy` asks for."""
    rules = get_in(job, "spec", "successPolicy", "rules", default=())
    return [
        (parse_indexes(rule["succeededIndexes"]) if rule.get("succeededIndexes") else None, rule.get("succeededCount"))
        for rule in rules
    ]


def announced_ending(job: Obj) -> Ending | None:
    for announcing, terminal in (("FailureTarget", "Failed"), ("SuccessCriteriaMet", "Complete")):
        found = condition(job, announcing)
        if found is not None and found.get("status") == "True":
            return Ending(terminal, found.get("reason", ""), found.get("message", ""))
    return None


def _over_backoff_limit(job: Obj, now_at: Progress) -> bool:
    limit = get_in(job, "spec", "backoffLimit", default=6)
    if now_at.failed > limit:
        return True
    if get_in(job, "spec", "template", "spec", "restartPolicy") != "OnFailure":
        return False
    counted = [pod for pod in now_at.active if phase(pod) in ("Running", "Pending")]
    restarts = sum(
        status.get("restartCount") or 0
        for pod in counted
        for field in ("initContainerStatuses", "containerStatuses")
        for status in get_in(pod, "status", field, default=())
    )
    return restarts > 0 if limit == 0 else restarts >= limit


def deadline_in(job: Obj, now: datetime) -> float | None:
    """Seconds until activeDeadlineSeconds have passed; None where that cannot happen now."""
    deadline, start = get_in(job, "spec", "activeDeadlineSeconds"), get_in(job, "status", "startTime")
    if deadline is None or start is None or is_suspended(job):
        return None
    return (parse_time(start) + timedelta(seconds=deadline) - now).total_seconds()


# What to do about pods.


def wanted_active(job: Obj, now_at: Progress) -> int:
    """How many pods should be active."""
    if is_suspended(job):
        return 0
    completions, active = completions_of(job), len(now_at.active)
    if completions is None:
        return min(active, parallelism_of(job)) if now_at.succeeded > 0 else parallelism_of(job)
    return max(0, min(completions - now_at.succeeded, parallelism_of(job)))


def new_condition(type: str, reason: str, message: str, now: datetime, status: str = "True") -> Obj:  # noqa: A002
    moment = format_time(now)
    return {
        "type": type,
        "status": status,
        "lastProbeTime": moment,
        "lastTransitionTime": moment,
        "reason": reason,
        "message": message,
    }
