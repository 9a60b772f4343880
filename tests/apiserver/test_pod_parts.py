"""Writes to parts of pods: ephemeral containers are only added, a resize changes CPU and memory alone."""

from __future__ import annotations

from tests.apiserver.conftest import Cluster, pod

PODS = "/api/v1/namespaces/default/pods"


async def test_ephemeral_containers_are_only_added(cluster: Cluster) -> None:
    """Conformance: "Ephemeral Container, update ephemeral containers" """
    made = await cluster.request("POST", PODS, pod("a"))
    path = f"{PODS}/a/ephemeralcontainers"
    debug = {"name": "debug", "image": "busybox"}
    made = await cluster.request("PUT", path, {**made, "spec": {**made["spec"], "ephemeralContainers": [debug]}})
    assert [one["name"] for one in made["spec"]["ephemeralContainers"]] == ["debug"]
    changed = [{**made["spec"]["ephemeralContainers"][0], "image": "other"}]
    refused = await cluster.refused("PUT", path, {**made, "spec": {**made["spec"], "ephemeralContainers": changed}})
    assert refused.code == 422
    assert refused.message == (
        'Pod "a" is invalid: spec.ephemeralContainers[0]: Forbidden: '
        "existing ephemeral containers [debug] may not be changed\n"
    )


async def test_a_resize_keeps_the_quality_of_service(cluster: Cluster) -> None:
    def sized(cpu: str) -> list[object]:
        return [{"name": "main", "image": "i:1", "resources": {"requests": {"cpu": cpu}}}]

    made = await cluster.request("POST", PODS, pod("a", containers=sized("100m")))
    path = f"{PODS}/a/resize"
    made = await cluster.request("PUT", path, {**made, "spec": {**made["spec"], "containers": sized("200m")}})
    assert made["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "200m"}}
    assert made["metadata"]["generation"] == 2
    bare = [{"name": "main", "image": "i:1", "resources": {}}]
    refused = await cluster.refused("PUT", path, {**made, "spec": {**made["spec"], "containers": bare}})
    assert refused.code == 422
    assert refused.message == (
        'Pod "a" is invalid: [spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing, '
        "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed]"
    )
