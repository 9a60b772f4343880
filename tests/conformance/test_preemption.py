"""Pods of high priority make others leave: on nodes that advertise a resource of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pinnace.testing import Api, ApiError, Cluster

RESOURCE = "example.com/scheduling"
PRIORITIES = {"low": 1, "medium": 100, "high": 1000}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes, five of the resource on each, and three priorities."""
    with Cluster() as made:
        for number in (1, 2):
            made.add_node(f"node-{number}", capacity={RESOURCE: "5"})
        for name, value in PRIORITIES.items():
            made.api.create(priority_class(name, value))
        yield made


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = cluster.create_namespace()
    yield name
    for obj in cluster.api.list("pods", name):
        if obj["metadata"].get("finalizers"):
            cluster.api.patch("pods", obj["metadata"]["name"], {"metadata": {"finalizers": None}}, name)
    cluster.delete_namespace(name)
    cluster.api.wait_gone("namespaces", name)


def priority_class(name: str, value: int) -> dict[str, Any]:
    return {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value}


def pod(name: str, priority: str, amount: int, **spec: Any) -> dict[str, Any]:
    wanted = {RESOURCE: str(amount)}
    container = {"name": "main", "image": "example.com/any", "resources": {"requests": wanted, "limits": wanted}}
    metadata = {"name": name, "labels": {"name": name}, **spec.pop("metadata", {})}
    spec = {"containers": [container], "priorityClassName": priority, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def fill(api: Api, namespace: str, **more: Any) -> dict[str, Any]:
    """A pod on each node that leaves too little for another; the first of low, the second of medium priority."""
    for number, priority in ((1, "low"), (2, "medium")):
        api.create(pod(f"on-{number}", priority, 3, nodeSelector={"kubernetes.io/hostname": f"node-{number}"}, **more),
                   namespace)  # fmt: skip
    first, _ = (api.wait_for("pods", f"on-{number}", "Ready", namespace) for number in (1, 2))
    return first


def condition(obj: dict[str, Any], kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next((one for one in obj["status"].get("conditions", ()) if one["type"] == kind), {})
    return found


def test_a_pod_of_low_priority_leaves(api: Api, namespace: str) -> None:
    """Conformance: "Scheduler, Basic Preemption" """
    victim = fill(api, namespace)
    api.create(pod("preemptor", "high", 3), namespace)
    placed = api.wait_for("pods", "preemptor", "Ready", namespace)
    assert placed["spec"]["nodeName"] == "node-1"
    api.wait_gone("pods", "on-1", namespace)
    assert "deletionTimestamp" not in api.get("pods", "on-2", namespace)["metadata"]
    uid = placed["metadata"]["uid"]
    [told] = api.wait_until(lambda: [one for one in api.list("events", namespace) if one["reason"] == "Preempted"])
    assert (told["type"], told["message"]) == ("Normal", f"Preempted by pod {uid} on node node-1")
    assert told["involvedObject"]["uid"] == victim["metadata"]["uid"]


def test_a_critical_pod_takes_the_room_of_a_pod_of_low_priority(api: Api, namespace: str) -> None:
    """Conformance: "Scheduler, Preemption for critical pod" """
    fill(api, namespace)
    api.create(pod("critical", "system-cluster-critical", 3), "kube-system")
    try:
        assert api.wait_for("pods", "critical", "Ready", "kube-system")["spec"]["nodeName"] == "node-1"
        api.wait_gone("pods", "on-1", namespace)
        assert "deletionTimestamp" not in api.get("pods", "on-2", namespace)["metadata"]
    finally:
        api.delete("pods", "critical", "kube-system")
        api.wait_gone("pods", "critical", "kube-system")


def test_the_victim_says_why_it_ends_and_the_preemptor_where_it_will_go(api: Api, namespace: str) -> None:
    """Conformance: "Verify the DisruptionTarget condition is added to the preempted pod" """
    fill(api, namespace, metadata={"finalizers": ["example.com/hold"]})
    api.create(pod("preemptor", "high", 3), namespace)
    nominated = api.wait_for("pods", "preemptor", lambda obj: obj["status"].get("nominatedNodeName"), namespace)
    assert nominated["status"]["nominatedNodeName"] == "node-1"
    assert condition(nominated, "PodScheduled")["message"] == f"0/2 nodes are available: 2 Insufficient {RESOURCE}."
    victim = api.wait_for("pods", "on-1", lambda obj: "deletionTimestamp" in obj["metadata"], namespace)
    assert {**condition(victim, "DisruptionTarget"), "lastTransitionTime": "", "observedGeneration": 0} == {
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "message": "default-scheduler: preempting to accommodate a higher priority pod", "lastTransitionTime": "",
        "observedGeneration": 0,
    }  # fmt: skip
    assert "deletionTimestamp" not in api.get("pods", "on-2", namespace)["metadata"]
    api.patch("pods", "on-1", {"metadata": {"finalizers": None}}, namespace)
    assert api.wait_for("pods", "preemptor", "Ready", namespace)["spec"]["nodeName"] == "node-1"


def test_replica_sets_fill_up_again_what_is_left(api: Api, cluster: Cluster) -> None:
    """Each set's pods are preempted once at most; the new ones of low priority find no room.

    Conformance: "Pod preemption verification"
    """
    name = cluster.create_namespace()
    cluster.add_node("path", capacity={"example.com/fakecpu": "1000"})
    for level in range(1, 5):
        api.create(priority_class(f"p{level}", level))

    def template(level: int, amount: int) -> dict[str, Any]:
        wanted = {"example.com/fakecpu": str(amount)}
        made = pod(f"pod{level}", f"p{level}", 0, nodeSelector={"kubernetes.io/hostname": "path"})
        made["spec"]["containers"][0]["resources"] = {"requests": wanted, "limits": wanted}
        return made

    seen: dict[str, set[str]] = {f"pod{level}": set() for level in range(1, 5)}
    with api.watch("pods", name) as watch:
        for level, amount in ((1, 200), (2, 300), (3, 450)):
            made = template(level, amount)
            spec = {"replicas": 1, "selector": {"matchLabels": {"name": f"pod{level}"}},
                    "template": {"metadata": {"labels": made["metadata"]["labels"]}, "spec": made["spec"]}}  # fmt: skip
            api.create({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": f"rs-pod{level}"},
                        "spec": spec}, name)  # fmt: skip
            api.wait_for("replicasets", f"rs-pod{level}", lambda obj: obj["status"].get("readyReplicas"), name)
        api.create(template(4, 500), name)
        api.wait_for("pods", "pod4", "Ready", name)
        for level in (1, 2):
            api.wait_for("replicasets", f"rs-pod{level}", lambda obj: not obj["status"].get("readyReplicas"), name)
        gone: set[str] = set()
        while len(gone) < 2 or min(len(seen["pod1"]), len(seen["pod2"])) < 2:
            event = next(watch)
            metadata = event["object"]["metadata"]
            seen[metadata["labels"]["name"]].add(metadata["uid"])
            if event["type"] == "DELETED":
                gone.add(metadata["uid"])
    assert {kind: len(uids) for kind, uids in seen.items()} == {"pod1": 2, "pod2": 2, "pod3": 1, "pod4": 1}
    waiting = [one for one in api.list("pods", name) if not one["spec"].get("nodeName")]
    assert {one["metadata"]["labels"]["name"] for one in waiting} == {"pod1", "pod2"}
    cluster.delete_namespace(name)
    api.wait_gone("namespaces", name)
    api.delete("nodes", "path")


def test_values_of_priority_classes_do_not_change(api: Api) -> None:
    """Conformance: "Scheduler, Verify PriorityClass endpoints" """
    for name, value in (("e1", 1), ("e2", 2)):
        api.create(priority_class(name, value))
    with pytest.raises(ApiError, match="value: Forbidden: may not be changed in an update"):
        api.patch("priorityclasses", "e1", {"value": 10})
    with pytest.raises(ApiError, match="value: Forbidden: may not be changed in an update"):
        api.update({**api.get("priorityclasses", "e2"), "value": 20})
    api.patch("priorityclasses", "e1", {"description": "updated"})
    api.update({**api.get("priorityclasses", "e2"), "description": "updated"})
    found = {one["metadata"]["name"]: one for one in api.list("priorityclasses")}
    assert [(found[name]["value"], found[name]["description"]) for name in ("e1", "e2")] == [
        (1, "updated"), (2, "updated"),
    ]  # fmt: skip


def test_a_pod_that_never_preempts_waits(api: Api, namespace: str) -> None:
    fill(api, namespace)
    api.create({**priority_class("polite", 5000), "preemptionPolicy": "Never"})
    api.create(pod("polite", "polite", 3), namespace)
    stuck = api.wait_for("pods", "polite", lambda obj: condition(obj, "PodScheduled").get("message"), namespace)
    assert condition(stuck, "PodScheduled")["message"] == (
        f"0/2 nodes are available: 2 Insufficient {RESOURCE}. preemption: not eligible due to preemptionPolicy=Never."
    )
    api.delete("priorityclasses", "polite")


def test_a_budget_moves_preemption_to_another_node(api: Api, namespace: str) -> None:
    fill(api, namespace)
    api.create({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"},
                "spec": {"minAvailable": 1, "selector": {"matchLabels": {"name": "on-1"}}}}, namespace)  # fmt: skip
    api.wait_for("poddisruptionbudgets", "b", lambda obj: obj.get("status", {}).get("currentHealthy") == 1, namespace)
    api.create(pod("preemptor", "high", 3), namespace)
    assert api.wait_for("pods", "preemptor", "Ready", namespace)["spec"]["nodeName"] == "node-2"
