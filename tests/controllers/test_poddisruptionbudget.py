"""A PodDisruptionBudget says how many pods may be evicted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinnace.apis.builtin import NEWEST
from pinnace.apis.registry import Registry
from pinnace.apis.resources import CUSTOM_RESOURCE_DEFINITIONS, DEPLOYMENTS, POD_DISRUPTION_BUDGETS, PODS
from pinnace.apiserver.server import ApiServer
from pinnace.client.client import Client
from pinnace.client.informer import InformerFactory
from pinnace.controllers.poddisruptionbudget import DisruptionController, stale_in, status_of
from pinnace.controllers.served import ServedResources
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, format_time, name_of
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, messages, running
from tests.controllers.test_deployment import deployment
from tests.controllers.test_manager import managing, node_agent, until

KEY = "default/web"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def budget(**spec: Any) -> Obj:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
    }


def pods(ready: int, unready: int = 0) -> list[Obj]:
    states = ["True"] * ready + ["False"] * unready
    return [
        {"metadata": {"name": f"p{number}"}, "status": {"conditions": [{"type": "Ready", "status": state}]}}
        for number, state in enumerate(states)
    ]


@pytest.mark.parametrize(
    ("spec", "ready", "unready", "scale", "allowed", "desired", "expected"),
    [
        ({"minAvailable": 2}, 3, 0, 3, 1, 2, 3),
        ({"minAvailable": 2}, 2, 1, 3, 0, 2, 3),
        ({"minAvailable": 0}, 0, 0, 0, 0, 0, 0),
        ({"minAvailable": "50%"}, 3, 0, 3, 1, 2, 3),
        ({"maxUnavailable": 1}, 3, 0, 3, 1, 2, 3),
        ({"maxUnavailable": 1}, 3, 0, 5, 0, 4, 5),
        ({"maxUnavailable": "30%"}, 10, 0, 10, 3, 7, 10),
        ({"maxUnavailable": "34%"}, 3, 0, 3, 2, 1, 3),
    ],
)
def test_how_many_may_go(
    spec: Obj, ready: int, unready: int, scale: int, allowed: int, desired: int, expected: int
) -> None:
    status = status_of(budget(**spec), pods(ready, unready), {"owner": scale}, NOW)
    counts = (status["disruptionsAllowed"], status["desiredHealthy"], status["expectedPods"], status["currentHealthy"])
    assert counts == (allowed, desired, expected, ready)
    assert status["conditions"][0]["reason"] == ("SufficientPods" if allowed else "InsufficientPods")


def test_an_evicted_pod_counts_as_gone_for_a_while() -> None:
    owner = budget(minAvailable=1)
    disrupted = {"p0": "2025-12-31T23:59:00Z", "p1": "2025-12-31T23:00:00Z", "x": "2026-01-01T00:00:00Z"}
    owner["status"] = {"disruptedPods": disrupted}
    status = status_of(owner, pods(3), {}, NOW)
    assert status["disruptedPods"] == {"p0": "2025-12-31T23:59:00Z"}
    assert (status["currentHealthy"], status["disruptionsAllowed"]) == (2, 1)


def mark(status: str = "True", seconds_ago: float = 0) -> Obj:
    since = format_time(NOW - timedelta(seconds=seconds_ago))
    return {"type": "DisruptionTarget", "status": status, "lastTransitionTime": since}


@pytest.mark.parametrize(
    ("metadata", "phase", "conditions", "left"),
    [
        ({}, "Running", [mark(seconds_ago=30)], 90),
        ({}, "Running", [mark(seconds_ago=121)], -1),
        ({}, "Running", [mark("False", 30)], None),
        ({}, "Running", [], None),
        ({}, "Failed", [mark(seconds_ago=30)], None),
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, "Running", [mark(seconds_ago=30)], None),
    ],
)
def test_a_disruption_that_did_not_come_goes_stale(
    metadata: Obj, phase: str, conditions: list[Obj], left: float | None
) -> None:
    pod = {"metadata": {"name": "p", **metadata}, "status": {"phase": phase, "conditions": conditions}}
    assert stale_in(pod, NOW) == left


def owned_pod(name: str, kind: str, version: str, uid: str = "u") -> Obj:
    owner = {"apiVersion": version, "kind": kind, "name": "x", "uid": uid, "controller": True}
    metadata: Obj = {"name": name, "namespace": "default", "labels": {"app": "web"}}
    if kind:
        metadata["ownerReferences"] = [owner]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {}}


def make(client: Client, informers: InformerFactory) -> DisruptionController:
    return DisruptionController(client, informers, ServedResources(Registry(NEWEST), informers))


@pytest.mark.parametrize(
    ("kind", "version", "why"),
    [
        ("Job", "batch/v1", "jobs.batch does not implement the scale subresource"),
        ("Node", "v1", "nodes does not implement the scale subresource"),
        ("Gone", "example.com/v1", 'no matches for kind "Gone" in version "example.com/v1"'),
        ("ReplicaSet", "apps/v1", 'found no controllers for pod "p"'),
    ],
)
async def test_nothing_may_go_while_the_pods_cannot_be_counted(kind: str, version: str, why: str) -> None:
    api = FakeApi()
    missing = ApiError(404, "NotFound", "the server could not find the requested resource")
    api.fail = lambda _, path, __: missing if path.endswith("/scale") else None
    await api.client.create(PODS, owned_pod("p", kind, version))
    await api.client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable=1))
    async with running(api, make):
        await api.until(lambda: conditions(api.find(POD_DISRUPTION_BUDGETS, KEY)))
        assert conditions(api.find(POD_DISRUPTION_BUDGETS, KEY))["DisruptionAllowed"] == ("False", "SyncFailed", why)
        said = f"Failed to calculate the number of expected pods: {why}"
        await api.until(lambda: messages(api, "CalculateExpectedPodCountFailed") == [said])
        await api.client.patch(POD_DISRUPTION_BUDGETS, "web", {"spec": {"maxUnavailable": None}}, "default")
        await api.client.patch(POD_DISRUPTION_BUDGETS, "web", {"spec": {"minAvailable": 0}}, "default")

        def reckoned() -> bool:
            found = conditions(api.find(POD_DISRUPTION_BUDGETS, KEY))["DisruptionAllowed"]
            return found == ("False", "InsufficientPods", "")

        await api.until(reckoned)


async def test_the_owner_is_asked_for_its_scale_whatever_its_kind() -> None:
    api = FakeApi()
    definition: Obj = {
        "metadata": {"name": "databases.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "databases", "kind": "Database"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True}],
        },
        "status": {"conditions": [{"type": "Established", "status": "True"}]},
    }
    await api.client.create(CUSTOM_RESOURCE_DEFINITIONS, definition)
    databases = GVR("example.com", "v1", "databases")
    made = await api.client.create(
        databases, {"kind": "Database", "metadata": {"name": "x", "namespace": "default"}, "spec": {"replicas": 5}}
    )
    for name in ("p", "q"):
        pod = owned_pod(name, "Database", "example.com/v1", made["metadata"]["uid"])
        await api.client.create(PODS, pod)
    await api.client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable="20%"))
    async with running(api, make):

        def reckoned() -> bool:
            status = (api.find(POD_DISRUPTION_BUDGETS, KEY) or {}).get("status") or {}
            return (status.get("expectedPods"), status.get("desiredHealthy")) == (5, 4)

        await api.until(reckoned)


async def test_pods_of_nobody_are_told_of() -> None:
    api = FakeApi()
    async with running(api, make):
        await api.client.create(POD_DISRUPTION_BUDGETS, budget(minAvailable="50%"))
        await api.until(lambda: messages(api, "NoPods") == ["No matching pods found"])
        await api.client.create(PODS, owned_pod("p", "", ""))
        await api.until(lambda: messages(api, "UnmanagedPods"))
        (said,) = messages(api, "UnmanagedPods")
        assert "(selector: &LabelSelector{MatchLabels:map[string]string{app: web,}," in said
        assert said.endswith('please set ".spec.minAvailable" field of the PDB to an integer value.')


async def test_the_mark_is_taken_from_a_pod_that_was_spared(server: ApiServer, client: Client) -> None:
    async with managing(server):
        pod = {"metadata": {"name": "p", "namespace": "default"}, "spec": {"containers": [{"name": "c", "image": "c"}]}}
        made = await client.create(PODS, {"apiVersion": "v1", "kind": "Pod", **pod})
        old = {**mark(), "lastTransitionTime": "2025-01-01T00:00:00Z", "reason": "EvictionByEvictionAPI"}
        await client.update_status(PODS, {**made, "status": {**made["status"], "conditions": [old]}})

        def spared(found: list[Obj]) -> bool:
            return any(is_false(pod) for pod in found)

        def is_false(pod: Obj) -> bool:
            return conditions(pod).get("DisruptionTarget", ("", "", ""))[0] == "False"

        await until(client, PODS, spared)


async def test_a_budget_follows_a_deployment(server: ApiServer, client: Client) -> None:
    async with managing(server), node_agent(client):
        await client.create(POD_DISRUPTION_BUDGETS, budget(maxUnavailable=1))
        await client.create(DEPLOYMENTS, deployment())

        def allowed(found: list[Obj]) -> bool:
            status = found[0].get("status") or {}
            return (status.get("disruptionsAllowed"), status.get("expectedPods")) == (1, 3)

        await until(client, POD_DISRUPTION_BUDGETS, allowed)
        await client.patch(POD_DISRUPTION_BUDGETS, "web", {"spec": {"maxUnavailable": 0}}, "default")
        await until(client, POD_DISRUPTION_BUDGETS, lambda found: found[0]["status"]["desiredHealthy"] == 3)
        name = name_of((await client.list(PODS, "default"))["items"][0])
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        with pytest.raises(ApiError) as refused:
            await client.create(PODS, eviction, "default", name=name, subresource="eviction")
        assert refused.value.code == 429
        assert refused.value.message == "Cannot evict pod as it would violate the pod's disruption budget."
        assert (refused.value.details or {})["causes"] == [
            {
                "reason": "DisruptionBudget",
                "message": "The disruption budget web needs 3 healthy pods and has 3 currently",
            }
        ]
        await client.patch(POD_DISRUPTION_BUDGETS, "web", {"spec": {"maxUnavailable": 1}}, "default")
        await until(client, POD_DISRUPTION_BUDGETS, allowed)
        await client.create(PODS, eviction, "default", name=name, subresource="eviction")
        await until(client, PODS, lambda found: name not in map(name_of, found))
