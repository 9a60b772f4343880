"""What controllers make of workloads, on nodes where pods run in name."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.testing import Api, ApiError, Cluster
from tests.conformance.samples import template

RC = ("v1", "ReplicationController")
RS = ("apps/v1", "ReplicaSet")


def workload(api_version: str, kind: str, name: str, replicas: int, **spec: Any) -> dict[str, Any]:
    labels = {"name": name}
    selector = labels if kind == "ReplicationController" else {"matchLabels": labels}
    body = {"replicas": replicas, "selector": selector, "template": template(**labels), **spec}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": body}


def controlled_by(obj: dict[str, Any], uid: str) -> bool:
    return [one["uid"] for one in obj["metadata"].get("ownerReferences", ()) if one.get("controller")] == [uid]


@pytest.mark.parametrize(("api_version", "kind"), [RC, RS])
def test_matching_pods_are_adopted_and_others_let_go(api: Api, namespace: str, api_version: str, kind: str) -> None:
    """Conformance: "Replica Set, adopt matching pods and release non matching pods", "Replication Controller, adopt
    matching pods", "Replication Controller, release pods"
    """
    orphan = {"apiVersion": "v1", "kind": "Pod", **template(name="w")}
    orphan["metadata"] = {"name": "orphan", "labels": {"name": "w"}}
    api.create(orphan, namespace)
    made = api.create(workload(api_version, kind, "w", 1), namespace)
    uid = made["metadata"]["uid"]
    api.wait_for("pods", "orphan", lambda obj: controlled_by(obj, uid), namespace)
    assert len(api.list("pods", namespace)) == 1
    api.patch("pods", "orphan", {"metadata": {"labels": {"name": "other"}}}, namespace)
    api.wait_for("pods", "orphan", lambda obj: not obj["metadata"].get("ownerReferences"), namespace)
    api.wait_until(lambda: len(api.list("pods", namespace, labels="name=w")) == 1)


@pytest.mark.parametrize(("api_version", "kind"), [RC, RS, ("apps/v1", "StatefulSet"), ("apps/v1", "Deployment")])
def test_replicas_are_read_and_set_by_scale(api: Api, namespace: str, api_version: str, kind: str) -> None:
    """Conformance: "Replication Controller, get and update ReplicationController scale", "ReplicaSet, completes the
    scaling of a ReplicaSet subresource", "StatefulSet resource Replica scaling", "Replication Controller, run basic
    image", "Replica Set, run basic image"
    """
    more = {"serviceName": "w"} if kind == "StatefulSet" else {}
    api.create(workload(api_version, kind, "w", 1, **more), namespace)
    resource = f"{api_version}/{kind}"
    api.wait_for(resource, "w", lambda obj: obj.get("status", {}).get("readyReplicas") == 1, namespace)
    found, _ = api.resource(resource)
    path = found.path(namespace, "w", "scale")
    scale = api.request("GET", path)
    assert (scale["kind"], scale["spec"]["replicas"], scale["status"]["replicas"]) == ("Scale", 1, 1)
    scale["spec"]["replicas"] = 2
    assert api.request("PUT", path, scale)["spec"]["replicas"] == 2
    api.wait_for(resource, "w", lambda obj: obj["status"].get("readyReplicas") == 2, namespace)
    patched = api.patch(resource, "w", {"spec": {"replicas": 4}}, namespace, subresource="scale")
    assert patched["spec"]["replicas"] == 4
    api.wait_for(resource, "w", lambda obj: obj["status"].get("readyReplicas") == 4, namespace)


def test_a_replication_controller_says_that_a_quota_stops_it(api: Api, namespace: str) -> None:
    """Conformance: "Replication Controller, check for issues like exceeding allocated quota" """
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": {"hard": {"pods": "2"}}}
    api.create(quota, namespace)
    api.wait_for("quota", "q", lambda obj: obj.get("status", {}).get("hard"), namespace)
    api.create(workload(*RC, "w", 3), namespace)
    api.wait_for("rc", "w", "ReplicaFailure", namespace)
    api.patch("rc", "w", {"spec": {"replicas": 2}}, namespace)
    api.wait_for("rc", "w", lambda obj: not obj["status"].get("conditions"), namespace)


def test_a_replication_controller_lives(api: Api, namespace: str) -> None:
    """Conformance: "Replication Controller, lifecycle" """
    api.create(workload(*RC, "w", 1), namespace)
    api.wait_for("rc", "w", lambda obj: obj.get("status", {}).get("readyReplicas") == 1, namespace)
    api.patch("rc", "w", {"metadata": {"labels": {"test": "patched"}}}, namespace)
    api.patch("rc", "w", {"spec": {"replicas": 2}}, namespace)
    api.wait_for("rc", "w", lambda obj: obj["status"].get("readyReplicas") == 2, namespace)
    assert [one["metadata"]["name"] for one in api.list("rc", labels="test=patched")] == ["w"]
    path = f"/api/v1/namespaces/{namespace}/replicationcontrollers"
    api.request("DELETE", path, params={"labelSelector": "test=patched"})
    api.wait_gone("rc", "w", namespace)


def test_a_replica_set_is_replaced_and_patched(api: Api, namespace: str) -> None:
    """Conformance: "ReplicaSet, is created, Replaced and Patched" """
    api.create(workload(*RS, "w", 1), namespace)
    api.wait_for("rs", "w", lambda obj: obj.get("status", {}).get("readyReplicas") == 1, namespace)
    path = f"/apis/apps/v1/namespaces/{namespace}/replicasets/w/scale"
    scale = api.request("GET", path)
    api.request("PUT", path, {**scale, "spec": {"replicas": 2}})
    api.wait_for("rs", "w", lambda obj: obj["status"].get("readyReplicas") == 2, namespace)
    image = [{"name": "main", "image": "example.com/other"}]
    patch = {
        "metadata": {"labels": {"test": "patched"}},
        "spec": {"replicas": 3, "template": {"spec": {"containers": image}}},
    }
    kind = "application/strategic-merge-patch+json"
    api.patch("rs", "w", patch, namespace, content_type=kind)
    found = api.wait_for("rs", "w", lambda obj: obj["status"].get("readyReplicas") == 3, namespace)
    assert found["metadata"]["labels"]["test"] == "patched"


def test_recreating_ends_the_old_pods_first(api: Api, namespace: str) -> None:
    """Conformance: "Deployment Recreate" """
    api.create(workload("apps/v1", "Deployment", "w", 2, strategy={"type": "Recreate"}), namespace)
    api.wait_for("deploy", "w", "Available", namespace)
    [old] = api.list("rs", namespace)
    with api.watch("pods", namespace, labels="name=w") as events:
        image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "example.com/new"}]
        api.patch("deploy", "w", image, namespace, content_type="application/json-patch+json")
        alive: dict[str, bool] = {}  # uid -> of the old ReplicaSet
        fresh = 0
        for event in events:
            metadata = event["object"]["metadata"]
            if event["type"] == "DELETED":
                alive.pop(metadata["uid"], None)
                continue
            is_old = controlled_by(event["object"], old["metadata"]["uid"])
            if metadata["uid"] not in alive and not is_old:
                assert not any(alive.values())
                fresh += 1
            alive[metadata["uid"]] = is_old
            if fresh == 2:
                break


def test_old_revisions_are_forgotten(api: Api, namespace: str) -> None:
    """Conformance: "Deployment RevisionHistoryLimit" """
    api.create(workload("apps/v1", "Deployment", "w", 1, revisionHistoryLimit=0), namespace)
    api.wait_for("deploy", "w", "Available", namespace)
    image = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "example.com/new"}]
    api.patch("deploy", "w", image, namespace, content_type="application/json-patch+json")
    api.wait_until(
        lambda: (
            [one["spec"]["template"]["spec"]["containers"][0]["image"] for one in api.list("rs", namespace)]
            == ["example.com/new"]
        )
    )


def test_a_budget_holds_back_evictions_until_it_allows_them(cluster: Cluster, api: Api, namespace: str) -> None:
    """Conformance: "PodDisruptionBudget: block an eviction until the PDB is updated to allow it" """
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "b"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"name": "w"}}},
    }
    api.create(workload(*RS, "w", 1), namespace)
    api.create(budget, namespace)
    api.wait_for("pdb", "b", lambda obj: obj.get("status", {}).get("currentHealthy") == 1, namespace)
    [pod] = api.list("pods", namespace)
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    with pytest.raises(ApiError, match="Cannot evict pod as it would violate the pod's disruption budget") as caught:
        api.request("POST", path, eviction)
    assert caught.value.code == 429
    api.patch("pdb", "b", {"spec": {"minAvailable": 0}}, namespace)
    api.wait_for("pdb", "b", lambda obj: obj["status"].get("disruptionsAllowed") == 1, namespace)
    api.request("POST", path, eviction)
    api.wait_gone("pods", name, namespace)
