"""Several API servers over one etcd: each answers as if it were the only one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pinnace.apiserver.server import ApiServer
from pinnace.store.etcd import EtcdStore
from tests.apiserver.conftest import Cluster, config_map, options_for, pod
from tests.store.etcd_server import EtcdServer

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path / "etcd")
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def pair(etcd: EtcdServer, pki: Path) -> AsyncIterator[tuple[Cluster, Cluster]]:
    """Two servers that were started at the same moment."""
    stores = [await EtcdStore.open([etcd.endpoint]) for _ in range(2)]
    servers = [ApiServer(options_for(pki), store) for store in stores]
    await asyncio.gather(*(server.start() for server in servers))
    clusters = [Cluster(server, store, pki) for server, store in zip(servers, stores, strict=True)]
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await clusters[0].request("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    yield clusters[0], clusters[1]
    for server, store in zip(servers, stores, strict=True):
        await server.stop(0.2)
        await store.close()


async def test_what_one_server_acknowledged_the_other_reads(pair: tuple[Cluster, Cluster]) -> None:
    for turn in range(30):
        first, second = pair if turn % 2 else pair[::-1]
        made = await first.call("POST", MAPS, config_map(f"m-{turn}"))
        assert made.status == 201
        got = await second.call("GET", f"{MAPS}/m-{turn}")
        assert got.json["metadata"]["resourceVersion"] == made.json["metadata"]["resourceVersion"]
        listed = await second.call("GET", MAPS)
        assert f"m-{turn}" in {item["metadata"]["name"] for item in listed.json["items"]}
        assert int(listed.json["metadata"]["resourceVersion"]) >= int(made.json["metadata"]["resourceVersion"])
        changed = await second.call("PUT", f"{MAPS}/m-{turn}", {**made.json, "data": {"a": "b"}})
        assert changed.status == 200
        assert (await first.call("DELETE", f"{MAPS}/m-{turn}")).status == 200
        assert (await second.call("GET", f"{MAPS}/m-{turn}")).status == 404


async def test_a_namespace_made_through_one_server_can_be_used_through_the_other(pair: tuple[Cluster, Cluster]) -> None:
    first, second = pair
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fresh"}}
    assert (await first.call("POST", "/api/v1/namespaces", space)).status == 201
    assert (await second.call("POST", "/api/v1/namespaces/fresh/configmaps", config_map("a"))).status == 201


async def test_a_revision_named_by_one_server_is_waited_for_by_the_other(pair: tuple[Cluster, Cluster]) -> None:
    first, second = pair
    for turn in range(20):
        made = await first.call("POST", MAPS, config_map(f"m-{turn}"))
        revision = made.json["metadata"]["resourceVersion"]
        answer = await second.call("GET", f"{MAPS}/m-{turn}?resourceVersion={revision}")
        assert answer.status == 200
    newest = second.store.revision
    answer = await second.call("GET", f"{MAPS}?resourceVersion={newest + 1000}")
    assert (answer.status, answer.json["details"]["causes"][0]["reason"]) == (504, "ResourceVersionTooLarge")


async def test_a_stale_update_conflicts_whichever_server_it_goes_through(pair: tuple[Cluster, Cluster]) -> None:
    first, second = pair
    made = (await first.call("POST", MAPS, config_map("m"))).json
    assert (await second.call("PUT", f"{MAPS}/m", {**made, "data": {"a": "1"}})).status == 200
    refused = await first.call("PUT", f"{MAPS}/m", {**made, "data": {"a": "2"}})
    assert (refused.status, refused.json["reason"]) == (409, "Conflict")
    again = await second.call("POST", MAPS, config_map("m"))
    assert (again.status, again.json["reason"]) == (409, "AlreadyExists")


async def test_concurrent_patches_through_both_servers_all_count(pair: tuple[Cluster, Cluster]) -> None:
    await pair[0].call("POST", MAPS, config_map("m"))

    async def patch(number: int) -> int:
        answer = await pair[number % 2].call(
            "PATCH", f"{MAPS}/m", {"data": {f"k{number}": "x"}}, content_type="application/merge-patch+json"
        )
        return answer.status

    assert set(await asyncio.gather(*(patch(n) for n in range(60)))) == {200}
    for cluster in pair:
        assert len((await cluster.call("GET", f"{MAPS}/m")).json["data"]) == 60


async def test_a_watch_of_one_server_shows_the_writes_of_both_in_order(pair: tuple[Cluster, Cluster]) -> None:
    watches = [await cluster.watch(f"{MAPS}?watch=1&resourceVersion=0") for cluster in pair]

    async def write(number: int) -> None:
        await pair[number % 2].call("POST", MAPS, config_map(f"m-{number}"))

    await asyncio.gather(*(write(n) for n in range(100)))
    seen: list[list[tuple[int, str]]] = []
    for watch in watches:
        found = []
        while len(found) < 100:
            event = await watch.next()
            assert event is not None
            meta = event["object"]["metadata"]
            if event["type"] == "ADDED" and meta["name"].startswith("m-"):
                found.append((int(meta["resourceVersion"]), meta["name"]))
        seen.append(found)
        watch.close()
    assert seen[0] == seen[1] == sorted(seen[0])
    assert len({name for _, name in seen[0]}) == 100


async def test_pages_of_one_list_may_come_from_both_servers(pair: tuple[Cluster, Cluster]) -> None:
    for number in range(10):
        await pair[0].call("POST", PODS, pod(f"p-{number}"))
    names: list[str] = []
    token, turn = "", 0
    while True:
        answer = await pair[turn % 2].call("GET", f"{PODS}?limit=3&continue={token}")
        assert answer.status == 200, answer.body
        names += [item["metadata"]["name"] for item in answer.json["items"]]
        token = answer.json["metadata"].get("continue", "")
        turn += 1
        if turn == 1:
            await pair[0].call("POST", PODS, pod("p-late"))
        if not token:
            break
    assert names == [f"p-{number}" for number in range(10)]


async def test_a_watch_ends_when_changes_were_lost(
    pair: tuple[Cluster, Cluster], etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = pair
    kept = (await first.call("POST", MAPS, config_map("kept"))).json
    before = kept["metadata"]["resourceVersion"]
    watch = await second.watch(f"{MAPS}?watch=1&resourceVersion={before}")
    held = asyncio.Event()
    follow = EtcdStore._watch

    async def held_back(self: EtcdStore) -> None:
        if self is second.store:
            await held.wait()
        await follow(self)

    monkeypatch.setattr(EtcdStore, "_watch", held_back)
    etcd.kill()
    etcd.start()
    await first.call("DELETE", f"{MAPS}/kept")
    await first.call("POST", MAPS, config_map("new"))
    await first.store.compact(first.store.revision)
    held.set()

    assert await watch.next() is None, "nothing after a gap"
    listed = (await second.call("GET", MAPS)).json
    assert [item["metadata"]["name"] for item in listed["items"]] == ["new"]
    again = await second.watch(f"{MAPS}?watch=1&resourceVersion={before}")
    event = await again.next()
    assert event is not None
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    again.close()


async def test_without_an_etcd_nothing_is_pretended(
    pair: tuple[Cluster, Cluster], etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = pair[0]
    await cluster.call("POST", MAPS, config_map("m"))
    etcd.kill()
    monkeypatch.setattr("pinnace.store.etcd_client.CALL_SECONDS", 0.3)
    for method, path in (("GET", f"{MAPS}/m"), ("POST", MAPS), ("DELETE", f"{MAPS}/m")):
        answer = await cluster.call(method, path, config_map("n") if method == "POST" else None)
        assert (answer.status, answer.json["kind"], answer.json["reason"]) == (500, "Status", "InternalError")
    any_state = await cluster.call("GET", f"{MAPS}/m?resourceVersion=0")
    assert any_state.status == 200, "who takes any state gets one"
    assert (await cluster.call("GET", "/readyz/etcd")).status == 500
    assert (await cluster.call("GET", "/livez/ping")).status == 200

    etcd.start()
    monkeypatch.setattr("pinnace.store.etcd_client.CALL_SECONDS", 15)
    assert (await cluster.call("GET", f"{MAPS}/m")).status == 200
    assert (await cluster.call("POST", MAPS, config_map("n"))).status == 201


async def test_objects_lie_as_json_under_the_registry(pair: tuple[Cluster, Cluster], etcd: EtcdServer) -> None:
    await pair[0].call("POST", MAPS, config_map("m", a="b"))
    found = await pair[0].store.get("/registry/configmaps/default/m")
    assert found is not None
    stored = json.loads(found.value)
    assert (stored["kind"], stored["data"]) == ("ConfigMap", {"a": "b"})
    assert "resourceVersion" not in stored["metadata"]


async def test_a_resource_defined_through_one_server_is_served_by_the_other(pair: tuple[Cluster, Cluster]) -> None:
    first, second = pair
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "boats", "singular": "boat", "kind": "Boat", "listKind": "BoatList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    watch = await second.watch(f"{definitions}?watch=1")
    assert (await first.call("POST", definitions, definition)).status == 201
    async with asyncio.timeout(60):
        while True:
            event = await watch.next()
            assert event is not None
            conditions = event["object"].get("status", {}).get("conditions") or ()
            if any(each["type"] == "Established" and each["status"] == "True" for each in conditions):
                break
    watch.close()
    boats = "/apis/example.com/v1/namespaces/default/boats"
    boat = {"apiVersion": "example.com/v1", "kind": "Boat", "metadata": {"name": "dinghy"}, "spec": {"size": 3}}
    assert (await second.call("POST", boats, boat)).status == 201
    got = await first.call("GET", f"{boats}/dinghy")
    assert (got.status, got.json["spec"]) == (200, {"size": 3})
    assert (await first.call("DELETE", f"{definitions}/boats.example.com")).status == 200
