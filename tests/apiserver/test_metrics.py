"""What the API server tells of itself at /metrics."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.apiserver.conftest import Cluster, config_map

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
