"""Pods as the API shows them: updates, collections, generations, classes of service."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from pinnace.testing import Api, ApiError


def pod(name: str, **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"app": "a"}}
    body = {"containers": [{"name": "main", "image": "example.com/any"}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": body}


def test_labels_of_a_running_pod_are_updated(api: Api, namespace: str) -> None:
    """Conformance: "Pods, update" """
    api.create(pod("p"), namespace)
    body = api.wait_for("pods", "p", "Ready", namespace)
    body["metadata"]["labels"]["time"] = "updated"
    api.update(body)
    assert [one["metadata"]["name"] for one in api.list("pods", namespace, labels="time=updated")] == ["p"]


def test_pods_are_deleted_together(api: Api, namespace: str) -> None:
    """Conformance: "Pods, delete a collection" """
    for number in range(3):
        api.create(pod(f"p{number}"), namespace)
    api.wait_until(lambda: len(api.list("pods", namespace, fields="status.phase=Running")) == 3)
    api.request("DELETE", f"/api/v1/namespaces/{namespace}/pods", params={"labelSelector": "app=a"})
    api.wait_until(lambda: not api.list("pods", namespace))


def test_the_status_of_a_pod_is_patched(api: Api, namespace: str) -> None:
    """Conformance: "Pods, patching status", "Pods, completes the lifecycle of a Pod and the PodStatus" """
    with api.watch("pods", namespace, labels="app=a") as events:
        api.create(pod("p"), namespace)
        assert next(events)["type"] == "ADDED"
        api.wait_for("pods", "p", "Ready", namespace)
        patch = {"metadata": {"labels": {"status": "patched"}}}
        api.patch("pods", "p", patch, namespace)
        condition = {"type": "Ready", "status": "False"}
        kind = "application/strategic-merge-patch+json"
        body = {"status": {"message": "Patched by a test", "conditions": [condition]}}
        patched = api.patch("pods", "p", body, namespace, subresource="status", content_type=kind)
        assert patched["status"]["message"] == "Patched by a test"
        assert {"Ready": "False"}.items() <= {
            one["type"]: one["status"] for one in patched["status"]["conditions"]
        }.items()
        assert patched["metadata"]["labels"]["status"] == "patched"
        api.delete("pods", "p", namespace)
        for event in events:
            if event["type"] == "DELETED":
                break


def test_pods_may_name_inline_volumes_of_csi_drivers(api: Api, namespace: str) -> None:
    """Conformance: "CSIInlineVolumes should support Pods with inline volumes" """
    driver = "e2e.example.com"
    spec = {"attachRequired": False, "podInfoOnMount": True, "volumeLifecycleModes": ["Ephemeral"]}
    metadata = {"name": driver, "labels": {"test": namespace}}
    api.create({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": metadata, "spec": spec})
    volume = {"name": "inline", "csi": {"driver": driver, "volumeAttributes": {"size": "1"}, "readOnly": True}}
    api.create(pod("p", volumes=[volume], schedulingGates=[{"name": "example.com/held"}]), namespace)
    assert api.get("pods", "p", namespace)["spec"]["volumes"][0] == volume
    [listed] = api.list("pods", namespace, labels="app=a")
    assert listed["spec"]["volumes"][0]["csi"]["driver"] == driver
    patched = api.patch("pods", "p", {"metadata": {"labels": {"patched": "yes"}}}, namespace)
    assert patched["metadata"]["labels"]["patched"] == "yes"
    api.delete("pods", "p", namespace)
    api.wait_until(lambda: not api.list("pods", namespace))
    api.delete("csidrivers", driver)


def test_a_generation_is_a_version_of_the_spec(api: Api, namespace: str) -> None:
    """Conformance: "Pods Generation, updates" """
    made = api.create(pod("p", nodeSelector={"no": "where"}), namespace)
    assert made["metadata"]["generation"] == 1
    labelled = api.patch("pods", "p", {"metadata": {"labels": {"a": "b"}}}, namespace)
    assert labelled["metadata"]["generation"] == 1
    for number, change in enumerate(
        (
            {"tolerations": [*made["spec"]["tolerations"], {"key": "a", "operator": "Exists"}]},
            {"activeDeadlineSeconds": 5000},
        )
    ):
        assert api.patch("pods", "p", {"spec": change}, namespace)["metadata"]["generation"] == number + 2


def test_a_generation_counts_500_updates(api: Api, namespace: str) -> None:
    """Conformance: "Pods Generation, 500 updates" """
    api.create(pod("p", nodeSelector={"no": "where"}), namespace)
    for number in range(499):
        last = api.patch("pods", "p", {"spec": {"activeDeadlineSeconds": 2_000_000 - number}}, namespace)
    assert last["metadata"]["generation"] == 500


def test_a_graceful_deletion_is_a_new_generation(api: Api, namespace: str) -> None:
    """Conformance: "Pods Generation, graceful delete" """
    body = pod("p")
    body["metadata"]["finalizers"] = ["example.com/hold"]
    api.create(body, namespace)
    before = api.wait_for("pods", "p", "Ready", namespace)["metadata"]["generation"]
    api.delete("pods", "p", namespace)
    after = api.get("pods", "p", namespace)["metadata"]
    assert after["deletionTimestamp"]
    assert after["generation"] == before + 1
    api.patch("pods", "p", {"metadata": {"finalizers": None}}, namespace)


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, "BestEffort"),
        ({"requests": {"cpu": "100m"}}, "Burstable"),
        ({"requests": {"cpu": "1", "memory": "1Mi"}, "limits": {"cpu": "1", "memory": "1Mi"}}, "Guaranteed"),
    ],
)
def test_a_pod_has_a_class_of_service(api: Api, namespace: str, resources: Any, expected: str) -> None:
    """Conformance: "Pods, QOS" """
    containers = [{"name": "main", "image": "example.com/any", "resources": resources}]
    assert api.create(pod("p", containers=containers), namespace)["status"]["qosClass"] == expected


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_a_key_is_not_empty(api: Api, namespace: str, kind: str) -> None:
    """Conformance: "Secrets, with empty-key", "ConfigMap, with empty-key" """
    with pytest.raises(ApiError) as caught:
        api.create({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "data": {"": "dmFsdWU="}}, namespace)
    assert caught.value.code == 422


def test_a_pod_of_a_runtime_class_is_scheduled(api: Api, namespace: str) -> None:
    """Conformance: "Can schedule a pod requesting existing RuntimeClass.", "Pod with the non-existing RuntimeClass is
    rejected."
    """
    name = f"preconfigured-{namespace}"
    api.create({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}, "handler": "any"})
    api.create(pod("p", runtimeClassName=name), namespace)
    api.wait_for("pods", "p", "PodScheduled", namespace)
    with pytest.raises(ApiError, match="RuntimeClass"):
        api.create(pod("q", runtimeClassName="nonexistent"), namespace)
    api.delete("runtimeclasses", name)


def test_a_pod_comes_runs_and_goes(api: Api, namespace: str) -> None:
    """Conformance: "Pods, lifecycle", "Pods, assigned hostip" """
    body = pod("p")
    body["metadata"]["labels"]["time"] = namespace
    assert api.list("pods", namespace, labels=f"time={namespace}") == []
    with api.watch("pods", namespace, labels=f"time={namespace}") as events:
        api.create(body, namespace)
        assert next(events)["type"] == "ADDED"
        assert [one["metadata"]["name"] for one in api.list("pods", namespace, labels=f"time={namespace}")] == ["p"]
        status = api.wait_for("pods", "p", "Ready", namespace)["status"]
        assert ip_address(status["hostIP"]) == ip_address(status["hostIPs"][0]["ip"])
        api.delete("pods", "p", namespace)
        last = next(event["object"] for event in events if event["type"] == "DELETED")
    assert last["metadata"]["deletionTimestamp"]
    assert api.list("pods", namespace, labels=f"time={namespace}") == []


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_an_immutable_object_stays_what_it_is(api: Api, namespace: str, kind: str) -> None:
    """Conformance: "ConfigMap Volume, immutability", "Secrets Volume, immutability" """
    made = api.create({"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, "data": {"a": "YQ=="}}, namespace)
    made["data"] = {"a": "Yg=="}
    made = api.update(made)
    made["immutable"] = True
    made = api.update(made)
    for change, words in (
        ({"data": {"a": "Yw=="}}, "data: Forbidden: field is immutable when `immutable` is set"),
        ({"immutable": False}, "immutable: Forbidden: field is immutable when `immutable` is set"),
    ):
        with pytest.raises(ApiError, match=words) as caught:
            api.update({**made, **change})
        assert caught.value.code == 422
    made["metadata"]["labels"] = {"still": "mutable"}
    assert api.update(made)["metadata"]["labels"] == {"still": "mutable"}
    api.delete(kind.lower() + "s", "x", namespace)
    api.wait_gone(kind.lower() + "s", "x", namespace)
