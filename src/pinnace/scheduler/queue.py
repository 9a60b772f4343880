"""Pods that wait for a node: active, backing off, or set aside until something happens that could help them.

A pod that found no node is tried again when the cluster changes in a way that the plugins which rejected it care about,
at the latest after five minutes, and not before its back-off is over. Times are seconds of a monotonic clock that is
passed in. Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/#enqueueextension.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple

from pinnace.scheduler.events import Change
from pinnace.scheduler.pod import PodInfo, PodShape

BACKOFF = (1.0, 10.0)  # seconds after the first failure, and at most; it doubles in between
LONGEST_ASIDE = 300.0  # seconds until a pod is tried again, whatever happened


class _Where(Enum):
    ACTIVE = auto()
    BACKING_OFF = auto()
    SET_ASIDE = auto()
    GATED = auto()
    IN_HAND = auto()  # popped: being scheduled or bound


class _Group(NamedTuple):
    """Pods set aside that the same changes help."""

    rejected_by: frozenset[str]
    scheduler_name: str
    shape: PodShape


Helps = Callable[[PodInfo, frozenset[str], Change], bool]
"""Whether a change gives a pod new hope that these plugins rejected."""


@dataclass(slots=True, eq=False)
class QueuedPod:
    """A pod with the history of its attempts."""

    pod: PodInfo
    queued: float  # when it came into the queue first
    attempts: int = 0
    began: float = 0.0  # when the last attempt began
    failed: float = 0.0  # when the last attempt failed
    rejected_by: frozenset[str] = frozenset()  # plugins; empty: anything may help
    group: _Group | None = None  # where it is set aside
    where: _Where = _Where.ACTIVE
    ticket: int = 0  # heap entries with another number are out of date


class SchedulingQueue:
    """All pods that have no node yet."""

    def __init__(
        self,
        sort_key: Callable[[PodInfo, float], Any],
        gate: Callable[[PodInfo], str | None],
        helps: Helps,
        backoff: tuple[float, float] = BACKOFF,
        longest_aside: float = LONGEST_ASIDE,
    ) -> None:
        self._sort_key = sort_key
        self._gate = gate
        self._helps = helps
        self._longest_aside = longest_aside
        self._first_backoff, self._last_backoff = backoff
        self._pods: dict[str, QueuedPod] = {}
        self._active: list[tuple[Any, int, QueuedPod]] = []
        self._backing_off: list[tuple[float, int, QueuedPod]] = []
        self._set_aside: dict[_Group, dict[str, QueuedPod]] = {}
        self._tickets = itertools.count(1)
        self._missed: dict[str, list[Change]] = {}  # what happened since pods were taken that take time to decide on

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, key: str) -> bool:
        return key in self._pods

    def counts(self) -> Iterable[tuple[tuple[str, ...], float]]:
        """How many pods wait where, by kube-scheduler's names of queues."""
        names = {_Where.ACTIVE: "active", _Where.BACKING_OFF: "backoff", _Where.SET_ASIDE: "unschedulable",
                 _Where.GATED: "gated"}  # fmt: skip
        found = dict.fromkeys(names.values(), 0)
        for queued in self._pods.values():
            if queued.where in names:
                found[names[queued.where]] += 1
        return [((name,), float(number)) for name, number in found.items()]

    def rejections(self) -> Iterable[tuple[tuple[str, ...], float]]:
        """How many pods are set aside by plugin and scheduler name."""
        found: dict[tuple[str, ...], float] = {}
        for group, pods in self._set_aside.items():
            for plugin in group.rejected_by:
                key = plugin, group.scheduler_name
                found[key] = found.get(key, 0) + len(pods)
        return sorted(found.items())

    # What the API server shows.

    def put(self, pod: PodInfo, now: float) -> None:
        """A pod without a node was seen. Changes that matter bring it to the front, others are only noted."""
        queued = self._pods.get(pod.key)
        if queued is not None and queued.pod.uid != pod.uid:
            self.remove(pod.key)
            queued = None
        if queued is None:
            queued = self._pods[pod.key] = QueuedPod(pod, now)
            self._activate_or_gate(queued)
            return
        before, queued.pod = queued.pod, pod
        if queued.where is _Where.GATED:
            self._activate_or_gate(queued)
        elif queued.where is _Where.SET_ASIDE and (before.shape is not pod.shape or before.priority != pod.priority):
            self._take_out(queued)
            self._retry(queued, now)

    def remove(self, key: str) -> None:
        """The pod is gone, or has a node."""
        queued = self._pods.pop(key, None)
        self._missed.pop(key, None)
        if queued is not None:
            self._take_out(queued)

    def _take_out(self, queued: QueuedPod) -> None:
        queued.ticket = 0
        if queued.group is not None:
            aside = self._set_aside[queued.group]
            del aside[queued.pod.key]
            if not aside:
                del self._set_aside[queued.group]
            queued.group = None

    # Taking pods and giving them back.

    def pop(self, now: float) -> QueuedPod | None:
        """The next pod to schedule."""
        self._end_backoffs(now)
        while self._active:
            _, ticket, queued = heapq.heappop(self._active)
            if queued.ticket == ticket:
                queued.where = _Where.IN_HAND
                queued.attempts += 1
                queued.began = now
                queued.ticket = 0
                return queued
        return None

    def watch_over(self, queued: QueuedPod) -> None:
        """The decision about this pod takes time: what happens meanwhile must not be missed."""
        self._missed[queued.pod.key] = []

    def set_aside(self, queued: QueuedPod, rejected_by: frozenset[str], now: float) -> None:
        """No node was found; `rejected_by` says which plugins' verdicts must change."""
        missed = self._missed.pop(queued.pod.key, ())
        if self._pods.get(queued.pod.key) is queued:
            queued.failed = now
            queued.rejected_by = rejected_by
            if any(not rejected_by or self._helps(queued.pod, rejected_by, change) for change in missed):
                self._retry(queued, now)
                return
            queued.where = _Where.SET_ASIDE
            queued.group = _Group(rejected_by, queued.pod.scheduler_name, queued.pod.shape)
            self._set_aside.setdefault(queued.group, {})[queued.pod.key] = queued

    def back_off(self, queued: QueuedPod, now: float) -> None:
        """Something went wrong: try again after a pause."""
        self._missed.pop(queued.pod.key, None)
        if self._pods.get(queued.pod.key) is queued:
            queued.failed = now
            self._retry(queued, now)

    def activate(self, key: str) -> None:
        """Try a pod again at once, whatever it waits for."""
        queued = self._pods.get(key)
        if queued is not None and queued.where in (_Where.SET_ASIDE, _Where.BACKING_OFF):
            self._take_out(queued)
            self._activate_or_gate(queued)

    def wake(self, change: Change, now: float) -> None:
        """Bring back the pods that a change could help."""
        for missed in self._missed.values():
            missed.append(change)
        for group in [group for group, pods in self._set_aside.items() if self._could_help(group, pods, change)]:
            for queued in self._set_aside.pop(group).values():
                queued.group = None
                self._retry(queued, now)

    def _could_help(self, group: _Group, pods: dict[str, QueuedPod], change: Change) -> bool:
        """The pods of a group are alike in all that counts, so one is asked about."""
        return not group.rejected_by or self._helps(next(iter(pods.values())).pod, group.rejected_by, change)

    def wake_old(self, now: float) -> None:
        """Bring back what was set aside too long ago."""
        for aside in list(self._set_aside.values()):
            for queued in [q for q in aside.values() if now - q.failed > self._longest_aside]:
                self._take_out(queued)
                self._retry(queued, now)

    def next_due(self) -> float | None:
        """When the next back-off ends."""
        while self._backing_off and self._backing_off[0][2].ticket != self._backing_off[0][1]:
            heapq.heappop(self._backing_off)
        return self._backing_off[0][0] if self._backing_off else None

    def _backoff(self, queued: QueuedPod) -> float:
        """Seconds after a failure before a pod is tried again."""
        doubled = self._first_backoff * float(1 << min(max(queued.attempts - 1, 0), 10))
        return min(doubled, self._last_backoff)

    def _retry(self, queued: QueuedPod, now: float) -> None:
        due = queued.failed + self._backoff(queued)
        if due <= now:
            self._activate_or_gate(queued)
            return
        queued.where = _Where.BACKING_OFF
        queued.ticket = next(self._tickets)
        heapq.heappush(self._backing_off, (due, queued.ticket, queued))

    def _end_backoffs(self, now: float) -> None:
        while (due := self.next_due()) is not None and due <= now:
            self._activate_or_gate(heapq.heappop(self._backing_off)[2])

    def _activate_or_gate(self, queued: QueuedPod) -> None:
        if self._gate(queued.pod) is not None:
            queued.where = _Where.GATED
            queued.ticket = 0
            return
        queued.where = _Where.ACTIVE
        queued.ticket = next(self._tickets)
        heapq.heappush(self._active, (self._sort_key(queued.pod, queued.queued), queued.ticket, queued))
