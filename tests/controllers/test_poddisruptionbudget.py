"""A PodDisruptionBudget says how many pods may be evicted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pinnace.apis.resources import DEPLOYMENTS, POD_DISRUPTION_BUDGETS, PODS
from pinnace.apiserver.server import ApiServer
from pinnace.client.client import Client
from pinnace.controllers.poddisruptionbudget import status_of
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, name_of
from tests.controllers.test_deployment import deployment
from tests.controllers.test_manager import managing, node_agent, until

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
