"""Admission webhooks and custom resources, and configurations that change while they are in use."""

from __future__ import annotations

import pytest

from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import Cluster, config_map
from tests.apiserver.custom import DEFINITIONS, definition, established, version
from tests.apiserver.hooks import CONFIGURATIONS, Hooks, add, allow, register

MAPS = "/api/v1/namespaces/default/configmaps"
GROUP = "stable.example.com"
TABS = f"/apis/{GROUP}/v1/namespaces/default/crontabs"
MERGE = "application/merge-patch+json"
DATA: Obj = {"type": "object", "additionalProperties": {"type": "string"}}
OPEN: Obj = {"type": "object", "properties": {"data": DATA}}


def tab(name: str, api_version: str = f"{GROUP}/v1", **data: str) -> Obj:
    return {"apiVersion": api_version, "kind": "CronTab", "metadata": {"name": name}, "data": data}


async def test_custom_resources_can_be_denied(cluster: Cluster, hooks: Hooks) -> None:
    """Conformance: "Admission webhook, deny custom resource create and delete"."""
    await established(cluster, definition(version(schema=OPEN)))
    hooks.answers["/guard"] = lambda review: {
        "allowed": not any(
            (review.get(each) or {}).get("data", {}).get("webhook-e2e-test") == "webhook-disallow"
            for each in ("object", "oldObject")
        ),
        "status": {"message": "the custom resource contains unwanted data"},
    }
    await cluster.request("POST", TABS, tab("old"))
    await register(cluster, "Validating", "guard", hooks.webhook("guard", "/guard", "crontabs"))
    bad = {"webhook-e2e-test": "webhook-disallow"}

    created = await cluster.refused("POST", TABS, tab("new", **bad))
    changed = await cluster.refused("PATCH", f"{TABS}/old", {"data": bad}, content_type=MERGE)
    assert "the custom resource contains unwanted data" in created.message
    assert "the custom resource contains unwanted data" in changed.message

    hooks.answers["/guard"] = lambda review: {"allowed": review["operation"] != "DELETE"}
    assert "denied the request" in (await cluster.refused("DELETE", f"{TABS}/old")).message
    hooks.answers["/guard"] = allow
    await cluster.request("DELETE", f"{TABS}/old")


async def test_definitions_can_be_denied(cluster: Cluster, hooks: Hooks) -> None:
    """Conformance: "Admission webhook, deny custom resource definition"."""
    hooks.answers["/crd"] = lambda _: {
        "allowed": False,
        "status": {"message": "the crd contains unwanted label"},
    }
    await register(cluster, "Validating", "crd", hooks.webhook("crd", "/crd", "customresourcedefinitions"))

    error = await cluster.refused("POST", DEFINITIONS, definition())

    assert error.message == 'admission webhook "crd.example.com" denied the request: the crd contains unwanted label'
    assert hooks.asked[0][1]["kind"] == {
        "group": "apiextensions.k8s.io",
        "version": "v1",
        "kind": "CustomResourceDefinition",
    }


async def test_custom_resources_are_changed_in_stages(cluster: Cluster, hooks: Hooks) -> None:
    """Conformance: "Admission webhook, mutate custom resource"."""
    await established(cluster, definition(version(schema=OPEN)))
    hooks.answers["/1"], hooks.answers["/2"] = add("mutation-stage-1", "yes"), add("mutation-stage-2", "yes")
    await register(
        cluster, "Mutating", "cr", hooks.webhook("one", "/1", "crontabs"), hooks.webhook("two", "/2", "crontabs")
    )

    made = await cluster.request("POST", TABS, tab("a", start="yes"))

    assert made["data"] == {"start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"}


async def test_what_a_webhook_adds_to_a_custom_resource_is_pruned(cluster: Cluster, hooks: Hooks) -> None:
    """Conformance: "Admission webhook, mutate custom resource with pruning"."""
    keys = {"mutation-start": {"type": "string"}, "mutation-stage-1": {"type": "string"}}
    schema = {"type": "object", "properties": {"data": {"type": "object", "properties": keys}}}
    await established(cluster, definition(version(schema=schema)))
    hooks.answers["/1"], hooks.answers["/2"] = add("mutation-stage-1", "yes"), add("mutation-stage-2", "yes")
    await register(
        cluster, "Mutating", "cr", hooks.webhook("one", "/1", "crontabs"), hooks.webhook("two", "/2", "crontabs")
    )

    made = await cluster.request("POST", TABS, tab("a", **{"mutation-start": "yes"}))

    assert made["data"] == {"mutation-start": "yes", "mutation-stage-1": "yes"}


async def test_objects_stored_in_an_older_version_are_changed_too(cluster: Cluster, hooks: Hooks) -> None:
    """Conformance: "Admission webhook, mutate custom resource with different stored version"."""
    both = [version("v1", OPEN), version("v2", OPEN, storage=False)]
    made = await established(cluster, definition(*both))
    hooks.answers["/1"] = add("mutation-stage-1", "yes")
    await register(cluster, "Mutating", "cr", hooks.webhook("one", "/1", "crontabs"))
    await cluster.request("POST", TABS, tab("a", start="yes"))

    swapped = [version("v1", OPEN, storage=False), version("v2", OPEN)]
    path = f"{DEFINITIONS}/{made['metadata']['name']}"
    await cluster.request("PATCH", path, {"spec": {"versions": swapped}}, content_type=MERGE)
    await cluster.request("PATCH", f"{TABS}/a", {"data": {"other": "x"}}, content_type=MERGE)

    found = await cluster.request("GET", f"/apis/{GROUP}/v2/namespaces/default/crontabs/a")
    assert found["data"] == {"start": "yes", "mutation-stage-1": "yes", "other": "x"}


@pytest.mark.parametrize("kind", ["Mutating", "Validating"])
async def test_a_configuration_that_changes_counts_at_once(cluster: Cluster, hooks: Hooks, kind: str) -> None:
    """Conformance: "Admission webhook, update mutating webhook", "Admission webhook, update validating webhook"."""
    hooks.answers["/x"] = add("x", "y") if kind == "Mutating" else lambda _: {"allowed": False}
    await register(cluster, kind, "x", hooks.webhook("x", "/x"))
    path = f"{CONFIGURATIONS}/{kind.lower()}webhookconfigurations/x"

    async def effect(name: str) -> bool:
        answer = await cluster.call("POST", MAPS, config_map(name, a="b"))
        return answer.status != 201 or "x" in answer.json["data"]

    assert await effect("a")
    stored = await cluster.request("GET", path)
    changed = {**stored, "webhooks": [hooks.webhook("x", "/x")]}
    changed["webhooks"][0]["rules"][0]["operations"] = ["UPDATE"]
    await cluster.request("PUT", path, changed)
    assert not await effect("b")
    patch = [{"op": "replace", "path": "/webhooks/0/rules/0/operations", "value": ["CREATE"]}]
    await cluster.request("PATCH", path, patch, content_type="application/json-patch+json")
    assert await effect("c")
