"""Lists, their pages and their forms; watches, from every starting point; who is let in; the public paths."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from pinnace.apiserver import cache as watch_cache
from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import Cluster, config_map, pod

MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


async def make(cluster: Cluster, *names: str, **labels: str) -> list[Obj]:
    found = []
    for name in names:
        sent = config_map(name)
        if labels:
            sent["metadata"]["labels"] = labels
        found.append(await cluster.request("POST", MAPS, sent))
    return found


def names(listed: Obj) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


async def test_a_list_over_the_wire_is_the_objects_in_order(cluster: Cluster) -> None:
    made = await make(cluster, "b", "a", "c")
    before = cluster.store.revision
    listed = (await cluster.call("GET", MAPS)).json
    assert (listed["kind"], listed["apiVersion"]) == ("ConfigMapList", "v1")
    assert listed["items"] == sorted(made, key=lambda item: item["metadata"]["name"])
    assert list(listed["metadata"]) == ["resourceVersion"]
    assert before <= int(listed["metadata"]["resourceVersion"]) <= cluster.store.revision


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("labelSelector=tier%3Dx", ["a", "b"]),
        ("labelSelector=tier+in+(x,y),tier!%3Dx", ["c"]),
        ("labelSelector=!tier", ["d"]),
        ("fieldSelector=metadata.name%3Dc", ["c"]),
        ("fieldSelector=metadata.name!%3Dc", ["a", "b", "d"]),
        ("fieldSelector=metadata.namespace%3Dother", []),
        ("labelSelector=tier%3Dx&limit=1", ["a"]),
    ],
)
async def test_selectors(cluster: Cluster, query: str, expected: list[str]) -> None:
    await make(cluster, "a", "b", tier="x")
    await make(cluster, "c", tier="y")
    await make(cluster, "d")
    assert names((await cluster.call("GET", f"{MAPS}?{query}")).json) == expected


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("fieldSelector=spec.x%3D1", 400, "field label not supported: spec.x"),
        ("labelSelector=a%3D%3D%3Db", 400, None),
        ("limit=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("continue=x", 400, "continue key is not valid: illegal base64 data or unknown version"),
        ("resourceVersion=x", 400, None),
        ("resourceVersionMatch=Exact", 422, None),
        ("resourceVersion=999999", 504, None),
    ],
)
async def test_lists_that_cannot_be(cluster: Cluster, query: str, code: int, message: str | None) -> None:
    answer = await cluster.call("GET", f"{MAPS}?{query}")
    assert answer.status == code
    assert answer.json["kind"] == "Status"
    if message:
        assert answer.json["message"] == message


async def test_pages_show_the_state_at_the_first_one(cluster: Cluster) -> None:
    await make(cluster, *"abcdef")
    first = await cluster.request("GET", MAPS, params={"limit": "2"})
    assert names(first) == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 4
    await cluster.request("DELETE", f"{MAPS}/d")
    await cluster.request("POST", MAPS, config_map("cc"))
    params = {"limit": "2", "continue": first["metadata"]["continue"]}
    second = await cluster.request("GET", MAPS, params=params)
    assert names(second) == ["c", "d"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    params["continue"] = second["metadata"]["continue"]
    third = await cluster.request("GET", MAPS, params=params)
    assert names(third) == ["e", "f"]
    assert "continue" not in third["metadata"]
    exact = {"resourceVersion": first["metadata"]["resourceVersion"], "resourceVersionMatch": "Exact"}
    assert names(await cluster.request("GET", MAPS, params=exact)) == list("abcdef")


async def test_an_old_page_expires_and_says_how_to_go_on(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_cache, "RING", 2)
    await make(cluster, *"abcd")
    first = await cluster.request("GET", MAPS, params={"limit": "1"})
    await make(cluster, *"wxyz")
    answer = await cluster.call("GET", f"{MAPS}?limit=1&continue={first['metadata']['continue']}")
    assert (answer.status, answer.json["reason"]) == (410, "Expired")
    again = answer.json["metadata"]["continue"]
    assert names(await cluster.request("GET", MAPS, params={"continue": again})) == list("bcdwxyz")


async def test_tables_and_partial_metadata(cluster: Cluster) -> None:
    await make(cluster, "a")
    table = (await cluster.call("GET", MAPS, headers={"Accept": TABLE})).json
    assert (table["kind"], table["rows"][0]["cells"][0]) == ("Table", "a")
    assert table["columnDefinitions"][0]["name"] == "Name"
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    partial = (await cluster.call("GET", MAPS, headers={"Accept": accept})).json
    assert partial["kind"] == "PartialObjectMetadataList"
    assert set(partial["items"][0]) == {"kind", "apiVersion", "metadata"}
    answer = await cluster.call("GET", f"{MAPS}/a", headers={"Accept": "text/html"})
    assert answer.status == 406
    protobuf = "application/vnd.kubernetes.protobuf,application/json"
    assert (await cluster.call("GET", f"{MAPS}/a", headers={"Accept": protobuf})).json["kind"] == "ConfigMap"


# Watches.


async def test_a_watch_from_nowhere_begins_with_what_there_is(cluster: Cluster) -> None:
    await make(cluster, "a", "b")
    watch = await cluster.watch(f"{MAPS}?watch=1")
    assert await watch.take(2) == [("ADDED", "a"), ("ADDED", "b")]
    await make(cluster, "c")
    await cluster.request("DELETE", f"{MAPS}/a")
    assert await watch.take(2) == [("ADDED", "c"), ("DELETED", "a")]
    watch.close()


async def test_a_watch_from_a_revision_misses_nothing_and_repeats_nothing(cluster: Cluster) -> None:
    first, *_ = await make(cluster, "a", "b", "c")
    watch = await cluster.watch(f"{MAPS}?watch=true&resourceVersion={first['metadata']['resourceVersion']}")
    await make(cluster, "d")
    assert await watch.take(3) == [("ADDED", "b"), ("ADDED", "c"), ("ADDED", "d")]
    watch.close()


async def test_selectors_turn_changes_into_arrivals_and_departures(cluster: Cluster) -> None:
    watch = await cluster.watch(f"{MAPS}?watch=1&labelSelector=in%3Dyes")
    await make(cluster, "a")
    for body in (
        {"metadata": {"labels": {"in": "yes"}}},
        {"data": {"k": "v"}},
        {"metadata": {"labels": {"in": "no"}}},
        {"data": {"k": "w"}},
        {"metadata": {"labels": {"in": "yes"}}},
    ):
        await cluster.request("PATCH", f"{MAPS}/a", body, content_type="application/merge-patch+json")
    assert [kind for kind, _ in await watch.take(4)] == ["ADDED", "MODIFIED", "DELETED", "ADDED"]
    watch.close()


async def test_pods_are_watched_by_node(cluster: Cluster) -> None:
    pods = "/api/v1/namespaces/default/pods"
    watch = await cluster.watch("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1")
    await cluster.request("POST", pods, pod("a"))
    await cluster.request("POST", pods, pod("b", nodeName="n2"))
    binding = {"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "n1"}}
    await cluster.request("POST", f"{pods}/a/binding", binding)
    await cluster.request("DELETE", f"{pods}/a", {"gracePeriodSeconds": 0})
    assert await watch.take(2) == [("ADDED", "a"), ("DELETED", "a")]
    watch.close()


async def test_too_old_a_revision_is_an_error_event(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_cache, "RING", 2)
    first, *_ = await make(cluster, *"abcdef")
    watch = await cluster.watch(f"{MAPS}?watch=1&resourceVersion={first['metadata']['resourceVersion']}")
    event = await watch.next()
    assert event is not None
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    assert await watch.next() is None


async def test_initial_events_end_with_a_bookmark_and_time_runs_out(cluster: Cluster) -> None:
    (made,) = await make(cluster, "a")
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    watch = await cluster.watch(f"{MAPS}?{query}")
    assert await watch.take(1) == [("ADDED", "a")]
    bookmark = await watch.next()
    assert bookmark is not None
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    revision = int(bookmark["object"]["metadata"]["resourceVersion"])
    assert int(made["metadata"]["resourceVersion"]) <= revision <= cluster.store.revision
    last = await watch.next()
    assert last is not None
    assert last["type"] == "BOOKMARK", "where to go on from, when time runs out"
    assert await watch.next() is None
    answer = await cluster.call("GET", f"{MAPS}?watch=1&sendInitialEvents=true")
    assert answer.status == 422


async def test_bookmarks_come_when_asked_for(cluster: Cluster) -> None:
    cluster.server.options.bookmark_interval = 0.05
    watch = await cluster.watch(f"{MAPS}?watch=1&allowWatchBookmarks=1")
    event = await watch.next()
    assert event is not None
    assert event["type"] == "BOOKMARK"
    watch.close()


async def test_watched_tables(cluster: Cluster) -> None:
    reader, writer, status, _ = await cluster.open("GET", f"{MAPS}?watch=1", headers={"Accept": TABLE})
    await make(cluster, "a")
    size = int(await asyncio.wait_for(reader.readline(), 60), 16)
    event = json.loads(await reader.readexactly(size))
    assert (status, event["object"]["kind"], event["object"]["rows"][0]["cells"][0]) == (200, "Table", "a")
    writer.close()


async def test_the_loopback_watch_shares_objects_with_reads(cluster: Cluster) -> None:
    events = cluster.server.loopback_watch("system:kube-scheduler", MAPS, {"watch": "true"})
    (made,) = await make(cluster, "a")
    event = await anext(events)
    assert (event["type"], event["object"]) == ("ADDED", made)
    assert event["object"] is await cluster.request("GET", f"{MAPS}/a")
    await events.aclose()  # type: ignore[attr-defined]


async def test_stopping_ends_watches(cluster: Cluster) -> None:
    watch = await cluster.watch(f"{MAPS}?watch=1")
    await cluster.server.stop(1)
    assert await watch.next() is None


# Who is let in, and what stands outside the resources.


@pytest.mark.parametrize(
    ("path", "authorization", "status"),
    [
        (MAPS, "", 401),
        (MAPS, "Bearer wrong", 401),
        (MAPS, "Basic dTpw", 401),
        (MAPS, "Bearer plain", 200),
        ("/healthz", "", 200),
        ("/livez", "", 200),
        ("/readyz", "", 200),
        ("/version", "", 200),
        ("/version", "Bearer wrong", 401),
        ("/metrics", "", 401),
        ("/api", "", 401),
    ],
)
async def test_who_is_let_in(cluster: Cluster, path: str, authorization: str, status: int) -> None:
    answer = await cluster.call("GET", path, headers={"Authorization": authorization})
    assert answer.status == status
    if status == 401:
        assert answer.json["message"] == "Unauthorized"


async def test_a_service_account_token_works_while_its_account_is_there(cluster: Cluster) -> None:
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    issued = await cluster.request("POST", f"{account}/token", {"spec": {"expirationSeconds": 3600}})
    token = issued["status"]["token"]
    answer = await cluster.call(
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        {},
        headers={"Authorization": f"Bearer {token}"},
    )
    user = answer.json["status"]["userInfo"]
    assert user["username"] == "system:serviceaccount:default:default"
    assert "system:serviceaccounts:default" in user["groups"]
    review = {"spec": {"token": token}}
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    assert (await cluster.request("POST", path, review))["status"]["authenticated"]
    await cluster.request("DELETE", account)
    assert not (await cluster.request("POST", path, review))["status"].get("authenticated")
    keys = (await cluster.call("GET", "/openid/v1/jwks")).json["keys"]
    assert (keys[0]["alg"], keys[0]["use"]) == ("ES256", "sig")


async def test_health_in_full(cluster: Cluster) -> None:
    answer = await cluster.call("GET", "/readyz?verbose")
    lines = answer.body.decode().splitlines()
    assert lines[0] == "[+]ping ok"
    assert lines[-1] == "readyz check passed"
    assert (await cluster.call("GET", "/livez/ping")).body == b"ok"
    assert (await cluster.call("GET", "/livez/none")).status == 404


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/api", "/apis", "/api/v1", "/apis/apps", "/apis/apps/v1", "/version", "/metrics", "/openapi/v3"),
        *("/openapi/v2", "/openapi/v3/api/v1", "/.well-known/openid-configuration"),
    ],
)
async def test_public_documents(cluster: Cluster, path: str) -> None:
    answer = await cluster.call("GET", path)
    assert answer.status == 200
    if path != "/metrics":
        assert answer.json


async def test_state_survives_a_restart(cluster: Cluster, tmp_path: Any) -> None:
    from pinnace.apiserver.server import ApiServer
    from pinnace.store.sqlite import SqliteStore
    from tests.apiserver.conftest import options_for

    if cluster.store.is_shared:
        pytest.skip("this restart is SQLite's")
    (made,) = await make(cluster, "a")
    await cluster.server.stop(0)
    await cluster.store.close()
    store = SqliteStore.open(tmp_path / "state.db")
    server = ApiServer(options_for(cluster.pki), store)
    await server.start()
    try:
        assert await server.loopback_request("x", "GET", f"{MAPS}/a", {}, None, "") == made
    finally:
        await server.stop(0)
        await store.close()


async def test_one_watch_that_cannot_be_served_holds_up_nobody(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pinnace.machinery import table

    def broken(*arguments: Any, **more: Any) -> Obj:
        raise RuntimeError("no table today")

    monkeypatch.setattr(table, "render", broken)
    reader, tables, _, _ = await cluster.open("GET", f"{MAPS}?watch=1", headers={"Accept": TABLE})
    watch = await cluster.watch(f"{MAPS}?watch=1")
    await make(cluster, "a", "b")
    assert await watch.take(2) == [("ADDED", "a"), ("ADDED", "b")]
    assert await asyncio.wait_for(reader.read(), 60) == b"0\r\n\r\n", "the other is ended, not left with a gap"
    tables.close()
    watch.close()


async def test_what_cannot_be_watched(cluster: Cluster) -> None:
    answer = await cluster.call("GET", "/api/v1/componentstatuses?watch=1")
    assert answer.status == 405


async def test_paths_that_nobody_serves(cluster: Cluster) -> None:
    for path in ("/nothing", "/apis/none.example", "/openapi/v3/apis/none", "/livez/none"):
        answer = await cluster.call("GET", path)
        assert (answer.status, answer.body) == (404, b"404 page not found\n")
    assert (await cluster.call("POST", "/nothing", {})).status == 404
    assert (await cluster.call("POST", "/version", {})).status == 405


async def test_health_asks_the_store(cluster: Cluster) -> None:
    await cluster.store.close()
    answer = await cluster.call("GET", "/livez")
    assert answer.status == 500
    assert b"[-]etcd failed: reason withheld" in answer.body
    assert (await cluster.call("GET", "/livez/ping")).status == 200


async def test_what_every_cluster_has_is_made_again(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    from pinnace.apiserver import bootstrap

    monkeypatch.setattr(bootstrap, "INTERVAL", 0.01)
    path = "/api/v1/namespaces/default/services"
    watch = await cluster.watch(f"{path}?watch=1&fieldSelector=metadata.name%3Dkubernetes")
    first = await watch.next()
    assert first is not None
    keeper = asyncio.create_task(bootstrap.keep(cluster.server._as_server, "10.96.0.0/12", "", 6443))
    try:
        await cluster.request("DELETE", f"{path}/kubernetes")
        for kind in ("DELETED", "ADDED"):
            event = await watch.next()
            assert event is not None
            assert event["type"] == kind
    finally:
        keeper.cancel()


async def test_a_review_is_no_table(cluster: Cluster) -> None:
    """Conformance: "API metadata HTTP return"."""
    review = {"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}}
    path, table = (
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "application/json;as=Table;v=v1;g=meta.k8s.io",
    )

    refused = await cluster.call("POST", path, review, headers={"Accept": table})
    other = await cluster.call("POST", path, review, headers={"Accept": f"{table}, application/json"})

    assert (refused.status, refused.json["reason"]) == (406, "NotAcceptable")
    assert (other.status, other.json["kind"]) == (201, "SelfSubjectAccessReview")
