"""Events are forgotten an hour after their last write, as etcd forgets what has a lease.

After a restart the time of the last write is taken from what an event itself says of it. `--event-ttl` is described at
https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import time
from collections.abc import Callable

import structlog

from pinnace.apis.resources import EVENTS
from pinnace.apiserver.cache import CachedObject, Event, Filter, Watcher
from pinnace.apiserver.storage import Storage
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, parse_time
from pinnace.store.contract import RevisionConflict

log = structlog.get_logger()

GRAIN = 1.0  # seconds; events that end within them end together
_MOMENTS = (("series", "lastObservedTime"), ("lastTimestamp",), ("eventTime",), ("metadata", "creationTimestamp"))


def last_written(event: Obj) -> float:
    """When an event was last written by what it says itself, in seconds since the epoch."""
    told = []
    for path in _MOMENTS:
        text = get_in(event, *path, default="")
        if text:
            with contextlib.suppress(ValueError):
                told.append(parse_time(text).timestamp())
    return max(told, default=0.0)


class EventTtl:
    """Removes what has outlived `seconds`, for as long as `run` runs."""

    def __init__(self, storage: Storage, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._cache = storage.cache(EVENTS)
        self._seconds = seconds
        self._clock = clock
        self._due: list[tuple[float, str, int]] = []  # heap: when, key, revision
        self._earlier = asyncio.Event()

    async def run(self) -> None:
        for key, stored in self._cache.objects.items():
            self._due.append((last_written(stored.obj()) + self._seconds, key, stored.revision))
        heapq.heapify(self._due)
        leave = self._cache.watch(Watcher(Filter(), self._on_event))
        try:
            while True:
                await self._wait()
                await self._forget()
        finally:
            leave()

    def _on_event(self, kind: str, obj: CachedObject, _: Event) -> None:
        if kind != "DELETED":
            heapq.heappush(self._due, (self._clock() + self._seconds, obj.key, obj.revision))
            if len(self._due) == 1:
                self._earlier.set()

    async def _wait(self) -> None:
        """Until the first is due. Later writes are due later, so only an empty heap needs to be woken."""
        while not self._due:
            self._earlier.clear()
            await self._earlier.wait()
        await asyncio.sleep(max(GRAIN, self._due[0][0] - self._clock()))

    async def _forget(self) -> None:
        now = self._clock()
        while self._due and self._due[0][0] <= now:
            _, key, revision = heapq.heappop(self._due)
            stored = self._cache.get(key)
            if stored is None or stored.revision != revision:
                continue  # gone, or written since
            try:
                await self._storage.remove(self._cache, stored)
            except RevisionConflict:
                continue  # written just now
            except ApiError as error:
                log.warning("cannot forget an event", key=key, error=error.message)
                return
