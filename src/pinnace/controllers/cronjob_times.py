"""When a CronJob's next Job is due, which run it missed, and which of its old Jobs are to go.

Pure functions over a CronJob, its Jobs and a moment. Specified by
https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from pinnace.apis.batch.schedule import Schedule
from pinnace.controllers.conditions import is_true
from pinnace.machinery.meta import Obj, format_time, get_in, name_of, namespace_of, owner_reference, parse_time

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_MANY = 100  # missed runs that are worth a warning


@dataclass(frozen=True, slots=True)
class Due:
    """The run that should have begun by now, and whether suspiciously many were missed before it."""

    at: datetime
    too_many: bool = False


def zone_of(cron_job: Obj) -> tzinfo:
    """Raises ValueError or KeyError (ZoneInfoNotFoundError) for a time zone nobody knows."""
    name = get_in(cron_job, "spec", "timeZone")
    return ZoneInfo(name) if name else UTC


def due(cron_job: Obj, schedule: Schedule, zone: tzinfo, now: datetime) -> Due | None:
    """The latest run that is due and not accounted for; None where there is none."""
    last = get_in(cron_job, "status", "lastScheduleTime") or cron_job["metadata"]["creationTimestamp"]
    earliest = parse_time(last)
    deadline = get_in(cron_job, "spec", "startingDeadlineSeconds")
    if deadline is not None:
        earliest = max(earliest, now - timedelta(seconds=deadline))
    first = schedule.after(earliest, zone)
    if first is None or first > now:
        return None
    second = schedule.after(first, zone)
    if second is None or second > now:
        return Due(first)
    return Due(_latest(schedule, zone, first, second - first, now), _many_are_due(schedule, zone, first, now))


def _many_are_due(schedule: Schedule, zone: tzinfo, first: datetime, now: datetime) -> bool:
    moment: datetime | None = first
    for _ in range(_MANY):
        moment = schedule.after(moment, zone) if moment is not None else None
    return moment is not None and moment <= now


def _latest(schedule: Schedule, zone: tzinfo, first: datetime, step: timedelta, now: datetime) -> datetime:
    """The last run up to `now`, looked for in ever longer stretches before it: years may have been missed."""
    if schedule.every:
        return first + (now - first) // step * step
    stretch = step
    while True:
        found = schedule.after(max(first - timedelta(seconds=1), now - stretch), zone)
        if found is not None and found <= now:
            break
        stretch *= 2
    while (later := schedule.after(found, zone)) is not None and later <= now:
        found = later
    return found


def is_too_late(cron_job: Obj, at: datetime, now: datetime) -> bool:
    deadline = get_in(cron_job, "spec", "startingDeadlineSeconds")
    return deadline is not None and at + timedelta(seconds=deadline) < now


def job_name(cron_job: Obj, at: datetime) -> str:
    """The same for the same run, so that none begins twice."""
    return f"{name_of(cron_job)}-{int(at.timestamp()) // 60}"


def make_job(cron_job: Obj, at: datetime, zone: tzinfo) -> Obj:
    template = cron_job["spec"]["jobTemplate"]
    metadata = template.get("metadata") or {}
    moment = format_time(at) if zone is UTC else at.astimezone(zone).isoformat(timespec="seconds")
    made: Obj = {
        "name": job_name(cron_job, at),
        "namespace": namespace_of(cron_job),
        "annotations": {**(metadata.get("annotations") or {}), SCHEDULED: moment},
        "ownerReferences": [owner_reference(cron_job)],
    }
    if metadata.get("labels"):
        made["labels"] = dict(metadata["labels"])
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": made, "spec": template.get("spec") or {}}


def finished_as(job: Obj) -> str:
    """`Complete`, `Failed`, or the empty string while it runs."""
    return next((kind for kind in ("Complete", "Failed") if is_true(job, kind)), "")


def surplus(cron_job: Obj, jobs: Iterable[Obj]) -> list[Obj]:
    """Finished Jobs beyond the history limits, oldest first."""
    found: list[Obj] = []
    ordered = sorted(jobs, key=lambda job: (get_in(job, "status", "startTime", default=""), name_of(job)))
    for kind, field in (("Complete", "successfulJobsHistoryLimit"), ("Failed", "failedJobsHistoryLimit")):
        limit = get_in(cron_job, "spec", field)
        done = [job for job in ordered if finished_as(job) == kind]
        if limit is not None:
            found += done[: max(0, len(done) - limit)]
    return found


def last_success(cron_job: Obj, jobs: Iterable[Obj]) -> str:
    """When the latest successful Job completed; empty for never."""
    done = [job for job in jobs if finished_as(job) == "Complete"]
    times: list[str] = [get_in(job, "status", "completionTime", default="") for job in done]
    times.append(get_in(cron_job, "status", "lastSuccessfulTime", default=""))
    return max(times)
