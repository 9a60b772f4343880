"""Namespaces: changed, finalized, and deleted with what is in them."""

from __future__ import annotations

import time
from typing import Any

from pinnace.testing import Api, Cluster


def pod(name: str, **metadata: Any) -> dict[str, Any]:
    container = {"name": "main", "image": "example.com/any"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"containers": [container]},
    }


def service(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}


def test_pods_go_with_their_namespace(cluster: Cluster, api: Api) -> None:
    """Conformance: "namespace-deletion-removes-pods" """
    name = cluster.create_namespace("nsdeletetest")
    api.create(pod("test-pod"), name)
    api.wait_for("pods", "test-pod", "Ready", name)
    cluster.delete_namespace(name)
    api.wait_gone("namespaces", name)
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert api.list("pods", name) == []
    cluster.delete_namespace(name)


def test_services_go_with_their_namespace(cluster: Cluster, api: Api) -> None:
    """Conformance: "namespace-deletion-removes-services" """
    name = cluster.create_namespace("nsdeletetest")
    api.create(service("test-service"), name)
    cluster.delete_namespace(name)
    api.wait_gone("namespaces", name)
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    assert api.list("services", name) == []
    cluster.delete_namespace(name)


def test_a_namespace_is_patched_and_updated(api: Api, namespace: str) -> None:
    """Conformance: "Namespace patching", "Namespace, apply update to a namespace" """
    api.patch("namespaces", namespace, {"metadata": {"labels": {"testLabel": "testValue"}}})
    assert api.get("namespaces", namespace)["metadata"]["labels"]["testLabel"] == "testValue"
    body = api.get("namespaces", namespace)
    body["metadata"]["labels"][namespace] = "updated"
    assert api.update(body)["metadata"]["labels"][namespace] == "updated"


def test_the_status_of_a_namespace_is_patched_and_updated(api: Api, namespace: str) -> None:
    """Conformance: "Namespace, apply changes to a namespace status" """
    path = f"/api/v1/namespaces/{namespace}"
    read = api.request("GET", f"{path}/status")
    assert read["status"]["phase"] == "Active"
    condition = {"type": "StatusPatch", "status": "True", "reason": "E2E", "message": "Patched by an e2e test"}
    patched = api.patch("namespaces", namespace, {"status": {"conditions": [condition]}}, subresource="status")
    assert [one["type"] for one in patched["status"]["conditions"]] == ["StatusPatch"]
    updated = api.request("GET", f"{path}/status")
    updated["status"]["conditions"].append({**condition, "type": "StatusUpdate"})
    written = api.request("PUT", f"{path}/status", updated)
    assert [one["type"] for one in written["status"]["conditions"]] == ["StatusPatch", "StatusUpdate"]


def test_a_finalizer_of_a_namespace_comes_and_goes(api: Api, namespace: str) -> None:
    """Conformance: "Namespace, apply finalizer to a namespace" """
    path = f"/api/v1/namespaces/{namespace}/finalize"
    body = api.get("namespaces", namespace)
    body["spec"]["finalizers"].append("e2e.example.com/fakeFinalizer")
    assert "e2e.example.com/fakeFinalizer" in api.request("PUT", path, body)["spec"]["finalizers"]
    body = api.get("namespaces", namespace)
    body["spec"]["finalizers"].remove("e2e.example.com/fakeFinalizer")
    assert api.request("PUT", path, body)["spec"]["finalizers"] == ["kubernetes"]


def test_pods_are_deleted_before_anything_else(cluster: Cluster, api: Api) -> None:
    """Conformance: "Ordered Namespace Deletion" """
    name = cluster.create_namespace("ordered")
    held = {"name": "pod-finalizer", "finalizers": ["e2e.example.com/finalizer"]}
    api.create({**pod("pod-finalizer"), "metadata": held}, name)
    api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "test-configmap"}}, name)
    api.wait_for("pods", "pod-finalizer", "Ready", name)
    cluster.delete_namespace(name)
    api.wait_for("namespaces", name, "NamespaceDeletionContentFailure=False")
    api.wait_for("pods", "pod-finalizer", lambda obj: obj["metadata"].get("deletionTimestamp"), name)
    api.wait_for("namespaces", name, "NamespaceContentRemaining")
    assert "deletionTimestamp" not in api.get("configmaps", "test-configmap", name)["metadata"]
    api.patch("pods", "pod-finalizer", {"metadata": {"finalizers": None}}, name)
    api.wait_gone("namespaces", name)


def test_a_hundred_namespaces_go_at_once(cluster: Cluster, api: Api) -> None:
    """Nothing of this is slow: the conformance suite allows 150 s for most of them."""
    names = [cluster.create_namespace("many") for _ in range(100)]
    began = time.monotonic()
    with api.watch("namespaces") as events:
        for name in names:
            cluster.delete_namespace(name)
        left = set(names)
        for event in events:
            if event["type"] == "DELETED":
                left.discard(event["object"]["metadata"]["name"])
            if not left:
                break
    assert time.monotonic() - began < 150
