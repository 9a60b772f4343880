"""How long a Job waits before it replaces failed pods: 10 s after the first failure, doubled by each further one.

Pure functions. Specified by
https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-backoff-failure-policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pinnace.controllers.conditions import condition
from pinnace.controllers.job_policies import has_failed, is_ignored
from pinnace.controllers.pods import is_finished
from pinnace.machinery.meta import Obj, get_in, parse_time

_FIRST_PAUSE = 10.0  # seconds
_LONGEST_PAUSE = 600.0


def pause_after(failures: int) -> float:
    """Seconds from the last of so many failures in a row to the next pod."""
    return float(min(_FIRST_PAUSE * 2 ** min(failures - 1, 16), _LONGEST_PAUSE)) if failures > 0 else 0.0


def pause_left(failures: int, last: datetime | None, now: datetime) -> float:
    """Seconds still to wait."""
    return 0.0 if last is None else max(0.0, pause_after(failures) - (now - last).total_seconds())


def backoff_left(job: Obj, pods: Iterable[Obj], now: datetime) -> float:
    """Seconds to wait before new pods are made, after failures that no success has followed."""
    ended = [pod for pod in pods if (is_finished(pod) or has_failed(job, pod)) and not is_ignored(job, pod)]
    finished = [(finish_time(pod), has_failed(job, pod)) for pod in ended]
    last_success = max((when for when, failed in finished if not failed and when), default=None)
    failures = [when for when, failed in finished if failed and when and (last_success is None or when > last_success)]
    return pause_left(len(failures), max(failures, default=None), now)


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
