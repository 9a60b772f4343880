"""No change of a container goes unnoticed: neither one that is told, nor one from before the runtime told anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from pinnace.cri.api import ContainerEvent, CriError
from pinnace.kubelet.runtime import pleg
from pinnace.kubelet.runtime.health import RuntimeHealth
from pinnace.kubelet.runtime.pleg import Pleg
from pinnace.kubelet.runtime.status import RuntimeCache
from pinnace.wire.tasks import end_tasks
from tests.kubelet.fake_runtime import FakeRuntime
from tests.kubelet.runtime.test_cache import POD, add_container

HOUR = 3600.0
LIMIT = 30.0


class Deaf(FakeRuntime):
    """It takes every question for events, and tells none; `asked` counts, `lost` ends what goes on."""

    def __init__(self, *images: str) -> None:
        super().__init__(*images)
        self.asked = asyncio.Semaphore(0)
        self.lost = asyncio.Event()

    async def get_container_events(self) -> AsyncIterator[ContainerEvent]:
        self.asked.release()
        await self.lost.wait()
        self.lost.clear()
        raise CriError("UNAVAILABLE", "connection refused")
        yield


@pytest.mark.parametrize("again", [False, True], ids=["at first", "after it was lost"])
async def test_what_happens_while_a_runtime_is_asked_for_its_events_is_found(
    again: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long before everything is listed as a matter of routine."""
    monkeypatch.setattr(pleg, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(pleg, "_RETRY", 0.01)
    runtime = Deaf("i")
    cache = RuntimeCache(runtime)
    box = await runtime.run_pod_sandbox(POD)
    await cache.refresh_sandbox(box)
    ends = await add_container(runtime, cache, box, "ends")
    changes: asyncio.Queue[str] = asyncio.Queue()
    generator = Pleg(runtime, cache, RuntimeHealth(time.monotonic), changes.put_nowait, HOUR)
    assert await generator.relist_once()

    running = asyncio.create_task(generator.run())
    try:
        async with asyncio.timeout(LIMIT):
            await runtime.asked.acquire()
            if again:
                runtime.lost.set()
                await runtime.asked.acquire()
            runtime.end(ends)
            assert await changes.get() == "u-1"
        assert cache.get("u-1").running() == []
    finally:
        await end_tasks([running])
