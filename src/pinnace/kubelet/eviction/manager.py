"""Watches the node's resources, frees what it can, and ends the pod that it must: one at a time.

Looks every ten seconds, and at once when the kernel says that processes wait for memory. Pods are measured only while
something is short or they have limits on what they write. What is decided here is decided by `thresholds`, `ranking`
and `storage` (https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import structlog

from pinnace.apis.core.node_selection import untolerated
from pinnace.kubelet.admission.rules import Refusal
from pinnace.kubelet.eviction import storage
from pinnace.kubelet.eviction.messages import REASON, condition_message, eviction_message
from pinnace.kubelet.eviction.observations import MemoryAlarm
from pinnace.kubelet.eviction.ranking import PodUsage, is_critical, rank
from pinnace.kubelet.eviction.thresholds import Observations, Pressure, Signal, Threshold, is_met, with_containerfs
from pinnace.kubelet.pods import BEST_EFFORT, full_name, qos_class
from pinnace.machinery.meta import Obj
from pinnace.machinery.metrics import Counter

_log = structlog.get_logger()

PERIOD = 10.0  # seconds between two looks
CLEAN_UP_TIMEOUT = 30.0  # seconds for an evicted pod to end, before the next may be chosen
IMMEDIATE_GRACE = 1  # seconds, where a hard threshold is met
MEMORY_TAINT = {"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"}

evictions = Counter("kubelet_evictions", "Cumulative number of pod evictions by eviction signal", ("eviction_signal",))


@dataclass(frozen=True, slots=True)
class Eviction:
    """How a pod is ended, and what is said of it."""

    message: str
    grace: int  # seconds
    annotations: Mapping[str, str]


class Surroundings(Protocol):
    """What the manager is told by the kubelet, and has it do."""

    async def observe(self) -> Observations:
        """What the signals show now. Raises OSError."""

    def dedicated_image_fs(self) -> bool:
        """Whether images are on another file system than pods' files."""

    def active_pods(self) -> list[Obj]:
        """Pods that run here or soon will."""

    async def usages(self, pods: list[Obj]) -> Mapping[str, PodUsage]:
        """What pods use, by UID."""

    async def evict(self, pod: Obj, eviction: Eviction) -> None:
        """End a pod for good; returns when it has ended."""

    async def reclaim(self, signal: Signal) -> bool:
        """Remove what nobody uses from the disk that is short; whether there was anything to try."""

    def threshold_met(self, resource: str) -> None:
        """Tell that there is too little of a resource."""

    def conditions_changed(self) -> None:
        """The node's conditions are others than before."""


