"""What the API server tells of itself at /metrics."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_left
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pinnace.apiserver import authn, metrics
from pinnace.apiserver.server import ApiServer
from pinnace.store.contract import Store
from tests.apiserver.conftest import Cluster, config_map, options_for

MAPS = "/api/v1/namespaces/default/configmaps"


async def told(cluster: Cluster) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = await cluster.call("GET", "/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def labels(**pairs: str) -> frozenset[tuple[str, str]]:
    return frozenset(pairs.items())


async def test_requests_are_counted_by_verb_resource_and_code(cluster: Cluster) -> None:
    await cluster.call("POST", MAPS, config_map("a"))
    for name, code in (("a", 200), ("a", 200), ("b", 404)):
        assert (await cluster.call("GET", f"{MAPS}/{name}")).status == code
    found = await told(cluster)
    get = {"component": "apiserver", "dry_run": "", "group": "", "resource": "configmaps", "version": "v1"}
    get |= {"verb": "GET", "scope": "resource", "subresource": ""}
    assert found["apiserver_request_total", labels(code="200", **get)] == 2
    assert found["apiserver_request_total", labels(code="404", **get)] == 1
    assert found["apiserver_request_duration_seconds_count", labels(**get)] == 3
    assert found["apiserver_request_duration_seconds_bucket", labels(le="+Inf", **get)] == 3
    del get["dry_run"]
    assert found["apiserver_response_sizes_bucket", labels(le="1000", **get)] == 3


async def test_service_levels_leave_out_what_requests_waited_for() -> None:
    record = metrics._Record()
    for took in (0.001, 0.03, 3.5):
        record.seconds[0] += took
        record.seconds[1 + bisect_left(metrics.SECONDS, took)] += 1
    record.leave_out(3.5, 3.42)
    found = metrics._without_waits(record)
    assert metrics.SECONDS[metrics._FINE :][:2] == (0.05, 0.1)
    assert round(found[0], 3) == 0.111
    assert found[1:4] == [2, 1, 0]
    assert sum(found[1:]) == 3


async def test_watches_are_counted_while_they_last_with_what_they_are_sent(cluster: Cluster) -> None:
    await cluster.call("POST", MAPS, config_map("a"))
    of = labels(group="", resource="configmaps", version="v1")
    before = await told(cluster)
    query = "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    watch = await cluster.watch(f"{MAPS}?{query}")
    while (event := await watch.next()) is not None and event["type"] != "BOOKMARK":
        pass
    await cluster.call("POST", MAPS, config_map("b"))
    event = await watch.next()
    assert event is not None
    assert event["object"]["metadata"]["name"] == "b"
    found = await told(cluster)
    running = {"component": "apiserver", "group": "", "resource": "configmaps", "version": "v1", "verb": "WATCH"}
    running |= {"scope": "namespace", "subresource": ""}
    assert found["apiserver_longrunning_requests", labels(**running)] == 1
    sent = found["apiserver_watch_events_total", of] - before.get(("apiserver_watch_events_total", of), 0)
    assert sent >= 3  # what was there, the bookmark after it, what came
    assert found["apiserver_watch_events_sizes_count", of] == found["apiserver_watch_events_total", of]
    listed = labels(group="", resource="configmaps", version="v1", scope="namespace")
    assert found["apiserver_watch_list_duration_seconds_count", listed] == 1
    watch.close()


async def test_the_store_and_the_watch_cache_are_told(cluster: Cluster) -> None:
    of = labels(group="", resource="configmaps")
    before = await told(cluster)
    await cluster.call("POST", MAPS, config_map("a"))
    await cluster.call("DELETE", f"{MAPS}/a")
    found = await told(cluster)
    received = "apiserver_watch_cache_events_received_total"
    assert found[received, of] == before[received, of] + 2
    assert found["apiserver_watch_cache_initializations_total", of] == 1
    assert found["apiserver_storage_list_total", of] == 1
    assert found["watch_cache_capacity", of] == 4096
    newer = "apiserver_watch_cache_resource_version"
    assert found[newer, of] > before[newer, of]
    for operation in ("create", "delete"):
        call = labels(group="", resource="configmaps", operation=operation)
        was = before.get(("etcd_requests_total", call), 0)
        assert found["etcd_requests_total", call] == was + 1
        assert found["etcd_request_duration_seconds_count", call] == was + 1
    if not cluster.store.is_shared:
        assert found["apiserver_storage_size_bytes", labels(storage_cluster_id="etcd-0")] > 0
    assert found["apiserver_current_inflight_requests", labels(request_kind="mutating")] == 0


async def test_who_came_in_is_told(pki: Path, store: Store) -> None:
    server = ApiServer(options_for(pki, authorization_modes=("RBAC",)), store)
    await server.start()
    try:
        await _look_who_came_in(Cluster(server, store, pki))
    finally:
        await server.stop(0)


async def _look_who_came_in(cluster: Cluster) -> None:
    before = await told(cluster)
    for headers, code in (
        ({}, 200),
        ({"Authorization": "Bearer nobody"}, 401),
        ({"Authorization": "Bearer plain"}, 403),
        ({"Authorization": "Bearer plain", "Impersonate-User": "tester"}, 403),  # which is no attempt at the request
    ):
        assert (await cluster.call("GET", MAPS, headers=headers)).status == code
    found = await told(cluster)

    def grown(name: str, **pairs: str) -> float:
        return found[name, labels(**pairs)] - before.get((name, labels(**pairs)), 0)

    # The request that asks has come in, too, when it is answered.
    assert grown("authentication_attempts_total", result="success") == 4
    assert grown("authentication_attempts_total", result="failure") == 1
    assert grown("authenticated_user_requests_total", username="other") == 4
    assert grown("authentication_duration_seconds_count", result="failure") == 1
    assert grown("authorization_attempts_total", result="allowed") == 2
    assert grown("authorization_attempts_total", result="no-opinion") == 1
    assert grown("authorization_duration_seconds_count", result="allowed") == 2
    # The tester's token was known before; the others were looked at, the good one of them once.
    assert grown("authentication_token_cache_request_total", status="hit") == 3
    assert grown("authentication_token_cache_request_total", status="miss") == 2
    assert grown("authentication_token_cache_fetch_total", status="error") == 1
    assert grown("authentication_token_cache_request_duration_seconds_count", status="miss") == 2


def test_what_is_left_of_certificates_is_counted_between_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("pinnace.apiserver.authn.time.time", lambda: now[0])
    monkeypatch.setattr(authn, "read_certificate", lambda *_: (authn.User("ada"), 4000.0))
    found = authn.Authenticator({}, [], authn.Anonymous())
    for now[0], known in ((100.0, True), (200.0, True), (400.0, True), (3000.0, True), (4000.0, False)):
        assert (found._of_certificate(b"der") is not None) == known
    found.add_up()
    assert found.lifetimes[0] == 3900 + 3800 + 3600 + 1000
    assert found.lifetimes[1:6] == [0, 1, 1, 2, 0]  # 3600 is an hour still


async def test_what_is_deprecated_is_told_when_it_was_asked_for(cluster: Cluster) -> None:
    await cluster.call("GET", "/api/v1/componentstatuses")
    found = await told(cluster)
    of = labels(group="", version="v1", resource="componentstatuses", subresource="", removed_release="")
    assert found["apiserver_requested_deprecated_apis", of] == 1
    assert len([name for name, _ in found if name == "apiserver_requested_deprecated_apis"]) == 1


async def test_connections_that_end_before_tls_is_agreed_are_counted(cluster: Cluster) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", cluster.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(60):
            await reader.read()
    writer.close()
    assert (await told(cluster))["apiserver_tls_handshake_errors_total", labels()] == 1


async def test_objects_watchers_and_the_process_are_told(cluster: Cluster) -> None:
    before = await told(cluster)
    await cluster.call("POST", MAPS, config_map("a"))
    watch = await cluster.watch(f"{MAPS}?watch=true")
    await watch.next()
    found = await told(cluster)
    watch.close()
    of = labels(group="", resource="configmaps")
    assert found["apiserver_resource_objects", of] == before["apiserver_resource_objects", of] + 1
    of = labels(resource="configmaps")
    assert found["apiserver_storage_objects", of] == before["apiserver_storage_objects", of] + 1
    of = labels(group="", kind="ConfigMap", version="v1")
    assert found["apiserver_registered_watchers", of] == before.get(("apiserver_registered_watchers", of), 0) + 1
    for name in ("process_resident_memory_bytes", "process_start_time_seconds", "process_open_fds"):
        assert found[name, labels()] > 0
    assert any(name == "kubernetes_build_info" for name, _ in found)
