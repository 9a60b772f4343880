"""Events are forgotten some time after their last write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pinnace.apis.resources import EVENTS
from pinnace.apiserver.cache import Filter, Watcher
from pinnace.apiserver.event_ttl import last_written
from pinnace.apiserver.server import ApiServer
from pinnace.machinery.meta import Obj, parse_time
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import Cluster, options_for

PATH = "/api/v1/namespaces/default/events"


def event(name: str, **more: str) -> Obj:
    involved = {"kind": "Pod", "namespace": "default", "name": "p"}
    return {"metadata": {"name": name, "namespace": "default"}, "involvedObject": involved, "type": "Normal", **more}


@asynccontextmanager
async def serving(pki: Path, state: Path, ttl: float) -> AsyncIterator[Cluster]:
    store = SqliteStore.open(state)
    server = ApiServer(options_for(pki, event_ttl=ttl), store)
    try:
        await server.start()
        yield Cluster(server, store, pki)
    finally:
        await server.stop()
        await store.close()


async def gone(cluster: Cluster, name: str) -> None:
    cache = cluster.server.api.storage.cache(EVENTS)
    changed = asyncio.Event()
    leave = cache.watch(Watcher(Filter(), lambda *_: changed.set()))
    try:
        async with asyncio.timeout(60):
            while cache.get(f"default/{name}") is not None:
                await changed.wait()
                changed.clear()
    finally:
        leave()


async def test_an_event_is_forgotten_after_its_time_and_not_before(pki: Path, tmp_path: Path) -> None:
    async with serving(pki, tmp_path / "state.db", 3600) as cluster:
        await cluster.request("POST", PATH, event("kept"))
        await cluster.request("POST", PATH, event("old", lastTimestamp="2020-01-01T00:00:00Z"))
    async with serving(pki, tmp_path / "state.db", 2) as cluster:
        await cluster.request("POST", PATH, event("short"))
        await gone(cluster, "short")
        await gone(cluster, "kept")
        await gone(cluster, "old")


@pytest.mark.parametrize(
    ("told", "moment"),
    [
        ({"lastTimestamp": "2026-01-02T00:00:00Z", "eventTime": "2026-01-01T00:00:00.000000Z"}, "2026-01-02T00:00:00Z"),
        ({"series": {"lastObservedTime": "2026-01-03T00:00:00.000000Z"}}, "2026-01-03T00:00:00Z"),
        ({"metadata": {"creationTimestamp": "2026-01-04T00:00:00Z"}}, "2026-01-04T00:00:00Z"),
        ({"lastTimestamp": "never"}, "1970-01-01T00:00:00Z"),
    ],
)
def test_the_last_write_is_what_an_event_tells(told: Obj, moment: str) -> None:
    assert last_written(told) == parse_time(moment).timestamp()
