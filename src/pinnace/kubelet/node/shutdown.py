"""The node's end: pods are ended in the order of their priority, the node says so and takes no others.

Who is told when is a pure question (`grace_groups`, `in_groups`). That the machine goes down is told by systemd-logind
(`logind`), or by SIGTERM where the kubelet is set to take it for that. Specified by
https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#graceful-node-shutdown.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import structlog

from pinnace.kubelet.admission.rules import Refusal
from pinnace.kubelet.eviction.ranking import CRITICAL_PRIORITY, priority
from pinnace.kubelet.node import logind
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.pods import full_name
from pinnace.kubelet.statistics.measures import shutdown_began, shutdown_ended
from pinnace.kubelet.sync.pod_worker import PodWorker, Stage
from pinnace.machinery.meta import Obj

_log = structlog.get_logger()

REASON = "Terminated"
MESSAGE = "Pod was terminated in response to imminent node shutdown."
PROBLEM = "node is shutting down"
NOT_ADMITTED = Refusal(
    "NodeShutdown",
    "Pod was rejected: Pod was rejected as the node is shutting down.",
    "Pod was rejected as the node is shutting down.",
)

Tell = Callable[[str, str, str], None]
"""`(type, reason, message)`: an event about the node."""


class Group(NamedTuple):
    """Pods of this priority and more, up to the next group's, have so many seconds."""

    priority: int
    seconds: int


def grace_groups(options: KubeletOptions) -> list[Group]:
    """As configured, the lowest priority first; empty where no time is given."""
    by_priority = options.shutdown_grace_period_by_pod_priority
    if by_priority:
        return sorted(Group(*one) for one in by_priority)
    whole, critical = options.shutdown_grace_period, options.shutdown_grace_period_critical_pods
    if not whole:
        return []
    return [Group(0, int(whole - critical)), Group(CRITICAL_PRIORITY, int(critical))]


def in_groups(pods: Iterable[Obj], groups: Sequence[Group]) -> list[tuple[Group, list[Obj]]]:
    """Pods with the group that they are in; those below the lowest go with it."""
    found: list[tuple[Group, list[Obj]]] = [(group, []) for group in groups]
    priorities = [group.priority for group in groups]
    for pod in pods:
        found[max(0, bisect_right(priorities, priority(pod)) - 1)][1].append(pod)
    return found


def allowed_grace(pod: Obj, group: Group) -> int:
    """Seconds for one pod: its own grace period unless that is more than its group has."""
    own = pod["spec"].get("terminationGracePeriodSeconds")
    return group.seconds if own is None else min(group.seconds, int(own))


class NodeShutdown:
    """One node's end. `changed` makes the node's status be written, `flush` waits until a pod's is."""

    def __init__(
        self,
        options: KubeletOptions,
        workers: Mapping[str, PodWorker],
        tell: Tell,
        changed: Callable[[], None],
        flush: Callable[[Obj], Awaitable[None]],
    ) -> None:
        self._groups = grace_groups(options)
        self._workers = workers
        self._tell = tell
        self._changed = changed
        self._flush = flush
        self.under_way = False

    @property
    def enabled(self) -> bool:
        """Whether pods are given any time."""
        return bool(self._groups)

    @property
    def problem(self) -> str:
        """Why the node is not ready."""
        return PROBLEM if self.under_way else ""

    def admit(self, _pod: Obj) -> Refusal | None:
        """Why the node takes no pod any more."""
        return NOT_ADMITTED if self.under_way else None

    async def watch(self) -> None:
        """Follow systemd-logind until cancelled, holding the machine's end up while pods end; returns without one."""
        if not self.enabled or not logind.is_there():
            return
        seconds = sum(group.seconds for group in self._groups)
        while True:
            try:
                async with logind.Inhibitor(seconds) as inhibitor:
                    async for going_down in inhibitor.events():
                        if going_down:
                            await self.end_pods()
                            break  # lets go of the machine
                        self.cancel()
            except OSError as error:
                _log.warning("systemd-logind cannot be followed", error=str(error))
            await asyncio.sleep(logind.RETRY)

    def cancel(self) -> None:
        """The machine stays after all."""
        if self.under_way:
            self._tell("Normal", "Shutdown", "Shutdown manager detected shutdown cancellation")
        self.under_way = False
        self._changed()

    async def end_pods(self) -> None:
        """End every pod, group after group, each within its time."""
        self.under_way = True
        shutdown_began.set(time.time())
        shutdown_ended.set(0)
        self._tell("Normal", "Shutdown", "Shutdown manager detected shutdown event")
        self._changed()
        live = [one for one in self._workers.values() if one.stage in (Stage.SYNCING, Stage.TERMINATING)]
        by_uid = {one.uid: one for one in live}
        for group, pods in in_groups([one.pod for one in live], self._groups):
            if pods:
                _log.info("ending pods", priority=group.priority, seconds=group.seconds, pods=len(pods))
                await self._end([by_uid[pod["metadata"]["uid"]] for pod in pods], group)
        shutdown_ended.set(time.time())

    async def _end(self, workers: list[PodWorker], group: Group) -> None:
        async def end(worker: PodWorker) -> None:
            worker.fail(REASON, MESSAGE, grace=allowed_grace(worker.pod, group), disruption=MESSAGE)
            await worker.ended()
            await self._flush(worker.pod)

        tasks = {asyncio.create_task(end(worker)): worker for worker in workers}
        _, late = await asyncio.wait(tasks, timeout=group.seconds)
        for task in late:
            _log.warning("a pod has not ended in its time", pod=full_name(tasks[task].pod))
            task.cancel()
