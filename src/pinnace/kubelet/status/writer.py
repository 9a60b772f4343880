"""Writes pod statuses to the API server: the latest of each pod, only what changed, one request a pod at a time.

A status that could not be written is tried again until a newer one takes its place or the pod is gone. The status of a
static pod goes to its mirror.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from pinnace.apis.resources import PODS
from pinnace.client.client import Client
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.kubelet.statistics import measures
from pinnace.kubelet.status.pod import merge, status_patch, with_conditions_of_others, without_nulls
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, name_of, namespace_of, uid_of
from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()

_FIRST_PAUSE, _LAST_PAUSE = 0.2, 10.0  # seconds between attempts


class StatusWriter:
    """Statuses of one node's pods; `target` finds the API's object of a pod (its mirror, for a static one)."""

    def __init__(self, client: Client, target: Callable[[Obj], Obj | None]) -> None:
        self._client = client
        self._target = target
        self._wanted: dict[str, tuple[Obj, Obj]] = {}  # pod UID -> pod, status
        self._written: dict[str, tuple[int, Obj]] = {}  # UID of the API's object -> resourceVersion, status
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def shown(self, pod: Obj) -> Obj:
        """The status decided last, with the conditions of others; or what the API has."""
        target = self._target(pod) or pod
        found: Obj = target.get("status") or {}
        decided = self._wanted.get(uid_of(pod))
        return found if decided is None else with_conditions_of_others(decided[1], found)

    def set(self, pod: Obj, status: Obj, *, alive: bool) -> Obj:
        """Decide a pod's status; it is written in the background. What was decided, a terminal phase kept."""
        status = merge(self.shown(pod), without_nulls(status), alive=alive)
        self._wanted[uid_of(pod)] = (pod, status)
        self._start(uid_of(pod))
        return status

    def retry(self, pod: Obj) -> None:
        """The API's object appeared or changed: write again what it does not show."""
        if uid_of(pod) in self._wanted:
            self._start(uid_of(pod))

    def _start(self, uid: str) -> None:
        if uid not in self._tasks and self._patch_for(uid) is not None:
            self._tasks[uid] = asyncio.create_task(self._work(uid), name=f"status {uid}")

    def _patch_for(self, uid: str) -> tuple[Obj, Obj] | None:
        """The API's object and the patch that it needs."""
        decided = self._wanted.get(uid)
        target = self._target(decided[0]) if decided else None
        if decided is None or target is None:
            return None
        before: Obj = target.get("status") or {}
        version, written = self._written.get(uid_of(target), (0, before))
        if version > _version(target):
            before = written
        patch = status_patch(target, before, decided[1])
        return None if patch is None else (target, patch)

    async def _work(self, uid: str) -> None:
        try:
            await self._write(uid)
        finally:
            # at once, not in a callback: a status decided in between would find a task that no longer looks
            if self._tasks.get(uid) is asyncio.current_task():
                del self._tasks[uid]

    async def _write(self, uid: str) -> None:
        pause, began = _FIRST_PAUSE, time.perf_counter()
        while (needed := self._patch_for(uid)) is not None:
            target, patch = needed
            try:
                answer = await self._client.patch(
                    PODS,
                    name_of(target),
                    patch,
                    namespace_of(target),
                    content_type=STRATEGIC_MERGE_PATCH,
                    subresource="status",
                )
            except ApiError as error:
                if error.is_not_found or error.is_conflict:
                    return  # deleted, or another pod of that name by now
                _log.warning("cannot write pod status", pod=name_of(target), error=error.message)
                if error.code in (400, 422):
                    return  # the same again would be refused again
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LAST_PAUSE)
            else:
                self._written[uid_of(target)] = (_version(answer), answer.get("status") or {})
                measures.status_sync.observe(time.perf_counter() - began)
                began = time.perf_counter()
                if _version(answer) <= _version(target):
                    return  # nothing was changed by the patch: the server sees no difference

    async def flush(self, pod: Obj) -> None:
        """Wait until the decided status was written, or cannot be."""
        task = self._tasks.get(uid_of(pod))
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    def forget(self, pod: Obj) -> None:
        """Drop what is known of a pod that is gone."""
        self._wanted.pop(uid_of(pod), None)
        self._written.pop(uid_of(pod), None)
        target = self._target(pod)
        if target is not None:
            self._written.pop(uid_of(target), None)
        task = self._tasks.pop(uid_of(pod), None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        await end_tasks(self._tasks.values())


def _version(obj: Obj) -> int:
    text = obj["metadata"].get("resourceVersion") or "0"
    return int(text) if text.isdigit() else 0
