"""Old objects are kept compressed, and nobody can tell."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.apiserver import cache as caching
from pinnace.apiserver import packing
from pinnace.apiserver.packing import Dictionary, Packing
from pinnace.machinery.meta import GVR
from tests.apiserver.conftest import Cluster, config_map

MAPS = "/api/v1/namespaces/default/configmaps"
JSON = st.binary(min_size=1, max_size=3000)


@given(sample=JSON, data=JSON)
def test_what_is_packed_is_itself_again(sample: bytes, data: bytes) -> None:
    dictionary = Dictionary(sample)
    packed = dictionary.pack(data)
    if packed is not data:
        assert len(packed) < len(data)
        assert dictionary.unpack(packed) == data


def test_what_resembles_the_sample_becomes_small() -> None:
    sample = b"{" + b",".join(b'"key-%d":"value-%d"' % (n, n * n) for n in range(100)) + b"}"
    assert len(Dictionary(sample).pack(sample.replace(b"value-81", b"other"))) < len(sample) // 20


class Thing:
    def __init__(self) -> None:
        self.size = 1000
        self.packed = False
        self.done = asyncio.Event()

    def pack(self) -> None:
        self.packed = True
        self.done.set()


def test_a_busy_server_packs_as_much_as_it_takes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "TOO_MUCH", 10_000)
    queue, things = Packing(), [Thing() for _ in range(100)]
    for thing in things:
        queue.add(thing)
    assert [thing.packed for thing in things[:88]] == [True] * 88
    assert not any(thing.packed for thing in things[-8:])


async def test_an_idle_server_packs_what_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "KEEP", 10_000)
    monkeypatch.setattr(packing, "REST", 0.001)
    monkeypatch.setattr(packing, "QUIET", 100)
    queue, things = Packing(), [Thing() for _ in range(100)]
    queue.extend(things)
    tending = asyncio.create_task(queue.tend())
    async with asyncio.timeout(60):
        await things[89].done.wait()
    assert all(thing.packed for thing in things[:90])
    assert not any(thing.packed for thing in things[90:])
    tending.cancel()


async def test_packed_objects_are_read_selected_watched_and_changed_like_others(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caching, "MANY", 0)

    def made(number: int) -> Any:
        found = config_map(f"m-{number}", text="x" * 300)
        found["metadata"]["labels"] = {"odd": str(number % 2)}
        return found

    plain = [(await cluster.call("POST", MAPS, made(number))).json for number in range(6)]
    revision = plain[-1]["metadata"]["resourceVersion"]
    await cluster.call("PATCH", f"{MAPS}/m-0", {"data": {"a": "b"}}, content_type="application/merge-patch+json")
    await cluster.call("DELETE", f"{MAPS}/m-1")

    cached = cluster.server.api.storage.cache(GVR("", "v1", "configmaps"))
    cached.dictionary = Dictionary(cached.objects["default/m-4"].raw)
    everything = [*cached.objects.values(), *(event.old for event in cached._ring if event.old is not None)]
    for obj in everything:
        if obj.name.startswith("m-"):
            obj.pack()
            assert obj.size < 300

    assert (await cluster.call("GET", f"{MAPS}/m-2")).json == plain[2]
    assert cached.objects["default/m-2"].size > 300, "who is read is unpacked"
    listed = (await cluster.call("GET", f"{MAPS}?labelSelector=odd%3D1")).json["items"]
    assert [item["metadata"]["name"] for item in listed] == ["m-3", "m-5"]
    whole = (await cluster.call("GET", MAPS)).json["items"]
    assert [item for item in whole if item["metadata"]["name"] in ("m-4", "m-5")] == plain[4:]
    watch = await cluster.watch(f"{MAPS}?watch=1&resourceVersion={revision}")
    assert await watch.take(2) == [("MODIFIED", "m-0"), ("DELETED", "m-1")]
    watch.close()
    changed = await cluster.call("PUT", f"{MAPS}/m-3", {**plain[3], "data": {}})
    assert changed.status == 200
    before = (await cluster.call("GET", f"{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact")).json["items"]
    assert [item for item in before if item["metadata"]["name"].startswith("m-")] == plain
