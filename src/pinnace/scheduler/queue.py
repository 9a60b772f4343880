"""Pods that wait for a node: active, backing off, or set aside until something happens that could help them.

A pod that found no node is tried again when the cluster changes in a way that the plugins which rejected it care about,
at the latest after five minutes, and not before its back-off is over. Times are seconds of a monotonic clock that is
passed in. Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/scheduling-framework/#enqueueextension.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from pinnace.scheduler.pod import PodInfo

FIRST_BACKOFF = 1.0
LAST_BACKOFF = 10.0
UNSCHEDULABLE_SECONDS = 300.0


class Happening(Enum):
    """What can happen in a cluster that gives waiting pods new hope."""

    NODE_ADDED = auto()
    NODE_CHANGED = auto()
    POD_PLACED = auto()  # a pod was bound, or the labels of a bound pod changed
    POD_LEFT = auto()  # a bound pod is gone


_NODES = frozenset({Happening.NODE_ADDED, Happening.NODE_CHANGED})
_EVERYTHING = frozenset(Happening)
WAKES: dict[str, frozenset[Happening]] = {
    "NodeUnschedulable": _NODES,
    "TaintToleration": _NODES,
    "NodeAffinity": _NODES,
    "NodePorts": _NODES | {Happening.POD_LEFT},
    "NodeResourcesFit": _NODES | {Happening.POD_LEFT},
    "PodTopologySpread": _EVERYTHING,
    "InterPodAffinity": _EVERYTHING,
}


def _concerns(plugin: str, happening: Happening) -> bool:
    """Whether a plugin could change its mind; one that is not known here always could."""
    return happening in WAKES.get(plugin, _EVERYTHING)


class _Where(Enum):
    ACTIVE = auto()
    BACKING_OFF = auto()
    SET_ASIDE = auto()
    GATED = auto()
    IN_HAND = auto()  # popped: being scheduled or bound


@dataclass(slots=True, eq=False)
class QueuedPod:
    """A pod with the history of its attempts."""

    pod: PodInfo
    queued: float  # when it came into the queue first
    attempts: int = 0
    failed: float = 0.0  # when the last attempt failed
    rejected_by: frozenset[str] = frozenset()  # plugins; empty: anything may help
    where: _Where = _Where.ACTIVE
    ticket: int = 0  # heap entries with another number are out of date

    @property
    def backoff(self) -> float:
        """Seconds after a failure before it is tried again."""
        return float(min(FIRST_BACKOFF * 2 ** min(max(self.attempts - 1, 0), 10), LAST_BACKOFF))


class SchedulingQueue:
    """All pods that have no node yet."""

    def __init__(self, sort_key: Callable[[PodInfo, float], Any], gate: Callable[[PodInfo], str | None]) -> None:
        self._sort_key = sort_key
        self._gate = gate
        self._pods: dict[str, QueuedPod] = {}
        self._active: list[tuple[Any, int, QueuedPod]] = []
        self._backing_off: list[tuple[float, int, QueuedPod]] = []
        self._set_aside: dict[frozenset[str], dict[str, QueuedPod]] = {}
        self._tickets = itertools.count(1)

    def __len__(self) -> int:
        return len(self._pods)

    def __contains__(self, key: str) -> bool:
        return key in self._pods

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
        if queued is not None:
            self._take_out(queued)

    def _take_out(self, queued: QueuedPod) -> None:
        queued.ticket = 0
        if queued.where is _Where.SET_ASIDE:
            aside = self._set_aside[queued.rejected_by]
            del aside[queued.pod.key]
            if not aside:
                del self._set_aside[queued.rejected_by]

    # Taking pods and giving them back.

    def pop(self, now: float) -> QueuedPod | None:
        """The next pod to schedule."""
        self._end_backoffs(now)
        while self._active:
            _, ticket, queued = heapq.heappop(self._active)
            if queued.ticket == ticket:
                queued.where = _Where.IN_HAND
                queued.attempts += 1
                queued.ticket = 0
                return queued
        return None

    def set_aside(self, queued: QueuedPod, rejected_by: frozenset[str], now: float) -> None:
        """No node was found; `rejected_by` says which plugins' verdicts must change."""
        if self._pods.get(queued.pod.key) is queued:
            queued.failed = now
            queued.rejected_by = rejected_by
            queued.where = _Where.SET_ASIDE
            self._set_aside.setdefault(rejected_by, {})[queued.pod.key] = queued

    def back_off(self, queued: QueuedPod, now: float) -> None:
        """Something went wrong: try again after a pause."""
        if self._pods.get(queued.pod.key) is queued:
            queued.failed = now
            self._retry(queued, now)

    def activate(self, key: str) -> None:
        """Try a pod again at once, whatever it waits for."""
        queued = self._pods.get(key)
        if queued is not None and queued.where in (_Where.SET_ASIDE, _Where.BACKING_OFF):
            self._take_out(queued)
            self._activate_or_gate(queued)

    def wake(self, happening: Happening, now: float) -> None:
        """Bring back the pods that this could help."""
        helped = [names for names in self._set_aside if not names or any(_concerns(name, happening) for name in names)]
        for names in helped:
            for queued in self._set_aside.pop(names).values():
                self._retry(queued, now)

    def wake_old(self, now: float) -> None:
        """Bring back what was set aside too long ago."""
        for names in list(self._set_aside):
            aside = self._set_aside[names]
            for queued in [q for q in aside.values() if now - q.failed > UNSCHEDULABLE_SECONDS]:
                self._take_out(queued)
                self._retry(queued, now)

    def next_due(self) -> float | None:
        """When the next back-off ends."""
        while self._backing_off and self._backing_off[0][2].ticket != self._backing_off[0][1]:
            heapq.heappop(self._backing_off)
        return self._backing_off[0][0] if self._backing_off else None

    def _retry(self, queued: QueuedPod, now: float) -> None:
        due = queued.failed + queued.backoff
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
