"""Deletes Jobs some time after they have finished, if they ask for it with `ttlSecondsAfterFinished`.

Specified by https://kubernetes.io/docs/concepts/workloads/controllers/ttlafterfinished/.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from pinnace.apis.resources import JOBS
from pinnace.client.controller import Controller, itself
from pinnace.controllers.conditions import condition
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, is_deleting, name_of, namespace_of, parse_time, uid_of, utc_now


def expires_in(job: Obj, now: datetime) -> float | None:
    """Seconds until the Job is to be deleted, 0 or less when it is time; None while it is not to be."""
    ttl = get_in(job, "spec", "ttlSecondsAfterFinished")
    if ttl is None or is_deleting(job):
        return None
    for kind in ("Complete", "Failed"):
        found = condition(job, kind)
        if found is not None and found.get("status") == "True" and found.get("lastTransitionTime"):
            due = parse_time(found["lastTransitionTime"]) + timedelta(seconds=ttl)
            return (due - now).total_seconds()
    return None


class TtlAfterFinishedController(Controller):
    """One key is one Job."""

    name = "ttl-after-finished-controller"

    def setup(self) -> None:
        self.jobs = self.watch(JOBS, itself)

    async def reconcile(self, key: str) -> float | None:
        job = self.jobs.store.get(key)
        left = expires_in(job, utc_now()) if job is not None else None
        if job is None or left is None:
            return None
        if left > 0:
            return left
        fresh = await self._fresh(job)  # its ttl may have been raised at the last moment
        if fresh is None:
            return None
        left = expires_in(fresh, utc_now())
        if left is None or left > 0:
            return left
        try:
            await self.client.delete(
                JOBS, name_of(fresh), namespace_of(fresh), uid=uid_of(fresh), propagation_policy="Foreground"
            )
        except ApiError as error:
            if not error.is_not_found:
                raise
        return None

    async def _fresh(self, job: Obj) -> Obj | None:
        try:
            return await self.client.get(JOBS, name_of(job), namespace_of(job))
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
