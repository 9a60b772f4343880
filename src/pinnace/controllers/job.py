"""Runs a Job's pods until enough of them have succeeded, or too many have failed.

Each finished pod is counted exactly once: its uid is written to `uncountedTerminatedPods`, then its finalizer is taken
off, then it moves into the counters. What is needed is decided in `job_status.py`. Specified by
https://kubernetes.io/docs/concepts/workloads/controllers/job/.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pinnace.apis.resources import JOBS, PODS
from pinnace.client.controller import Controller, itself
from pinnace.client.store import by_namespace
from pinnace.controllers import job_indexes, job_status
from pinnace.controllers.conditions import condition, with_condition
from pinnace.controllers.expectations import Expectations
from pinnace.controllers.job_backoff import backoff_left
from pinnace.controllers.job_indexes import INDEX, is_indexed, limit_per_index
from pinnace.controllers.job_policies import FINALIZER, has_finalizer, replaces_failed_only
from pinnace.controllers.job_status import Ending, Progress, new_condition
from pinnace.controllers.ownership import by_claim, claim_all, claimable
from pinnace.controllers.pod_control import BURST, PodControl
from pinnace.controllers.pods import first_to_go, from_template, is_finished, is_ready
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    controller_of,
    format_time,
    get_in,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    replace_in,
    uid_of,
    utc_now,
)
from pinnace.machinery.selectors import LabelSelector

_UNCOUNTED_LIMIT = 500  # uids in the status at one time


def make_pod(job: Obj, index: int | None, replaced: Obj | None = None) -> Obj:
    """A pod of the Job; of an Indexed Job, one that knows its index, and how often the index failed before."""
    pod = from_template(job["spec"]["template"], job)
    metadata = pod["metadata"]
    metadata["finalizers"] = [*metadata.get("finalizers", ()), FINALIZER]
    if index is None:
        return pod
    metadata["generateName"] = f"{name_of(job)}-{index}-"
    metadata["annotations"] = {**metadata.get("annotations", {}), INDEX: str(index)}
    if limit_per_index(job) is not None:
        metadata["annotations"] |= job_indexes.counts_to_write(job, replaced)
    metadata["labels"] = {**metadata.get("labels", {}), INDEX: str(index)}
    variable = {
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}},
    }
    spec = dict(pod["spec"])
    spec["hostname"] = f"{name_of(job)}-{index}"
    for field in ("initContainers", "containers"):
        if spec.get(field):
            spec[field] = [{**one, "env": _with_variable(one.get("env") or [], variable)} for one in spec[field]]
    return {**pod, "spec": spec}


def _with_variable(env: list[Obj], variable: Obj) -> list[Obj]:
    """Add a variable, unless the author set one of its name."""
    return env if any(one["name"] == variable["name"] for one in env) else [*env, variable]


class JobController(Controller):
    """One key is one Job."""

    name = "job-controller"

    def setup(self) -> None:
        self.jobs = self.watch(JOBS, itself)
        self.jobs.add_index("namespace", by_namespace)
        self.pods = self.watch(PODS, self._jobs_of_pod)
        self.pods.add_index("namespace", by_namespace)
        self.pods.add_index("claim", by_claim)
        self.expectations = Expectations(self.pods)
        self._control = PodControl(self.client, self.recorder, self.expectations)

    def _jobs_of_pod(self, pod: Obj) -> Iterable[str]:
        """The Jobs that a pod concerns; one with our finalizer and no Job concerns the Job without a name."""
        namespace, owner = namespace_of(pod), controller_of(pod)
        if owner is not None and owner["kind"] == "Job":
            return (f"{namespace}/{owner['name']}",)
        keys = [] if owner is not None else [key_of(job) for job in self._jobs_that_pick(pod)]
        return keys or ((f"{namespace}/",) if has_finalizer(pod) else ())

    def _jobs_that_pick(self, pod: Obj) -> list[Obj]:
        labels = labels_of(pod)
        jobs = self.jobs.store.by_index("namespace", namespace_of(pod))
        return [job for job in jobs if _selector(job).matches(labels)]

    async def reconcile(self, key: str) -> float | None:
        job = self.jobs.store.get(key)
        if job is None:
            self.expectations.forget(key)
            await self._release_orphans(key)
            return None
        if job_status.is_managed_elsewhere(job):
            return None
        candidates = claimable(self.pods.store, job)
        if job_status.is_finished_job(job) or is_deleting(job):
            await self._release(self._owned(job, candidates))
            return None
        pods = await claim_all(self.client, JOBS, job, _selector(job), PODS, candidates, FINALIZER)
        job = await self._start(job)
        now_at = job_status.progress(job, pods)
        ending = job_status.ending(job, now_at, utc_now())
        wait: float | None = None
        if ending is not None:
            if self.expectations.satisfied(key) and now_at.active:
                await self._control.delete(job, now_at.active)
        elif self.expectations.satisfied(key):
            wait = await self._manage(job, pods, now_at)
        await self._account(job, pods, now_at, ending)
        if ending is None:
            wait = _sooner(wait, job_status.deadline_in(job, utc_now()))
        return wait

    # Beginning, pausing.

    async def _start(self, job: Obj) -> Obj:
        """Note when the Job began, was suspended, or was resumed."""
        status = dict(job.get("status") or {})
        suspended, now = job_status.is_suspended(job), utc_now()
        old = condition(job, "Suspended")
        was_suspended = old is not None and old.get("status") == "True"
        fresh = None
        if suspended and not was_suspended:
            fresh = new_condition("Suspended", "JobSuspended", "Job suspended", now)
            self.recorder.event(job, "Normal", "Suspended", "Job suspended")
            status.pop("startTime", None)
        elif not suspended and was_suspended:
            fresh = new_condition("Suspended", "JobResumed", "Job resumed", now, "False")
            self.recorder.event(job, "Normal", "Resumed", "Job resumed")
            status["startTime"] = format_time(now)
        elif not suspended and "startTime" not in status:
            status["startTime"] = format_time(now)
        if fresh is not None:
            status["conditions"] = with_condition(status.get("conditions") or (), fresh)
        return await self._write(job, status)

    # Pods.

    async def _manage(self, job: Obj, pods: Sequence[Obj], now_at: Progress) -> float | None:
        """Make or delete pods; seconds until failures allow more to be made."""
        superfluous = job_indexes.superfluous(job, now_at.active, now_at.settled_indexes)
        if superfluous:
            await self._stop(job, now_at, superfluous)
        wanted, active = job_status.wanted_active(job, now_at), len(now_at.active)
        if active > wanted:
            doomed = first_to_go(now_at.active, now_at.active, utc_now())[: min(active - wanted, BURST)]
            await self._stop(job, now_at, doomed)
            return None
        missing = wanted - active
        if replaces_failed_only(job):
            missing -= now_at.terminating
        if missing <= 0:
            return None
        if limit_per_index(job) is None and (wait := backoff_left(job, pods, utc_now())) > 0:
            return wait
        return await self._create(job, now_at, min(missing, BURST))

    async def _stop(self, job: Obj, now_at: Progress, pods: Sequence[Obj]) -> None:
        """Delete pods that are not needed; without our finalizer, for they did not fail."""
        await self._release(pods)
        error = await self._control.delete(job, pods)
        gone = {uid_of(pod) for pod in pods}
        now_at.active = [pod for pod in now_at.active if uid_of(pod) not in gone]
        now_at.terminating += len(pods)
        if error is not None:
            raise error

    async def _create(self, job: Obj, now_at: Progress, count: int) -> float | None:
        """Make pods; seconds until indexes that failed may be tried again."""
        indexes: Sequence[int | None] = [None] * count
        wait = None
        if is_indexed(job):
            free = job_indexes.free_indexes(job, now_at.taken_indexes, count)
            indexes, wait = job_indexes.due(free, now_at.last_failures, utc_now())

        def make(number: int) -> Obj:
            index = indexes[number]
            return make_pod(job, index, now_at.last_failures.get(index) if index is not None else None)

        _, error = await self._control.create(job, make, len(indexes))
        if error is not None:
            raise error
        return wait

    # Counting.

    async def _account(self, job: Obj, pods: Sequence[Obj], now_at: Progress, ending: Ending | None) -> None:
        """Write the status, in steps that count each finished pod once even if we are killed in between."""
        kept = {uid_of(pod) for pod in now_at.last_failures.values()} if ending is None else set()
        job = await self._settle(job, pods)
        status = dict(job["status"])
        _set(status, "active", len(now_at.active))
        status["ready"] = sum(is_ready(pod) for pod in now_at.active)
        status["terminating"] = now_at.terminating
        if is_indexed(job):
            _set(status, "completedIndexes", job_indexes.format_indexes(now_at.indexes))
        if limit_per_index(job) is not None:
            status["failedIndexes"] = job_indexes.format_indexes(now_at.failed_indexes)
        uncounted = {name: list(uids) for name, uids in (status.get("uncountedTerminatedPods") or {}).items()}
        fresh = {"succeeded": now_at.newly_succeeded, "failed": now_at.newly_failed}
        room = _UNCOUNTED_LIMIT - sum(map(len, uncounted.values()))
        for name, newly in fresh.items():
            taken = [uid_of(pod) for pod in newly][: max(0, room)]
            room -= len(taken)
            if taken:
                uncounted[name] = [*uncounted.get(name, ()), *taken]
        status["uncountedTerminatedPods"] = uncounted
        if ending is not None and condition(job, ending.announced_by) is None:
            announcement = new_condition(ending.announced_by, ending.reason, ending.message, utc_now())
            status["conditions"] = with_condition(status.get("conditions") or (), announcement)
        job = await self._write(job, status)
        counted = [*now_at.newly_succeeded, *now_at.newly_failed, *now_at.ignored]
        await self._release(pod for pod in (*counted, *self._with_uid(pods, uncounted)) if uid_of(pod) not in kept)
        job = await self._settle(job, [pod for pod in pods if uid_of(pod) in kept])
        if ending is not None and not now_at.active and not now_at.terminating:
            await self._finish(job, ending)

    async def _settle(self, job: Obj, pods: Sequence[Obj]) -> Obj:
        """Move uids whose pods have lost their finalizer into the counters."""
        status = dict(job.get("status") or {})
        uncounted = status.get("uncountedTerminatedPods")
        if not uncounted:
            return job
        held = {uid_of(pod) for pod in pods if has_finalizer(pod)}
        left: Obj = {}
        for name in ("succeeded", "failed"):
            uids = uncounted.get(name) or []
            waiting = [uid for uid in uids if uid in held]
            if name != "succeeded" or not is_indexed(job):
                _set(status, name, status.get(name, 0) + len(uids) - len(waiting))
            if waiting:
                left[name] = waiting
        if is_indexed(job):
            _set(status, "succeeded", len(job_indexes.parse_indexes(status.get("completedIndexes", ""))))
        status["uncountedTerminatedPods"] = left
        return await self._write(job, status)

    async def _finish(self, job: Obj, ending: Ending) -> None:
        now = utc_now()
        status = dict(job["status"])
        fresh = new_condition(ending.type, ending.reason, ending.message, now)
        status["conditions"] = with_condition(status.get("conditions") or (), fresh)
        status.pop("active", None)
        status["ready"] = 0
        if ending.type == "Complete":
            status["completionTime"] = format_time(now)
        await self._write(job, status)
        if ending.type == "Complete":
            self.recorder.event(job, "Normal", "Completed", "Job completed")
        else:
            self.recorder.event(job, "Warning", ending.reason, ending.message)

    # Calls.

    @staticmethod
    def _with_uid(pods: Iterable[Obj], uncounted: Obj) -> list[Obj]:
        uids = {uid for listed in uncounted.values() for uid in listed}
        return [pod for pod in pods if uid_of(pod) in uids]

    def _owned(self, job: Obj, pods: Iterable[Obj]) -> list[Obj]:
        owned = [pod for pod in pods if (owner := controller_of(pod)) is not None and owner["uid"] == uid_of(job)]
        return [pod for pod in owned if is_finished(pod) or is_deleting(pod)]

    async def _release(self, pods: Iterable[Obj]) -> None:
        """Take our finalizer off pods, which may then go."""
        released = set()
        for pod in pods:
            if not has_finalizer(pod) or uid_of(pod) in released:
                continue
            released.add(uid_of(pod))
            kept = [one for one in pod["metadata"]["finalizers"] if one != FINALIZER]
            metadata = {
                "uid": uid_of(pod),
                "resourceVersion": pod["metadata"]["resourceVersion"],
                "finalizers": kept or None,
            }
            try:
                await self.client.patch(PODS, name_of(pod), {"metadata": metadata}, namespace_of(pod))
            except ApiError as error:
                if not error.is_not_found:
                    raise

    async def _release_orphans(self, key: str) -> None:
        """The Job is gone, or the pods were let go: nobody will count them any more."""
        for pod in self.pods.store.by_index("namespace", key.partition("/")[0]):
            if has_finalizer(pod) and key in self._jobs_of_pod(pod):
                await self._release([pod])

    async def _write(self, job: Obj, status: Obj) -> Obj:
        if status == (job.get("status") or {}):
            return job
        return await self.client.update_status(JOBS, replace_in(job, status, "status"))


def _set(status: Obj, name: str, value: int | str) -> None:
    """Counters and lists that are empty are left out, as the API does."""
    if value:
        status[name] = value
    else:
        status.pop(name, None)


def _sooner(one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return max(0.0, min(known)) if known else None


def _selector(job: Obj) -> LabelSelector:
    return LabelSelector.from_json(get_in(job, "spec", "selector"))
