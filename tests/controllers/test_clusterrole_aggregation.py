"""An aggregating ClusterRole shows the rules of those it selects, and follows them."""

from __future__ import annotations

from typing import Any

from pinnace.apis.resources import CLUSTER_ROLES
from pinnace.controllers.clusterrole_aggregation import ClusterRoleAggregationController, aggregated
from pinnace.machinery.meta import Obj
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import running

LABEL = "example.com/aggregate-to-ops"


def role(name: str, *verbs: str, labelled: bool = True, **more: Any) -> Obj:
    rules = [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]} for verb in verbs]
    labels = {LABEL: "true"} if labelled else {}
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole"}
    return {**kind, "metadata": {"name": name, "labels": labels}, "rules": rules, **more}


OPS = role("ops", aggregationRule={"clusterRoleSelectors": [{"matchLabels": {LABEL: "true"}}]})


def verbs(found: Obj | None) -> list[str]:
    return [rule["verbs"][0] for rule in (found or {}).get("rules") or ()]


def test_rules_are_joined_by_name_each_once_and_never_ones_own() -> None:
    others = [role("b", "get", "list"), role("a", "get"), role("c", "delete", labelled=False), role("ops", "watch")]

    assert verbs({"rules": aggregated(OPS, others)}) == ["get", "list"]


async def test_the_role_follows_those_it_selects() -> None:
    api = FakeApi()
    await api.client.create(CLUSTER_ROLES, OPS)
    async with running(api, ClusterRoleAggregationController):
        made = await api.client.create(CLUSTER_ROLES, role("a", "get"))
        await api.until(lambda: verbs(api.find(CLUSTER_ROLES, "ops")) == ["get"])
        await api.client.update(CLUSTER_ROLES, {**made, "rules": role("a", "list")["rules"]})
        await api.until(lambda: verbs(api.find(CLUSTER_ROLES, "ops")) == ["list"])
        await api.client.delete(CLUSTER_ROLES, "a")
        await api.until(lambda: verbs(api.find(CLUSTER_ROLES, "ops")) == [])
