"""The indexes of an Indexed Job: done, worked on and, with `backoffLimitPerIndex`, given up.

How often an index failed is written on each pod that tries it again. So the last failed pod of an index is kept, by its
finalizer, until the pod that takes its place is there. Pure functions. Specified by
https://kubernetes.io/docs/concepts/workloads/controllers/job/#completion-mode and #backoff-limit-per-index.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import datetime

from pinnace.controllers.job_backoff import finish_time, pause_left
from pinnace.controllers.job_policies import has_failed, has_finalizer, verdict
from pinnace.controllers.pods import is_ready
from pinnace.machinery.meta import Obj, annotations_of, get_in, labels_of

INDEX = "batch.kubernetes.io/job-completion-index"
_FAILURES = "batch.kubernetes.io/job-index-failure-count"
_IGNORED_FAILURES = "batch.kubernetes.io/job-index-ignored-failure-count"


def is_indexed(job: Obj) -> bool:
    return bool(get_in(job, "spec", "completionMode", default="NonIndexed") == "Indexed")


def completions_of(job: Obj) -> int | None:
    """Successes needed; None for a work queue, where one success ends the Job."""
    value = get_in(job, "spec", "completions")
    return None if value is None else int(value)


def limit_per_index(job: Obj) -> int | None:
    """How often one index may be tried again; None where failures count for the Job as a whole."""
    value = get_in(job, "spec", "backoffLimitPerIndex")
    return None if value is None else int(value)


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


def superfluous(job: Obj, active: Sequence[Obj], done: Set[int]) -> list[Obj]:
    """Active pods of an Indexed Job that work on an index completed, taken by another, or out of range."""
    if not is_indexed(job):
        return []
    taken: set[int] = set(done)
    found = []
    by_age = sorted(active, key=lambda pod: (not is_ready(pod), pod["metadata"].get("creationTimestamp", "")))
    for pod in by_age:
        index = index_of(pod)
        if index is None or index in taken or index >= (completions_of(job) or 0):
            found.append(pod)
        else:
            taken.add(index)
    return found


def free_indexes(job: Obj, taken: Set[int], count: int) -> list[int]:
    """The lowest indexes that are not taken."""
    return [index for index in range(completions_of(job) or 0) if index not in taken][:count]


# Failures of one index.


def failure_counts(pod: Obj) -> tuple[int, int]:
    """How often its index had failed before this pod: failures that count, and those that a rule ignored."""
    written = annotations_of(pod)
    counted, ignored = (written.get(name, "0") for name in (_FAILURES, _IGNORED_FAILURES))
    return int(counted) if counted.isdigit() else 0, int(ignored) if ignored.isdigit() else 0


def counts_to_write(job: Obj, failed: Obj | None) -> dict[str, str]:
    """The annotations of a pod that takes the place of `failed`, or is the first of its index."""
    counted, ignored = failure_counts(failed) if failed is not None else (0, 0)
    if failed is not None:
        found = verdict(job, failed)
        if found is not None and found.action == "Ignore":
            ignored += 1
        else:
            counted += 1
    return {_FAILURES: str(counted), **({_IGNORED_FAILURES: str(ignored)} if ignored else {})}


def failed_indexes(job: Obj, pods: Iterable[Obj]) -> set[int]:
    """The indexes given up: those in the status, and those whose last try has just failed."""
    limit = limit_per_index(job)
    if limit is None:
        return set()
    found = parse_indexes(get_in(job, "status", "failedIndexes", default=""))
    found |= {
        index
        for pod in pods
        if (index := index_of(pod)) is not None and has_finalizer(pod) and _gives_up(job, pod, limit)
    }
    return {index for index in found if index < (completions_of(job) or 0)}


def _gives_up(job: Obj, pod: Obj, limit: int) -> bool:
    if not has_failed(job, pod):
        return False
    found = verdict(job, pod)
    if found is not None and found.action in ("FailIndex", "Ignore"):
        return found.action == "FailIndex"
    return failure_counts(pod)[0] >= limit


def last_failures(job: Obj, pods: Iterable[Obj], settled: Set[int]) -> dict[int, Obj]:
    """The last failed pod of every index that is to be tried again; `settled` are done, given up or worked on."""
    if limit_per_index(job) is None:
        return {}
    found: dict[int, Obj] = {}
    for pod in pods:
        index = index_of(pod)
        if index is None or index in settled or index >= (completions_of(job) or 0):
            continue
        if has_finalizer(pod) and has_failed(job, pod) and (index not in found or _later(pod, found[index])):
            found[index] = pod
    return found


def _later(pod: Obj, other: Obj) -> bool:
    if sum(failure_counts(pod)) != sum(failure_counts(other)):
        return sum(failure_counts(pod)) > sum(failure_counts(other))
    mine, its = finish_time(pod), finish_time(other)
    return mine is not None and its is not None and mine >= its


def due(indexes: Iterable[int], failures: Mapping[int, Obj], now: datetime) -> tuple[list[int], float | None]:
    """The indexes that may be tried now, and seconds until the next of the others may."""
    waits = {index: _pause_left(failures.get(index), now) for index in indexes}
    later = [wait for wait in waits.values() if wait > 0]
    return [index for index, wait in waits.items() if wait <= 0], min(later, default=None)


def _pause_left(failed: Obj | None, now: datetime) -> float:
    if failed is None:
        return 0.0
    return pause_left(sum(failure_counts(failed)) + 1, finish_time(failed), now)
