"""Tells which pods changed in the runtime: its events as they come, and a slow relist for what events missed.

Keeps the `RuntimeCache` current. A runtime that is lost is waited for; when it is back everything is listed anew, so
nothing that happened meanwhile is missed. From when on a runtime tells its events it does not say: what happens while
it is asked for them is found by relists, which are frequent at first.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from pinnace.cri.api import ContainerEventType, CriError, RuntimeService
from pinnace.kubelet.runtime.health import RuntimeHealth
from pinnace.kubelet.runtime.status import RuntimeCache
from pinnace.kubelet.statistics import measures

_log = structlog.get_logger()

WITHOUT_EVENTS = 1.0  # seconds between relists where the runtime tells no events
_RETRY = 1.0  # seconds between attempts to reach a runtime that is lost
_FIRST_PAUSE = 1.0  # seconds to the first relist after the runtime was asked for its events; to the next, twice that


class Pleg:
    """The pod lifecycle event generator; `changed(pod UID)` is called for every change."""

    def __init__(
        self,
        runtime: RuntimeService,
        cache: RuntimeCache,
        health: RuntimeHealth,
        changed: Callable[[str], None],
        relist_period: float,
    ) -> None:
        self._runtime = runtime
        self._cache = cache
        self._health = health
        self._changed = changed
        self._period = relist_period
        self._pause = relist_period  # until the next relist; grows to the period
        self._sooner = asyncio.Event()  # relist now: the pauses have become shorter
        self._relisted = 0.0  # when it last was
        self.healthy = False  # whether the last relist worked

    async def run(self) -> None:
        """Listen and relist until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="runtime events")
            group.create_task(self._relist(), name="runtime relist")

    async def _listen(self) -> None:
        while True:
            self._pause = min(_FIRST_PAUSE, self._period)
            self._sooner.set()
            try:
                measures.event_connections.inc()
                async for event in self._runtime.get_container_events():
                    measures.event_latency.observe(max(0.0, time.time() - event.created_at / 1e9))
                    await self._take(event.container_id, event.pod_sandbox_id, event.container_event_type)
                    self._changed(event.pod_uid)
            except (CriError, OSError) as error:
                measures.event_connection_errors.inc()
                if isinstance(error, CriError) and error.code == "UNIMPLEMENTED":
                    _log.info("the runtime tells no events: it is asked instead", every=WITHOUT_EVENTS)
                    self._period = min(self._period, WITHOUT_EVENTS)
                    self._sooner.set()
                    return
                _log.warning("runtime events ended", error=str(error))
            await asyncio.sleep(_RETRY)

    async def _take(self, container_id: str, sandbox_id: str, kind: ContainerEventType) -> None:
        if kind is ContainerEventType.DELETED:
            self._cache.drop(container_id)
        elif container_id == sandbox_id:
            await self._cache.refresh_sandbox(sandbox_id)
        else:
            await self._cache.refresh_container(container_id, sandbox_id)
            if kind is ContainerEventType.STOPPED:
                await self._cache.refresh_sandbox(sandbox_id)  # it may have ended, too, and be told of later

    async def _relist(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pause if self.healthy else _RETRY):
                    await self._sooner.wait()
            except TimeoutError:
                self._pause = min(2 * self._pause, self._period)
            self._sooner.clear()
            await self.relist_once()

    async def relist_once(self) -> bool:
        """Ask the runtime for everything; whether it answered."""
        measures.relist_seen.set(time.time())
        now = time.monotonic()
        if self._relisted:
            measures.relist_interval.observe(now - self._relisted)
        self._relisted = now
        try:
            with measures.taking(measures.relist_seconds):
                changed = await self._cache.relist()
        except (CriError, OSError) as error:
            if self.healthy:
                _log.warning("runtime does not answer", error=str(error))
            self.healthy = False
            return False
        self.healthy = True
        self._health.listed()
        for uid in changed:
            self._changed(uid)
        return True
