"""Which objects a kubelet follows, whom it tells of changes, and how fresh what it reads is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pinnace.apis.resources import CONFIG_MAPS
from pinnace.kubelet.objects import MAX_AGE, ObjectFetcher, mounted_by
from pinnace.machinery.errors import ApiError, unavailable
from pinnace.machinery.meta import Obj
from tests.kubelet.node_api import NodeApi


def pod(uid: str, *volumes: Obj) -> Obj:
    return {"metadata": {"name": uid, "namespace": "default", "uid": uid}, "spec": {"volumes": list(volumes)}}


def config(name: str) -> Obj:
    return {"name": "v", "configMap": {"name": name}}


class Told:
    """The pods that were told of changes, and their objects."""

    def __init__(self, api: NodeApi) -> None:
        self.api = api
        self.now = 0.0
        self.uids: asyncio.Queue[str] = asyncio.Queue()
        self.objects = ObjectFetcher(api.client, self.uids.put_nowait, lambda: self.now, follow_after=0.0)

    async def read(self, one: Obj, name: str) -> str:
        """The member `key` of a ConfigMap, as the pod gets it."""
        found = await self.objects.fetch_for(one)("ConfigMap", "default", name)
        return str(found["data"]["key"])

    async def write(self, name: str, value: str) -> None:
        found = self.api.find(CONFIG_MAPS, f"default/{name}")
        assert found is not None
        await self.api.client.update(CONFIG_MAPS, {**found, "data": {"key": value}})

    async def follow(self, name: str) -> None:
        """Wait until an object is watched."""
        watched = self.objects._watched["ConfigMap", "default", name]
        await watched.informer.wait_synced()

    async def next(self) -> str:
        async with asyncio.timeout(30):
            return await self.uids.get()


@pytest.fixture
async def told(api: NodeApi) -> AsyncIterator[Told]:
    made = Told(api)
    yield made
    await made.objects.close()


def test_volumes_name_what_is_followed() -> None:
    sources = [
        {"configMap": {"name": "b"}},
        {"secret": {"name": "c"}},
        {"clusterTrustBundle": {"name": "d", "path": "x"}},
        {"serviceAccountToken": {"path": "token"}},
    ]
    volumes = [
        config("a"),
        {"name": "s", "secret": {"secretName": "e"}},
        {"name": "p", "projected": {"sources": sources}},
    ]
    assert list(mounted_by(pod("u", *volumes, {"name": "x", "emptyDir": {}}))) == [
        ("ConfigMap", "default", "a"),
        ("Secret", "default", "e"),
        ("ConfigMap", "default", "b"),
        ("Secret", "default", "c"),
        ("ClusterTrustBundle", "", ""),
    ]


async def test_every_pod_that_mounts_an_object_is_told_of_its_change(told: Told) -> None:
    for name in ("shared", "other"):
        await told.api.add_config_map(name, key="old")
    one, two, three = pod("one", config("shared")), pod("two", config("shared")), pod("three", config("other"))
    for each in (one, two, three):
        told.objects.register(each)
    assert [await told.read(one, "shared"), await told.read(three, "other")] == ["old", "old"]
    await told.follow("shared")
    await told.follow("other")
    told.api.requests.clear()
    await told.write("shared", "new")
    assert {await told.next(), await told.next()} == {"one", "two"}
    assert [await told.read(two, "shared"), told.uids.qsize()] == ["new", 0]
    assert [method for method, _ in told.api.requests if method == "GET"] == []


async def test_what_is_made_later_and_what_is_deleted_is_told_too(told: Told) -> None:
    one = pod("one", config("late"))
    told.objects.register(one)
    with pytest.raises(ApiError, match='configmap "late" not found'):
        await told.read(one, "late")
    await told.follow("late")
    await told.api.add_config_map("late", key="here")
    assert [await told.next(), await told.read(one, "late")] == ["one", "here"]
    await told.api.client.delete(CONFIG_MAPS, "late", "default")
    assert await told.next() == "one"
    with pytest.raises(ApiError, match="not found"):
        await told.read(one, "late")


async def test_what_changes_before_it_is_watched_is_told(told: Told) -> None:
    await told.api.add_config_map("shared", key="old")
    one = pod("one", config("shared"))
    told.objects.register(one)
    assert await told.read(one, "shared") == "old"
    await told.write("shared", "new")
    assert [await told.next(), await told.read(one, "shared")] == ["one", "new"]


async def test_nobody_follows_what_no_pod_mounts_any_more(told: Told) -> None:
    await told.api.add_config_map("shared", key="old")
    one, two = pod("one", config("shared")), pod("two", config("shared"))
    told.objects.register(one)
    told.objects.register(two)
    await told.read(one, "shared")
    await told.follow("shared")
    told.objects.unregister("one")
    await told.write("shared", "new")
    assert await told.next() == "two"
    told.objects.unregister("two")
    await told.write("shared", "newest")
    told.now += MAX_AGE + 0.1
    assert [await told.read(one, "shared"), told.uids.qsize()] == ["newest", 0]


async def test_immutable_objects_are_not_watched(told: Told) -> None:
    metadata = {"name": "fixed", "namespace": "default"}
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": "x"}, "immutable": True}
    await told.api.client.create(CONFIG_MAPS, made)
    one = pod("one", config("fixed"))
    told.objects.register(one)
    assert await told.read(one, "fixed") == "x"
    await told.follow("fixed")
    await told.write("fixed", "cheated")
    assert [await told.read(one, "fixed"), told.uids.qsize()] == ["x", 0]


async def test_what_is_read_once_is_shared_but_never_older_than_the_pod(told: Told) -> None:
    await told.api.add_config_map("env", key="old")
    one, two, three = pod("one"), pod("two"), pod("three")
    told.objects.register(one)
    told.objects.register(two)
    told.now = 1.0
    assert await told.read(one, "env") == "old"
    await told.write("env", "new")
    assert await told.read(two, "env") == "old"  # of the same burst
    told.now = 1.5
    told.objects.register(three)
    assert await told.read(three, "env") == "new"
    await told.write("env", "newest")
    told.now += MAX_AGE + 0.1
    assert await told.read(three, "env") == "newest"


async def test_without_a_server_a_pod_gets_what_it_had(told: Told) -> None:
    await told.api.add_config_map("env", key="old")
    one, two = pod("one"), pod("two")
    told.objects.register(one)
    told.objects.register(two)
    assert await told.read(one, "env") == "old"
    told.now += MAX_AGE + 0.1
    told.api.fail = lambda *_: unavailable("gone")
    assert await told.read(one, "env") == "old"
    with pytest.raises(ApiError, match="gone"):
        await told.read(two, "env")
    told.api.fail = lambda *_: None
    await told.api.client.delete(CONFIG_MAPS, "env", "default")
    with pytest.raises(ApiError, match='configmap "env" not found'):
        await told.read(one, "env")
