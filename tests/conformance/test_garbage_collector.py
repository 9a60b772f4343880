"""What becomes of dependents when their owner is deleted, by every propagation policy."""

from __future__ import annotations

from typing import Any

from pinnace.testing import Api
from tests.conformance.samples import template


def controller(name: str, replicas: int) -> dict[str, Any]:
    spec = {"replicas": replicas, "selector": {"rc": name}, "template": template(rc=name)}
    return {"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": name}, "spec": spec}


def deployment(name: str) -> dict[str, Any]:
    labels = {"app": name}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template(**labels)}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def owner(obj: dict[str, Any], *, blocks: bool = False) -> dict[str, Any]:
    reference = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "name": obj["metadata"]["name"]}
    return {**reference, "uid": obj["metadata"]["uid"], **({"blockOwnerDeletion": True} if blocks else {})}


def pods(api: Api, namespace: str) -> list[dict[str, Any]]:
    return api.list("pods", namespace)


def started(api: Api, namespace: str, count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.wait_until(lambda: found if len(found := pods(api, namespace)) == count else None)
    return found


def settled(api: Api, namespace: str) -> None:
    """Wait until the collector has dealt with all that came before: it collects an orphan made now."""
    missing = {"apiVersion": "v1", "kind": "ConfigMap", "name": "never", "uid": "00000000-0000-0000-0000-000000000000"}
    metadata = {"name": "canary", "ownerReferences": [missing]}
    api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}, namespace)
    api.wait_gone("configmaps", "canary", namespace)


def test_the_background_takes_the_pods_of_a_replication_controller(api: Api, namespace: str) -> None:
    """Conformance: "Garbage Collector, delete replication controller, propagation policy background" """
    api.create(controller("simple", 2), namespace)
    started(api, namespace, 2)
    api.delete("rc", "simple", namespace, propagation="Background")
    api.wait_gone("rc", "simple", namespace)
    api.wait_until(lambda: not pods(api, namespace))


def test_orphans_of_a_replication_controller_stay(api: Api, namespace: str) -> None:
    """Conformance: "Garbage Collector, delete replication controller, propagation policy orphan" """
    api.create(controller("simple", 10), namespace)
    started(api, namespace, 10)
    api.delete("rc", "simple", namespace, propagation="Orphan")
    api.wait_gone("rc", "simple", namespace)
    settled(api, namespace)
    found = pods(api, namespace)
    assert len(found) == 10
    assert not any(pod["metadata"].get("ownerReferences") for pod in found)


def test_the_background_takes_a_deployments_replica_sets_and_pods(api: Api, namespace: str) -> None:
    """Conformance: "Garbage Collector, delete deployment,  propagation policy background" """
    api.create(deployment("simple"), namespace)
    started(api, namespace, 2)
    api.delete("deploy", "simple", namespace, propagation="Background")
    api.wait_until(lambda: not api.list("replicasets", namespace) and not pods(api, namespace))


def test_orphans_of_a_deployment_stay(api: Api, namespace: str) -> None:
    """Conformance: "Garbage Collector, delete deployment, propagation policy orphan" """
    api.create(deployment("simple"), namespace)
    started(api, namespace, 2)
    api.delete("deploy", "simple", namespace, propagation="Orphan")
    api.wait_gone("deploy", "simple", namespace)
    settled(api, namespace)
    [replica_set] = api.list("replicasets", namespace)
    assert not replica_set["metadata"].get("ownerReferences")
    assert len(pods(api, namespace)) == 2


def test_in_the_foreground_the_owner_goes_last(api: Api, namespace: str) -> None:
    """Conformance: "Garbage Collector, delete replication controller, after owned pods" """
    api.create(controller("simple", 10), namespace)
    held = started(api, namespace, 10)[0]["metadata"]["name"]
    api.patch("pods", held, {"metadata": {"finalizers": ["example.com/hold"]}}, namespace)
    api.delete("rc", "simple", namespace, propagation="Foreground")
    api.wait_until(lambda: [pod["metadata"]["name"] for pod in pods(api, namespace)] == [held])
    settled(api, namespace)
    waiting = api.get("rc", "simple", namespace)["metadata"]
    assert "foregroundDeletion" in waiting["finalizers"]
    assert waiting["deletionTimestamp"]
    api.patch("pods", held, {"metadata": {"finalizers": None}}, namespace)
    api.wait_gone("rc", "simple", namespace)
    assert pods(api, namespace) == []


def test_a_dependent_with_another_owner_stays(api: Api, namespace: str) -> None:
    """Conformance: "Garbage Collector, multiple owners" """
    api.create(controller("deleted", 10), namespace)
    kept = api.create(controller("stays", 0), namespace)
    found = started(api, namespace, 10)
    shared = {pod["metadata"]["name"] for pod in found[:5]}
    for pod in found[:5]:
        owners = [*pod["metadata"]["ownerReferences"], owner(kept)]
        api.patch("pods", pod["metadata"]["name"], {"metadata": {"ownerReferences": owners}}, namespace)
    api.delete("rc", "deleted", namespace, propagation="Foreground")
    api.wait_gone("rc", "deleted", namespace)
    left = pods(api, namespace)
    assert {pod["metadata"]["name"] for pod in left} == shared
    assert not any("deletionTimestamp" in pod["metadata"] for pod in left)


def test_a_circle_of_owners_is_no_obstacle(api: Api, namespace: str) -> None:
    """Conformance: "Garbage Collector, dependency cycle" """
    body = {"apiVersion": "v1", "kind": "Pod", "spec": template()["spec"]}
    made = [api.create({**body, "metadata": {"name": f"pod{number}"}}, namespace) for number in (1, 2, 3)]
    for pod, its_owner in zip(made, (made[2], made[0], made[1]), strict=True):
        patch = {"metadata": {"ownerReferences": [owner(its_owner, blocks=True)]}}
        api.patch("pods", pod["metadata"]["name"], patch, namespace)
    api.delete("pods", "pod1", namespace, propagation="Foreground")
    api.wait_until(lambda: not pods(api, namespace))
