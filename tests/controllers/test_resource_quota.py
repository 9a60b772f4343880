"""A ResourceQuota says what its namespace uses."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pinnace.apis.resources import PODS, RESOURCE_QUOTAS, SECRETS
from pinnace.apiserver.server import ApiServer
from pinnace.client.client import Client
from pinnace.controllers.resource_quota import status_of
from pinnace.machinery.meta import Obj, name_of
from tests.controllers.test_manager import managing, until

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def quota(hard: dict[str, str], **spec: Any) -> Obj:
    meta = {"name": "q", "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard, **spec}}


def pod(name: str, cpu: str = "100m") -> Obj:
    container = {"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}


def test_what_is_used_is_the_sum_of_what_is_there() -> None:
    hard = {"pods": "5", "requests.cpu": "2", "secrets": "1", "count/nothing.example.com": "1"}
    found = [(("", "pods"), [pod("a"), pod("b", "1")]), (("", "secrets"), [])]
    status = status_of(quota(hard), found, NOW)
    assert status == {"hard": hard, "used": {"pods": "2", "requests.cpu": "1100m", "secrets": "0"}}


def test_what_is_out_of_scope_is_not_used() -> None:
    status = status_of(quota({"pods": "5"}, scopes=["BestEffort"]), [(("", "pods"), [pod("a")])], NOW)
    assert status["used"] == {"pods": "0"}


async def test_a_quota_follows_what_comes_and_goes(server: ApiServer, client: Client) -> None:
    """Conformance: "ResourceQuota, object count quota, pod" """
    async with managing(server):
        await client.create(RESOURCE_QUOTAS, quota({"pods": "2", "requests.cpu": "1", "count/secrets": "3"}))

        def shows(pods: str, cpu: str, secrets: str) -> Any:
            wanted = {"pods": pods, "requests.cpu": cpu, "count/secrets": secrets}
            return lambda found: (found[0].get("status") or {}).get("used") == wanted

        await until(client, RESOURCE_QUOTAS, shows("0", "0", "0"))
        await client.create(PODS, pod("a"))
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "default"}}
        await client.create(SECRETS, secret)
        await until(client, RESOURCE_QUOTAS, shows("1", "100m", "1"))
        await client.delete(SECRETS, "s", "default")
        await until(client, RESOURCE_QUOTAS, shows("1", "100m", "0"))
        await client.delete(PODS, "a", "default", grace_period_seconds=0)
        await until(client, PODS, lambda found: "a" not in map(name_of, found))
        await until(client, RESOURCE_QUOTAS, shows("0", "0", "0"))


async def test_a_changed_quota_is_counted_again(server: ApiServer, client: Client) -> None:
    """Conformance: "ResourceQuota, update and delete" """
    async with managing(server):
        await client.create(RESOURCE_QUOTAS, quota({"pods": "2"}))
        await until(client, RESOURCE_QUOTAS, lambda found: "used" in (found[0].get("status") or {}))
        await client.patch(RESOURCE_QUOTAS, "q", {"spec": {"hard": {"pods": "5", "configmaps": "9"}}}, "default")
        hard = {"pods": "5", "configmaps": "9"}
        await until(client, RESOURCE_QUOTAS, lambda found: found[0]["status"]["hard"] == hard)
