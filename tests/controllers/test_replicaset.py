"""A ReplicaSet has the pods it asks for: it makes, adopts, releases and deletes them in the right order."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pinnace.apis.resources import EVENTS, PODS, REPLICA_SETS, REPLICATION_CONTROLLERS
from pinnace.client.client import Client
from pinnace.client.informer import InformerFactory
from pinnace.controllers.pods import first_to_go
from pinnace.controllers.replicaset import ReplicaSetController
from pinnace.controllers.replicationcontroller import ReplicationControllerController
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, controller_of, name_of
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, kubelet, messages, report, running

KEY = "default/web"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def replica_set(replicas: int, **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}},
            **spec,
        },
    }


def status(api: FakeApi) -> dict[str, Any]:
    return (api.find(REPLICA_SETS, KEY) or {}).get("status") or {}


async def test_pods_are_made_owned_and_counted() -> None:
    api = FakeApi()
    async with running(api, ReplicaSetController), kubelet(api):
        await api.client.create(REPLICA_SETS, replica_set(5))
        await api.until(lambda: status(api).get("availableReplicas") == 5)
        assert status(api) == {
            "replicas": 5,
            "fullyLabeledReplicas": 5,
            "readyReplicas": 5,
            "availableReplicas": 5,
            "observedGeneration": 1,
        }
        pods = api.all(PODS)
        assert all(name_of(pod).startswith("web-") for pod in pods)
        assert all((controller_of(pod) or {})["blockOwnerDeletion"] for pod in pods)
        await api.until(lambda: len(messages(api, "SuccessfulCreate")) == 5)
        assert f"Created pod: {name_of(pods[0])}" in messages(api)


async def test_a_lost_pod_is_replaced_and_surplus_is_deleted_unready_first() -> None:
    api = FakeApi()
    async with running(api, ReplicaSetController), kubelet(api):
        await api.client.create(REPLICA_SETS, replica_set(3))
        await api.until(lambda: status(api).get("readyReplicas") == 3)
        lost = name_of(api.all(PODS)[0])
        await api.client.delete(PODS, lost, "default")
        await api.until(lambda: len(api.all(PODS)) == 3 and status(api).get("readyReplicas") == 3)
        weak = api.all(PODS)[1]
        await report(api, weak, ready=False)
        await api.client.patch(REPLICA_SETS, "web", {"spec": {"replicas": 2}}, "default")
        await api.until(lambda: len(api.all(PODS)) == 2)
        await api.until(lambda: messages(api, "SuccessfulDelete") == [f"Deleted pod: {name_of(weak)}"])


async def test_finished_pods_do_not_count() -> None:
    api = FakeApi()
    async with running(api, ReplicaSetController), kubelet(api):
        await api.client.create(REPLICA_SETS, replica_set(1))
        await api.until(lambda: status(api).get("readyReplicas") == 1)
        await report(api, api.all(PODS)[0], "Failed")
        await api.until(lambda: len(api.all(PODS)) == 2 and status(api).get("readyReplicas") == 1)


async def test_orphans_are_adopted_and_strangers_released() -> None:
    api = FakeApi()
    orphan = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "orphan", "namespace": "default", "labels": {"app": "web"}},
        "spec": {},
    }
    await api.client.create(PODS, orphan)
    async with running(api, ReplicaSetController), kubelet(api):
        await api.client.create(REPLICA_SETS, replica_set(2))
        await api.until(lambda: status(api).get("readyReplicas") == 2)
        assert len(api.all(PODS)) == 2
        adopted = api.find(PODS, "default/orphan")
        assert adopted is not None
        assert (controller_of(adopted) or {})["name"] == "web"
        await api.client.patch(PODS, "orphan", {"metadata": {"labels": {"app": "debug"}}}, "default")
        await api.until(lambda: len(api.all(PODS)) == 3)
        await api.until(lambda: controller_of(api.find(PODS, "default/orphan") or {"metadata": {}}) is None)


async def test_a_refused_template_costs_few_requests_and_is_told() -> None:
    api = FakeApi()
    refusal = ApiError(403, "Forbidden", 'pods "web-" is forbidden: exceeded quota')
    api.fail = lambda method, path, _: refusal if method == "POST" and path.endswith("/pods") else None
    async with running(api, ReplicaSetController):
        await api.client.create(REPLICA_SETS, replica_set(100))
        await api.until(lambda: conditions(api.find(REPLICA_SETS, KEY)))
        assert conditions(api.find(REPLICA_SETS, KEY)) == {"ReplicaFailure": ("True", "FailedCreate", refusal.message)}
        await api.until(lambda: messages(api, "FailedCreate"))
        assert messages(api, "FailedCreate") == [f"Error creating: {refusal.message}"]
        api.fail = lambda *_: None
        await api.until(lambda: len(api.all(PODS)) == 100)
        await api.until(lambda: not conditions(api.find(REPLICA_SETS, KEY)))


async def test_pods_become_available_after_min_ready_seconds() -> None:
    api = FakeApi()
    async with running(api, ReplicaSetController), kubelet(api):
        await api.client.create(REPLICA_SETS, replica_set(1, minReadySeconds=1))
        await api.until(lambda: status(api).get("readyReplicas") == 1)
        assert "availableReplicas" not in status(api)
        await api.until(lambda: status(api).get("availableReplicas") == 1)


async def test_no_pod_is_made_twice_while_the_cache_is_behind() -> None:
    api = FakeApi()
    async with running(api, ReplicaSetController) as (controller,):
        await api.client.create(REPLICA_SETS, replica_set(4))
        for _ in range(20):
            controller.queue.add(KEY)
            await api.client.patch(REPLICA_SETS, "web", {"metadata": {"labels": {"x": "y"}}}, "default")
        await api.until(lambda: status(api).get("replicas") == 4)
        made = [path for method, path in api.requests if method == "POST" and path.endswith("/pods")]
        assert len(made) == 4


async def test_replication_controllers_work_alike() -> None:
    api = FakeApi()
    owner = replica_set(2, selector={"app": "web"}) | {"apiVersion": "v1", "kind": "ReplicationController"}
    async with running(api, lambda *args: ReplicationControllerController(*args)), kubelet(api):
        await api.client.create(REPLICATION_CONTROLLERS, owner)
        await api.until(
            lambda: ((api.find(REPLICATION_CONTROLLERS, KEY) or {}).get("status") or {}).get("availableReplicas") == 2
        )
        owners = [controller_of(pod) or {} for pod in api.all(PODS)]
        assert {(one["apiVersion"], one["kind"]) for one in owners} == {("v1", "ReplicationController")}
        assert api.all(EVENTS)


def pod(
    name: str, *, node: str = "n1", phase: str = "Running", ready: str | None = "2025-12-31T23:00:00Z", **more: Any
) -> Obj:
    conditions: list[Obj] = [
        {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": ready or ""}
    ]
    return {
        "metadata": {
            "name": name,
            "uid": more.get("uid", "same"),
            "creationTimestamp": more.get("created", "2025-12-31T22:00:00Z"),
            "annotations": {"controller.kubernetes.io/pod-deletion-cost": more["cost"]} if "cost" in more else {},
        },
        "spec": {"nodeName": node},
        "status": {
            "phase": phase,
            "conditions": conditions,
            "containerStatuses": [{"restartCount": more.get("restarts", 0)}],
        },
    }


@pytest.mark.parametrize(
    ("goes", "stays"),
    [
        (pod("a", node=""), pod("b")),
        (pod("a", phase="Pending"), pod("b")),
        (pod("a", ready=None), pod("b")),
        (pod("a", cost="-1"), pod("b")),
        (pod("a"), pod("b", cost="5")),
        (pod("a", ready="2025-12-31T23:59:50Z"), pod("b")),
        (pod("a", restarts=3), pod("b")),
        (pod("a", created="2025-12-31T23:59:00Z"), pod("b")),
        (pod("a", uid="1", created="2025-12-31T22:00:01Z"), pod("b", uid="2")),  # about as old: chance decides
    ],
)
def test_the_order_of_deletion(goes: Obj, stays: Obj) -> None:
    for pods in ([goes, stays], [stays, goes]):
        assert [name_of(one) for one in first_to_go(pods, [], NOW)] == ["a", "b"]


def test_of_a_crowded_node_one_goes_first() -> None:
    alone, crowded = pod("b", node="n1"), pod("a", node="n2")
    assert name_of(first_to_go([alone, crowded], [alone, crowded, pod("c", node="n2")], NOW)[0]) == "a"


async def test_pods_on_their_way_out_are_counted_apart() -> None:
    api = FakeApi()

    def make(client: Client, informers: InformerFactory) -> ReplicaSetController:
        return ReplicaSetController(client, informers, counts_terminating=True)

    async with running(api, make), kubelet(api):
        held = replica_set(2)
        held["spec"]["template"]["metadata"]["finalizers"] = ["example.com/hold"]
        await api.client.create(REPLICA_SETS, held)
        await api.until(lambda: status(api).get("readyReplicas") == 2)
        assert status(api)["terminatingReplicas"] == 0
        gone = name_of(api.all(PODS)[0])
        await api.client.delete(PODS, gone, "default")
        await api.until(lambda: status(api).get("terminatingReplicas") == 1 and status(api).get("readyReplicas") == 2)
        assert status(api)["replicas"] == 2
        await api.client.patch(PODS, gone, {"metadata": {"finalizers": None}}, "default")
        await api.until(lambda: status(api)["terminatingReplicas"] == 0)
