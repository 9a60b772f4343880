"""Begins the Jobs of a CronJob when they are due, and keeps account of them.

When they are due is decided in `cronjob_times.py`. Specified by
https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo

from pinnace.apis.batch.schedule import Schedule, ScheduleError, parse
from pinnace.apis.resources import CRON_JOBS, JOBS
from pinnace.client.controller import Controller, its_controller, itself
from pinnace.client.store import by_controller
from pinnace.controllers import cronjob_times
from pinnace.controllers.cronjob_times import finished_as
from pinnace.controllers.pod_control import namespace_is_going
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    controller_of,
    format_time,
    get_in,
    is_deleting,
    name_of,
    namespace_of,
    replace_in,
    uid_of,
    utc_now,
)

_AFTER_DUE = 0.1  # seconds to look later than the moment itself, so that it has certainly come


class CronJobController(Controller):
    """One key is one CronJob."""

    name = "cronjob-controller"

    def setup(self) -> None:
        self.cron_jobs = self.watch(CRON_JOBS, itself)
        self.jobs = self.watch(JOBS, its_controller("CronJob"))
        self.jobs.add_index("controller", by_controller)

    async def reconcile(self, key: str) -> float | None:
        cron_job = self.cron_jobs.store.get(key)
        if cron_job is None:
            return None
        jobs = self.jobs.store.by_index("controller", uid_of(cron_job))
        for job in cronjob_times.surplus(cron_job, jobs):
            if not is_deleting(job):
                await self._delete(cron_job, job)
        cron_job = await self._write(cron_job, await self._counted(cron_job, jobs))
        if is_deleting(cron_job) or get_in(cron_job, "spec", "suspend"):
            return None
        timing = self._timing(cron_job)
        if timing is None:
            return None
        schedule, zone = timing
        now = utc_now()
        await self._begin_if_due(cron_job, schedule, zone, now)
        coming = schedule.after(now, zone)
        return None if coming is None else max(0.0, (coming - utc_now()).total_seconds()) + _AFTER_DUE

    def _timing(self, cron_job: Obj) -> tuple[Schedule, tzinfo] | None:
        """The schedule and its time zone; None, and an event, where one of them cannot be read."""
        name, text = get_in(cron_job, "spec", "timeZone", default=""), cron_job["spec"]["schedule"]
        try:
            zone = cronjob_times.zone_of(cron_job)
        except (ValueError, KeyError, OSError):
            message = f'invalid timeZone: "{name}": unknown time zone {name}'
            self.recorder.event(cron_job, "Warning", "UnknownTimeZone", message)
            return None
        try:
            return parse(text), zone
        except ScheduleError as error:
            message = f'unparseable schedule: "{text}" : {error}'
            self.recorder.event(cron_job, "Warning", "UnparseableSchedule", message)
            return None

    # Beginning.

    async def _begin_if_due(self, cron_job: Obj, schedule: Schedule, zone: tzinfo, now: datetime) -> None:
        due = cronjob_times.due(cron_job, schedule, zone, now)
        if due is None:
            return
        if due.too_many:
            message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            self.recorder.event(cron_job, "Warning", "TooManyMissedTimes", message)
        if cronjob_times.is_too_late(cron_job, due.at, now):
            message = f"Missed scheduled time to start a job: {due.at:%a, %d %b %Y %H:%M:%S %z}"
            self.recorder.event(cron_job, "Warning", "MissSchedule", message)
            return
        active = get_in(cron_job, "status", "active", default=[])
        if any(one["name"] == cronjob_times.job_name(cron_job, due.at) for one in active):
            return
        policy = get_in(cron_job, "spec", "concurrencyPolicy", default="Allow")
        if policy == "Forbid" and active:
            message = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self.recorder.event(cron_job, "Normal", "JobAlreadyActive", message)
            return
        if policy == "Replace":
            for one in active:
                job = self.jobs.store.get(f"{namespace_of(cron_job)}/{one['name']}")
                if job is not None:
                    await self._delete(cron_job, job)
            active = []
        await self._begin(cron_job, active, due.at, zone)

    async def _begin(self, cron_job: Obj, active: Sequence[Obj], at: datetime, zone: tzinfo) -> None:
        job = cronjob_times.make_job(cron_job, at, zone)
        try:
            job = await self.client.create(JOBS, job)
        except ApiError as error:
            if namespace_is_going(error):
                return
            if not error.is_already_exists:
                self.recorder.event(cron_job, "Warning", "FailedCreate", f"Error creating job: {error.message}")
                raise
            job = await self.client.get(JOBS, name_of(job), namespace_of(job))
            owner = controller_of(job)
            if owner is None or owner["uid"] != uid_of(cron_job):
                return
        else:
            self.recorder.event(cron_job, "Normal", "SuccessfulCreate", f"Created job {name_of(job)}")
        status = dict(cron_job.get("status") or {})
        status["active"] = [*active] if finished_as(job) else [*active, _reference(job)]
        status["lastScheduleTime"] = format_time(at)
        await self._write(cron_job, status)

    # Accounting.

    async def _counted(self, cron_job: Obj, jobs: Sequence[Obj]) -> Obj:
        """The status without Jobs that have finished or gone, and with the latest success."""
        status = dict(cron_job.get("status") or {})
        known = {uid_of(job): job for job in jobs}
        active = []
        for reference in status.get("active") or ():
            job = known.get(reference["uid"]) or await self._look_up(cron_job, reference)
            if job is None:
                message = f"Active job went missing: {reference['name']}"
                self.recorder.event(cron_job, "Normal", "MissingJob", message)
            elif finished_as(job):
                message = f"Saw completed job: {name_of(job)}, condition: {finished_as(job)}"
                self.recorder.event(cron_job, "Normal", "SawCompletedJob", message)
            else:
                active.append(reference)
        uids = {reference["uid"] for reference in status.get("active") or ()}
        for job in jobs:
            if uid_of(job) not in uids and not finished_as(job) and not is_deleting(job):
                message = f"Saw a job that the controller did not create or forgot: {name_of(job)}"
                self.recorder.event(cron_job, "Warning", "UnexpectedJob", message)
        status["active"] = active
        if success := cronjob_times.last_success(cron_job, jobs):
            status["lastSuccessfulTime"] = success
        return {name: value for name, value in status.items() if value != []}

    async def _look_up(self, cron_job: Obj, reference: Obj) -> Obj | None:
        """A Job that the cache does not show: it may only be behind."""
        try:
            job = await self.client.get(JOBS, reference["name"], namespace_of(cron_job))
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
        return job if uid_of(job) == reference["uid"] else None

    async def _delete(self, cron_job: Obj, job: Obj) -> None:
        try:
            await self.client.delete(
                JOBS, name_of(job), namespace_of(job), uid=uid_of(job), propagation_policy="Background"
            )
        except ApiError as error:
            if error.is_not_found:
                return
            self.recorder.event(cron_job, "Warning", "FailedDelete", f"Deleted job: {error.message}")
            raise
        self.recorder.event(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {name_of(job)}")

    async def _write(self, cron_job: Obj, status: Obj) -> Obj:
        if status == (cron_job.get("status") or {}):
            return cron_job
        return await self.client.update_status(CRON_JOBS, replace_in(cron_job, status, "status"))


def _reference(job: Obj) -> Obj:
    return {
        "kind": "Job",
        "apiVersion": "batch/v1",
        "name": name_of(job),
        "namespace": namespace_of(job),
        "uid": uid_of(job),
        "resourceVersion": job["metadata"]["resourceVersion"],
    }
