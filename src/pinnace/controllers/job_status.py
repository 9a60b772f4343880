"""How far a Job is and what it needs next: counts, indexes, and how it ends.

Pure functions from a Job and its pods. Specified by https://kubernetes.io/docs/concepts/workloads/controllers/job/ and,
for counting pods once, KEP-2307.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pinnace.controllers.conditions import condition
from pinnace.controllers.job_policies import enough_succeeded, is_ignored, reason_to_fail
from pinnace.controllers.pods import is_active, is_finished, is_ready, phase
from pinnace.machinery.meta import Obj, annotations_of, format_time, get_in, is_deleting, labels_of, parse_time, uid_of

FINALIZER = "batch.kubernetes.io/job-tracking"
INDEX = "batch.kubernetes.io/job-completion-index"
_FIRST_BACKOFF = 10.0  # seconds after the first failure, doubling
_LONGEST_BACKOFF = 600.0


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


def is_indexed(job: Obj) -> bool:
    return bool(get_in(job, "spec", "completionMode", default="NonIndexed") == "Indexed")


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


def completions_of(job: Obj) -> int | None:
    """Successes needed; None for a work queue, where one success ends the Job."""
    value = get_in(job, "spec", "completions")
    return None if value is None else int(value)


def has_finalizer(pod: Obj) -> bool:
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def index_of(pod: Obj) -> int | None:
    """The completion index a pod works on."""
    text = annotations_of(pod).get(INDEX) or labels_of(pod).get(INDEX)
    return int(text) if text is not None and text.isdigit() else None


def parse_indexes(text: str) -> set[int]:
    """Read `1,3-5,7`; what is no number is left out."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            found.update(range(int(first), int(last or first) + 1))
    return found


def format_indexes(indexes: Iterable[int]) -> str:
    """The shortest form: `1,3-5,7`; two in a row stand as `3,4`."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs]
    return ",".join(parts)


def replaces_failed_only(job: Obj) -> bool:
    """Whether a pod that is being deleted holds its place until it has ended."""
    return bool(get_in(job, "spec", "podReplacementPolicy") == "Failed" or get_in(job, "spec", "podFailurePolicy"))


def has_failed(job: Obj, pod: Obj) -> bool:
    """Whether the pod counts as a failure: so it ended, or somebody deletes it before it could."""
    if phase(pod) == "Failed":
        return True
    return is_deleting(pod) and phase(pod) != "Succeeded" and has_finalizer(pod) and not replaces_failed_only(job)


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
    return Progress(
        active=[pod for pod in pods if is_active(pod)],
        terminating=sum(is_deleting(pod) and not is_finished(pod) for pod in pods),
        succeeded=succeeded,
        failed=status.get("failed", 0) + len(uncounted.get("failed") or ()) + len(newly_failed),
        indexes=indexes,
        newly_succeeded=newly_succeeded,
        newly_failed=newly_failed,
        ignored=[pod for pod in all_failed if is_ignored(job, pod)],
    )


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


def superfluous(job: Obj, now_at: Progress) -> list[Obj]:
    """Active pods of an Indexed Job that work on an index completed, taken by another, or out of range."""
    if not is_indexed(job):
        return []
    taken: set[int] = set(now_at.indexes)
    found = []
    by_age = sorted(now_at.active, key=lambda pod: (not is_ready(pod), pod["metadata"].get("creationTimestamp", "")))
    for pod in by_age:
        index = index_of(pod)
        if index is None or index in taken or index >= (completions_of(job) or 0):
            found.append(pod)
        else:
            taken.add(index)
    return found


def free_indexes(job: Obj, now_at: Progress, count: int) -> list[int]:
    """The lowest indexes that are neither completed nor worked on."""
    taken = now_at.indexes | {index for pod in now_at.active if (index := index_of(pod)) is not None}
    return [index for index in range(completions_of(job) or 0) if index not in taken][:count]


def backoff_left(job: Obj, pods: Iterable[Obj], now: datetime) -> float:
    """Seconds to wait before new pods are made, after failures that no success has followed."""
    ended = [pod for pod in pods if (is_finished(pod) or has_failed(job, pod)) and not is_ignored(job, pod)]
    finished = [(finish_time(pod), has_failed(job, pod)) for pod in ended]
    last_success = max((when for when, failed in finished if not failed and when), default=None)
    failures = [when for when, failed in finished if failed and when and (last_success is None or when > last_success)]
    if not failures:
        return 0.0
    pause: float = min(_FIRST_BACKOFF * 2 ** min(len(failures) - 1, 16), _LONGEST_BACKOFF)
    return max(0.0, pause - (now - max(failures)).total_seconds())


def finish_time(pod: Obj) -> datetime | None:
    """When the last of its containers ended, or as near to that as is known."""
    ends = [
        get_in(status, "state", "terminated", "finishedAt")
        for status in get_in(pod, "status", "containerStatuses", default=())
    ]
    if ends and all(ends):
        return parse_time(max(ends))
    ready = condition(pod, "Ready")
    known = (ready or {}).get("lastTransitionTime") or pod["metadata"].get("deletionTimestamp")
    known = known or pod["metadata"].get("creationTimestamp")
    return parse_time(known) if known else None


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
