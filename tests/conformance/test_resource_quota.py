"""ResourceQuotas: what they count, hold back and give free."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.testing import Api, ApiError
from tests.conformance.samples import template


def quota(name: str, hard: dict[str, str], **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"quota": name}}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard, **spec}}


def used(api: Api, namespace: str, name: str, **expected: str) -> None:
    """Wait until the quota counts so much; `_` in a name stands for what it cannot hold."""
    wanted = {key.replace("__", "/").replace("_", "."): value for key, value in expected.items()}

    def counts(obj: dict[str, Any]) -> bool:
        found = obj.get("status", {}).get("used", {})
        return all(found.get(key) == value for key, value in wanted.items())

    api.wait_for("resourcequotas", name, counts, namespace)


def pod(name: str, cpu: str = "", **spec: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": cpu, "memory": "1Mi"}, "limits": {"cpu": cpu, "memory": "1Mi"}} if cpu else {}
    container = {"name": "main", "image": "example.com/any", "resources": resources}
    spec = {"containers": [container], "nodeSelector": {"no": "where"}, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


COUNTED = {
    "configmaps": {"apiVersion": "v1", "kind": "ConfigMap"},
    "secrets": {"apiVersion": "v1", "kind": "Secret"},
    "replicationcontrollers": {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "spec": {"replicas": 0, "selector": {"a": "b"}, "template": template(a="b")},
    },
    "count/replicasets.apps": {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template(a="b")},
    },
    "services": {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}},
    "resourcequotas": {"apiVersion": "v1", "kind": "ResourceQuota", "spec": {"hard": {"pods": "1"}}},
}


@pytest.mark.parametrize("resource", COUNTED)
def test_objects_are_counted(api: Api, namespace: str, resource: str) -> None:
    """Conformance: "ResourceQuota, object count quota, configmap", "ResourceQuota, object count quota, secret",
    "ResourceQuota, object count quota, replicationController", "ResourceQuota, object count quota, replicaSet",
    "ResourceQuota, object count quota, service", "ResourceQuota, object count quota, resourcequotas"
    """
    body = COUNTED[resource]
    api.wait_for("configmaps", "kube-root-ca.crt", namespace=namespace)  # which is counted too
    before = {"configmaps": 1, "resourcequotas": 1}.get(resource, 0)
    api.create(quota("count", {resource: str(before + 1)}), namespace)

    def counts(number: int) -> None:
        api.wait_for(
            "quota", "count", lambda obj: obj.get("status", {}).get("used", {}).get(resource) == str(number), namespace
        )

    counts(before)
    api.create({**body, "metadata": {"name": "first"}}, namespace)
    counts(before + 1)
    with pytest.raises(ApiError, match="exceeded quota: count, requested") as caught:
        api.create({**body, "metadata": {"name": "second"}}, namespace)
    assert caught.value.code == 403
    name = f"{body['apiVersion']}/{body['kind']}"
    api.delete(name, "first", namespace)
    counts(before)


def test_pods_are_counted_with_what_they_ask_for(api: Api, namespace: str) -> None:
    """Conformance: "ResourceQuota, object count quota, pod" """
    api.create(quota("pods", {"pods": "5", "requests.cpu": "1", "requests.memory": "500Mi"}), namespace)
    used(api, namespace, "pods", pods="0", requests_cpu="0")
    api.create(pod("fits", "500m"), namespace)
    used(api, namespace, "pods", pods="1", requests_cpu="500m", requests_memory="1Mi")
    with pytest.raises(ApiError, match=r"exceeded quota: pods, requested: requests.cpu=600m, used: requests.cpu=500m"):
        api.create(pod("too-much", "600m"), namespace)
    with pytest.raises(ApiError, match=r"failed quota: pods: must specify requests.cpu"):
        api.create(pod("says-nothing"), namespace)
    api.delete("pods", "fits", namespace)
    used(api, namespace, "pods", pods="0", requests_cpu="0", requests_memory="0")


def test_scopes_choose_by_how_a_pod_ends(api: Api, namespace: str) -> None:
    """Conformance: "ResourceQuota, quota scope, Terminating and NotTerminating scope" """
    hard = {"pods": "5", "requests.cpu": "1", "requests.memory": "500Mi"}
    api.create(quota("terminating", hard, scopes=["Terminating"]), namespace)
    api.create(quota("not-terminating", hard, scopes=["NotTerminating"]), namespace)
    used(api, namespace, "terminating", pods="0")
    used(api, namespace, "not-terminating", pods="0")
    api.create(pod("goes-on", "500m"), namespace)
    used(api, namespace, "not-terminating", pods="1", requests_cpu="500m")
    used(api, namespace, "terminating", pods="0", requests_cpu="0")
    api.delete("pods", "goes-on", namespace)
    used(api, namespace, "not-terminating", pods="0")
    api.create(pod("ends", "500m", activeDeadlineSeconds=3600), namespace)
    used(api, namespace, "terminating", pods="1", requests_cpu="500m")
    used(api, namespace, "not-terminating", pods="0")


def test_scopes_choose_by_quality_of_service(api: Api, namespace: str) -> None:
    """Conformance: "ResourceQuota, quota scope, BestEffort and NotBestEffort scope" """
    api.create(quota("best", {"pods": "5"}, scopes=["BestEffort"]), namespace)
    api.create(quota("not-best", {"pods": "5"}, scopes=["NotBestEffort"]), namespace)
    used(api, namespace, "best", pods="0")
    used(api, namespace, "not-best", pods="0")
    api.create(pod("best"), namespace)
    used(api, namespace, "best", pods="1")
    used(api, namespace, "not-best", pods="0")
    api.delete("pods", "best", namespace)
    used(api, namespace, "best", pods="0")
    api.create(pod("burstable", "100m"), namespace)
    used(api, namespace, "not-best", pods="1")
    used(api, namespace, "best", pods="0")


def test_a_quota_is_changed_and_deleted(api: Api, namespace: str) -> None:
    """Conformance: "ResourceQuota, update and delete", "ResourceQuota, manage lifecycle of a ResourceQuota" """
    api.create(quota("any", {"cpu": "1", "memory": "500Mi"}), namespace)
    body = api.get("quota", "any", namespace)
    assert body["spec"]["hard"] == {"cpu": "1", "memory": "500Mi"}
    api.patch("quota", "any", {"spec": {"hard": {"cpu": "2", "memory": "1Gi"}}}, namespace)
    api.wait_for("quota", "any", lambda obj: obj["status"]["hard"] == {"cpu": "2", "memory": "1Gi"}, namespace)
    assert len(api.list("quota", labels="quota=any")) == 1
    api.request("DELETE", f"/api/v1/namespaces/{namespace}/resourcequotas", params={"labelSelector": "quota=any"})
    api.wait_gone("quota", "any", namespace)


def test_the_status_of_a_quota_follows_its_spec(api: Api, namespace: str) -> None:
    """Conformance: "ResourceQuota, apply changes to a ResourceQuota status" """
    api.create(quota("any", {"cpu": "500m", "memory": "500Mi"}), namespace)
    api.wait_for("quota", "any", lambda obj: obj.get("status", {}).get("hard"), namespace)
    with api.watch("quota", namespace, fields="metadata.name=any") as events:
        patch = {"status": {"hard": {"cpu": "1", "memory": "1Gi"}}}
        api.patch("quota", "any", patch, namespace, subresource="status")
        seen: list[Any] = []
        for event in events:
            seen.append(event["object"]["status"]["hard"])
            if {"cpu": "1", "memory": "1Gi"} in seen and seen[-1] == {"cpu": "500m", "memory": "500Mi"}:
                break
    read = api.request("GET", f"/api/v1/namespaces/{namespace}/resourcequotas/any/status")
    assert read["spec"]["hard"] == {"cpu": "500m", "memory": "500Mi"}