class EvictionManager:
    """One node's evictions."""

    def __init__(
        self,
        around: Surroundings,
        pressure: Pressure,
        *,
        max_pod_grace_period: int = 0,
        memory_alarm: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._around = around
        self._pressure = pressure
        self._max_pod_grace_period = max_pod_grace_period
        self._dedicated = False
        self._alarm = memory_alarm
        self._clock = clock
        self._wake = asyncio.Event()

    @property
    def conditions(self) -> tuple[str, ...]:
        """Types of the Node's conditions that are True."""
        return self._pressure.conditions

    def admit(self, pod: Obj) -> Refusal | None:
        """Why the node does not take a pod while something is short."""
        conditions = self.conditions
        if not conditions or is_critical(pod):
            return None
        if conditions == ("MemoryPressure",) and (qos_class(pod) != BEST_EFFORT or _tolerates_memory_pressure(pod)):
            return None
        message = condition_message(conditions)
        return Refusal(REASON, f"Pod was rejected: {message}", message)

    async def run(self) -> None:
        """Look until cancelled."""
        alarm = self._open_alarm()
        loop = asyncio.get_running_loop()
        if alarm is not None:
            loop.add_reader(alarm.fileno(), self._alarmed, alarm)
        try:
            while True:
                self._wake.clear()
                try:
                    evicted = await self.synchronize()
                except Exception:  # the pods of the node must not depend on it
                    _log.exception("cannot look after the node's resources")
                    evicted = []
                if not evicted:
                    await self._sleep()
        finally:
            if alarm is not None:
                loop.remove_reader(alarm.fileno())
                alarm.close()

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(PERIOD):
                await self._wake.wait()
        except TimeoutError:
            return

    def _open_alarm(self) -> MemoryAlarm | None:
        if not self._alarm:
            return None
        try:
            return MemoryAlarm()
        except OSError as error:
            _log.info("the kernel does not tell of memory pressure", error=str(error))
            return None

    def _alarmed(self, alarm: MemoryAlarm) -> None:
        if alarm.take():
            self._wake.set()

    async def synchronize(self) -> list[Obj]:
        """Look once and do what must be done; the pods that were evicted."""
        try:
            observations = await self._around.observe()
        except OSError as error:
            _log.warning("cannot observe the node's resources", error=str(error))
            return []
        if self._around.dedicated_image_fs() and not self._dedicated:
            self._dedicated = True
            self._pressure.thresholds = with_containerfs(self._pressure.thresholds, of_images=True)
        before = self.conditions
        due = self._pressure.observe(observations, self._clock())
        if self.conditions != before:
            self._around.conditions_changed()
        pods = self._around.active_pods()
        evicted = await self._evict_for_storage([pod for pod in pods if storage.is_limited(pod)])
        if evicted or not due:
            return evicted
        return await self._relieve(due, observations, pods)

    async def _evict_for_storage(self, pods: list[Obj]) -> list[Obj]:
        """End every pod that wrote more than it may."""
        usages = await self._around.usages(pods) if pods else {}
        evicted = []
        for pod in pods:
            usage = usages.get(pod["metadata"]["uid"])
            excess = storage.excess(pod, usage, dedicated_image_fs=self._dedicated) if usage else None
            if excess is not None and await self._evict(pod, Eviction(excess.message, IMMEDIATE_GRACE, {})):
                evictions.inc(excess.signal)
                evicted.append(pod)
        return evicted

    async def _relieve(self, due: list[Threshold], observations: Observations, pods: list[Obj]) -> list[Obj]:
        """Free what is short most: what nobody uses first, then what one pod uses."""
        threshold = due[0]
        resource = threshold.signal.resource
        self._around.threshold_met(resource)
        _log.warning("too little of a resource", resource=resource, signal=str(threshold.signal))
        if await self._around.reclaim(threshold.signal):
            observations = await self._around.observe()
            if not any(is_met(one, observations) for one in self._pressure.thresholds):
                return []
        usages = await self._around.usages(pods)
        for pod in rank(pods, usages, threshold.signal, dedicated_image_fs=self._dedicated):
            usage = usages.get(pod["metadata"]["uid"])
            message, annotations = eviction_message(resource, pod, usage, due, observations)
            if await self._evict(pod, Eviction(message, self._grace(threshold, pod), annotations)):
                evictions.inc(str(threshold.signal))
                return [pod]
        _log.warning("no pod can be evicted", resource=resource)
        return []

    def _grace(self, threshold: Threshold, pod: Obj) -> int:
        if not threshold.soft:
            return IMMEDIATE_GRACE
        own = pod["spec"].get("terminationGracePeriodSeconds")
        return self._max_pod_grace_period if own is None else min(self._max_pod_grace_period, int(own))

    async def _evict(self, pod: Obj, eviction: Eviction) -> bool:
        """End a pod unless the node needs it."""
        if is_critical(pod):
            return False
        _log.warning("evicting a pod", pod=full_name(pod), message=eviction.message)
        try:
            async with asyncio.timeout(CLEAN_UP_TIMEOUT + eviction.grace):
                await self._around.evict(pod, eviction)
        except TimeoutError:
            _log.warning("an evicted pod has not ended in time", pod=full_name(pod))
        return True


def _tolerates_memory_pressure(pod: Obj) -> bool:
    return untolerated([MEMORY_TAINT], pod["spec"].get("tolerations") or (), (MEMORY_TAINT["effect"],)) is None
