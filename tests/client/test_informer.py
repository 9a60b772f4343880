"""An informer's store follows the API server through lost watches, and its handlers hear of every change once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from pinnace.apis.resources import CONFIG_MAPS
from pinnace.client.informer import Informer, InformerFactory, only_metadata
from pinnace.client.store import by_namespace
from pinnace.machinery.errors import unavailable
from pinnace.machinery.meta import Obj, name_of
from tests.client.fake_api import FakeApi


def config_map(name: str, value: str = "", namespace: str = "default") -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"value": value},
    }


class Heard:
    """What handlers were told, and a way to wait for it."""

    def __init__(self, informer: Informer) -> None:
        self.said: list[str] = []
        self._news = asyncio.Event()
        informer.add_handler(
            lambda new: self._say(f"+{name_of(new)}"),
            lambda _, new: self._say(f"~{name_of(new)}={new.get('data', {}).get('value')}"),
            lambda old: self._say(f"-{name_of(old)}={old.get('data', {}).get('value')}"),
        )

    def _say(self, what: str) -> None:
        self.said.append(what)
        self._news.set()

    async def until(self, *expected: str) -> None:
        async with asyncio.timeout(30):
            while self.said != list(expected):
                self._news.clear()
                await self._news.wait()


@pytest_asyncio.fixture
async def api() -> FakeApi:
    return FakeApi()


@pytest_asyncio.fixture
async def informers(api: FakeApi) -> AsyncIterator[InformerFactory]:
    factory = InformerFactory(api.client)
    yield factory
    await factory.stop()


async def test_lists_then_watches(api: FakeApi, informers: InformerFactory) -> None:
    await api.client.create(CONFIG_MAPS, config_map("a"))
    informer = informers.informer(CONFIG_MAPS)
    heard = Heard(informer)
    informers.start()
    await informers.wait_synced()
    assert heard.said == ["+a"]
    await api.client.create(CONFIG_MAPS, config_map("b"))
    await api.client.patch(CONFIG_MAPS, "a", {"data": {"value": "2"}}, "default")
    await api.client.delete(CONFIG_MAPS, "b", "default")
    await heard.until("+a", "+b", "~a=2", "-b=")
    assert [name_of(obj) for obj in informer.store.list()] == ["a"]


async def test_resumes_a_watch_where_it_ended(api: FakeApi, informers: InformerFactory) -> None:
    informer = informers.informer(CONFIG_MAPS)
    heard = Heard(informer)
    informers.start()
    await informers.wait_synced()
    await api.client.create(CONFIG_MAPS, config_map("a"))
    await heard.until("+a")
    api.break_watches()
    await api.client.create(CONFIG_MAPS, config_map("b"))
    await heard.until("+a", "+b")
    assert sum(method == "GET" for method, _ in api.requests) == 1  # listed once


async def test_lists_again_when_history_is_gone_and_tells_the_difference(
    api: FakeApi, informers: InformerFactory
) -> None:
    for name in ("changed", "deleted", "same", "remade"):
        await api.client.create(CONFIG_MAPS, config_map(name, "1"))
    informer = informers.informer(CONFIG_MAPS)
    heard = Heard(informer)
    informers.start()
    await informers.wait_synced()
    heard.said.clear()
    api.break_watches(compact=True)
    # All of this happens before the informer's task runs again.
    store = api.objects[CONFIG_MAPS]
    store.pop("default/deleted")
    old = store["default/changed"]
    store["default/changed"] = {**old, "data": {"value": "2"}, "metadata": {**old["metadata"], "resourceVersion": "90"}}
    old = store["default/remade"]
    store["default/remade"] = {**old, "metadata": {**old["metadata"], "resourceVersion": "91", "uid": "another"}}
    await heard.until("-deleted=1", "~changed=2", "-remade=1", "+remade")


async def test_survives_an_unreachable_server(api: FakeApi, informers: InformerFactory) -> None:
    failures = iter([unavailable("down"), unavailable("down")])
    api.fail = lambda method, *_: next(failures, None) if method == "GET" else None
    informer = informers.informer(CONFIG_MAPS)
    informers.start()
    async with asyncio.timeout(30):
        await informer.wait_synced()
    assert len(api.requests) == 3


async def test_those_who_ask_for_the_same_share_one_informer(api: FakeApi, informers: InformerFactory) -> None:
    one = informers.informer(CONFIG_MAPS)
    assert informers.informer(CONFIG_MAPS) is one
    assert informers.metadata_informer(CONFIG_MAPS) is one
    assert informers.informer(CONFIG_MAPS, "default") is not one
    assert informers.informer(CONFIG_MAPS, field_selector="metadata.name=x") is not one


async def test_a_handler_added_late_hears_what_is_known(api: FakeApi, informers: InformerFactory) -> None:
    await api.client.create(CONFIG_MAPS, config_map("a"))
    informer = informers.informer(CONFIG_MAPS)
    informers.start()
    await informers.wait_synced()
    assert Heard(informer).said == ["+a"]


async def test_a_failing_handler_does_not_starve_others(api: FakeApi, informers: InformerFactory) -> None:
    informer = informers.informer(CONFIG_MAPS)

    def fail(_: Obj) -> None:
        raise ValueError("a mistake")

    informer.add_handler(fail)
    heard = Heard(informer)
    informers.start()
    await api.client.create(CONFIG_MAPS, config_map("a"))
    await heard.until("+a")


async def test_indexes_follow_changes(api: FakeApi, informers: InformerFactory) -> None:
    informer = informers.informer(CONFIG_MAPS)
    informer.add_index("namespace", by_namespace)
    informer.add_index("value", lambda obj: [obj["data"]["value"]])
    heard = Heard(informer)
    informers.start()
    await informers.wait_synced()
    await api.client.create(CONFIG_MAPS, config_map("a", "1"))
    await api.client.create(CONFIG_MAPS, config_map("b", "1", "other"))
    await api.client.patch(CONFIG_MAPS, "a", {"data": {"value": "2"}}, "default")
    await heard.until("+a", "+b", "~a=2")
    store = informer.store
    assert [name_of(obj) for obj in store.by_index("value", "1")] == ["b"]
    assert [name_of(obj) for obj in store.by_index("value", "2")] == ["a"]
    assert [name_of(obj) for obj in store.by_index("namespace", "other")] == ["b"]
    assert store.by_index("namespace", "nowhere") == []
    assert (store.count("namespace", "other"), store.count("namespace", "nowhere")) == (1, 0)
    with pytest.raises(KeyError):
        store.by_index("unknown", "x")


async def test_metadata_informers_keep_nothing_else(api: FakeApi, informers: InformerFactory) -> None:
    await api.client.create(CONFIG_MAPS, config_map("a", "much"))
    informer = informers.metadata_informer(CONFIG_MAPS)
    informers.start()
    await informers.wait_synced()
    kept = informer.store.get("default/a")
    assert kept is not None
    assert "data" not in kept
    assert kept == only_metadata(api.objects[CONFIG_MAPS]["default/a"])


async def test_what_manages_the_fields_is_not_kept(api: FakeApi, informers: InformerFactory) -> None:
    obj = config_map("a", "1")
    obj["metadata"]["managedFields"] = [{"manager": "m"}]
    await api.client.create(CONFIG_MAPS, obj)
    informer = informers.informer(CONFIG_MAPS)
    informers.start()
    await informers.wait_synced()
    (kept,) = informer.store.list()
    assert kept["data"] == {"value": "1"}
    assert "managedFields" not in kept["metadata"]
