"""Pods and claims keep to the LimitRanges of their namespace."""

from __future__ import annotations

from tests.apiserver.conftest import Cluster, pod

NAMESPACE = "/api/v1/namespaces/default"


async def limit(cluster: Cluster, *items: object) -> None:
    body = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": list(items)}}
    await cluster.request("POST", f"{NAMESPACE}/limitranges", body)


async def test_a_pod_gets_defaults_and_is_held_to_the_maximum(cluster: Cluster) -> None:
    """Conformance: "LimitRange, resources" """
    default = {"cpu": "500m", "memory": "512Mi"}
    await limit(cluster, {"type": "Container", "default": default, "max": {"memory": "1Gi"}})

    made = await cluster.request("POST", f"{NAMESPACE}/pods", pod("a"))
    resources = made["spec"]["containers"][0]["resources"]
    assert resources["limits"] == default
    assert resources["requests"] == default, "a default limit is the default request too"
    assert made["metadata"]["annotations"]["kubernetes.io/limit-ranger"].startswith("LimitRanger plugin set: cpu")

    big = {"name": "main", "image": "i", "resources": {"limits": {"memory": "2Gi", "cpu": "1"}}}
    refused = await cluster.refused("POST", f"{NAMESPACE}/pods", pod("b", containers=[big]))
    assert refused.code == 403
    why = "maximum memory usage per Container is 1Gi, but limit is 2Gi"
    assert refused.message == f'pods "b" is forbidden: {why}'


async def test_a_claim_is_held_to_the_bounds(cluster: Cluster) -> None:
    await limit(cluster, {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}})
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "3Gi"}}},
    }
    refused = await cluster.refused("POST", f"{NAMESPACE}/persistentvolumeclaims", claim)
    assert refused.message == (
        'persistentvolumeclaims "c" is forbidden: '
        "maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"
    )
