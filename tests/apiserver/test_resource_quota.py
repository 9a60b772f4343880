"""What is made in a namespace is charged to its quotas and refused when there is no room."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pinnace.machinery.errors import ApiError
from tests.apiserver.conftest import Cluster, config_map, pod

NAMESPACE = "/api/v1/namespaces/default"


async def quota(cluster: Cluster, hard: dict[str, str], used: dict[str, str] | None = None, **spec: Any) -> None:
    """As it is when the quota controller has seen it."""
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    body["spec"] = {"hard": hard, **spec}
    made = await cluster.request("POST", f"{NAMESPACE}/resourcequotas", body)
    made = {**made, "status": {"hard": hard, "used": used if used is not None else dict.fromkeys(hard, "0")}}
    await cluster.request("PUT", f"{NAMESPACE}/resourcequotas/q/status", made)


async def used(cluster: Cluster) -> dict[str, str]:
    found = await cluster.request("GET", f"{NAMESPACE}/resourcequotas/q")
    return dict(found["status"]["used"])


async def test_the_last_place_is_given_once(cluster: Cluster) -> None:
    await quota(cluster, {"pods": "2"})
    posts = (cluster.request("POST", f"{NAMESPACE}/pods", pod(f"p{n}")) for n in range(6))
    results = await asyncio.gather(*posts, return_exceptions=True)
    refused = [result for result in results if isinstance(result, ApiError)]
    assert len(refused) == 4
    assert {error.code for error in refused} == {403}
    assert refused[0].message.endswith(
        "is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"
    )
    assert await used(cluster) == {"pods": "2"}


async def test_a_pod_must_state_what_is_limited(cluster: Cluster) -> None:
    await quota(cluster, {"limits.cpu": "1", "requests.memory": "1Gi"})
    refused = await cluster.refused("POST", f"{NAMESPACE}/pods", pod("a"))
    assert refused.message == (
        'pods "a" is forbidden: failed quota: q: must specify limits.cpu for: main; requests.memory for: main'
    )


async def test_a_dry_run_is_judged_and_not_charged(cluster: Cluster) -> None:
    await quota(cluster, {"configmaps": "1"})
    await cluster.request("POST", f"{NAMESPACE}/configmaps", config_map("a"), {"dryRun": "All"})
    assert await used(cluster) == {"configmaps": "0"}
    await cluster.request("POST", f"{NAMESPACE}/configmaps", config_map("a"))
    refused = await cluster.refused("POST", f"{NAMESPACE}/configmaps", config_map("b"), params={"dryRun": "All"})
    assert "exceeded quota: q, requested: configmaps=1, used: configmaps=1, limited: configmaps=1" in refused.message
    refused = await cluster.refused("POST", f"{NAMESPACE}/configmaps", config_map("a"))
    assert refused.code == 409, "what is there already was paid for"


async def test_a_quota_without_figures_admits_nothing(cluster: Cluster) -> None:
    await quota(cluster, {"secrets": "1"}, {})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    refused = await cluster.refused("POST", f"{NAMESPACE}/secrets", secret)
    assert refused.message == 'secrets "s" is forbidden: status unknown for quota: q, resources: secrets'


@pytest.mark.parametrize(("terminating", "code"), [(True, 403), (False, 201)])
async def test_scopes_choose_pods(cluster: Cluster, terminating: bool, code: int) -> None:
    await quota(cluster, {"pods": "0"}, scopes=["Terminating"])
    more = {"activeDeadlineSeconds": 5} if terminating else {}
    answer = await cluster.call("POST", f"{NAMESPACE}/pods", pod("a", **more))
    assert answer.status == code


async def test_an_update_is_charged_with_what_it_adds(cluster: Cluster) -> None:
    await quota(cluster, {"services.nodeports": "1", "services": "5"})
    ports = [{"name": "a", "port": 80}]
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": ports}}
    made = await cluster.request("POST", f"{NAMESPACE}/services", body)
    made = {**made, "spec": {**made["spec"], "type": "NodePort"}}
    made = await cluster.request("PUT", f"{NAMESPACE}/services/s", made)
    assert await used(cluster) == {"services": "1", "services.nodeports": "1"}
    ports = [*made["spec"]["ports"], {"name": "b", "port": 81}]
    refused = await cluster.refused(
        "PUT", f"{NAMESPACE}/services/s", {**made, "spec": {**made["spec"], "ports": ports}}
    )
    assert "requested: services.nodeports=1, used: services.nodeports=1" in refused.message
