"""CustomResourceDefinitions and the objects they define, over the wire and over the loop-back path."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import Cluster

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
GROUP = "stable.example.com"
CRON_TABS = f"/apis/{GROUP}/v1/namespaces/default/crontabs"
MERGE = "application/merge-patch+json"

SPEC: Obj = {
    "type": "object",
    "properties": {
        "cronSpec": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){4}$"},
        "image": {"type": "string"},
        "replicas": {"type": "integer", "minimum": 1, "maximum": 10},
    },
}
SCHEMA: Obj = {
    "type": "object",
    "properties": {
        "spec": SPEC,
        "status": {
            "type": "object",
            "properties": {"replicas": {"type": "integer"}, "labelSelector": {"type": "string"}},
        },
    },
}


def version(name: str = "v1", schema: Obj = SCHEMA, *, storage: bool = True, served: bool = True, **more: Any) -> Obj:
    return {"name": name, "served": served, "storage": storage, "schema": {"openAPIV3Schema": schema}, **more}


def definition(*versions: Obj, plural: str = "crontabs", kind: str = "CronTab", **spec: Any) -> Obj:
    group = spec.pop("group", GROUP)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": list(versions) or [version()],
            **spec,
        },
    }


def cron_tab(name: str = "a", api_version: str = f"{GROUP}/v1", **fields: Any) -> Obj:
    return {"apiVersion": api_version, "kind": "CronTab", "metadata": {"name": name}, **fields}


def conditions(found: Obj) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in found["status"].get("conditions") or ()}


async def established(cluster: Cluster, given: Obj) -> Obj:
    """Create a definition and wait until it is served."""
    created = await cluster.call("POST", DEFINITIONS, given)
    assert created.status == 201, created.body
    return await until(
        cluster, given["metadata"]["name"], lambda found: conditions(found).get("Established", ("",))[0] == "True"
    )


async def until(cluster: Cluster, name: str, is_so: Any) -> Obj:
    """The definition, once it is as asked."""
    watch = await cluster.watch(f"{DEFINITIONS}?watch=1&fieldSelector=metadata.name%3D{name}")
    try:
        while True:
            event = await watch.next()
            assert event is not None
            if is_so(event["object"]):
                found: Obj = event["object"]
                return found
    finally:
        watch.close()


async def deleted(cluster: Cluster, name: str = f"crontabs.{GROUP}") -> None:
    """Delete a definition and wait until it is gone."""
    watch = await cluster.watch(f"{DEFINITIONS}?watch=1&fieldSelector=metadata.name%3D{name}")
    assert (await cluster.call("DELETE", f"{DEFINITIONS}/{name}")).status == 200
    while (event := await watch.next()) is not None and event["type"] != "DELETED":
        pass
    watch.close()


async def test_a_definition_is_established_and_serves_at_once(cluster: Cluster) -> None:
    """Conformance: "Custom Resource Definition, create"."""
    found = await established(cluster, definition())

    assert conditions(found) == {
        "NamesAccepted": ("True", "NoConflicts"),
        "Established": ("True", "InitialNamesAccepted"),
    }
    assert found["status"]["acceptedNames"] == {
        "plural": "crontabs",
        "singular": "crontab",
        "kind": "CronTab",
        "listKind": "CronTabList",
    }
    assert found["status"]["storedVersions"] == ["v1"]
    assert found["spec"]["conversion"] == {"strategy": "None"}

    made = await cluster.call("POST", CRON_TABS, cron_tab(spec={"cronSpec": "* * * * */5", "replicas": 3}))
    assert made.status == 201
    assert made.json["metadata"]["generation"] == 1
    listed = (await cluster.call("GET", f"/apis/{GROUP}/v1/crontabs")).json
    assert (listed["kind"], listed["apiVersion"]) == ("CronTabList", f"{GROUP}/v1")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["a"]

    await deleted(cluster)
    assert (await cluster.call("GET", f"/apis/{GROUP}/v1/crontabs")).status == 404
    assert (await cluster.call("GET", f"/apis/{GROUP}")).status == 404


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"replicas": "string"},
            'spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string"',
        ),
        (
            {"replicas": 15},
            "spec.replicas: Invalid value: 15: spec.replicas in body should be less than or equal to 10",
        ),
        ({"cronSpec": "*"}, 'spec.cronSpec: Invalid value: "*": spec.cronSpec in body should match'),
    ],
)
async def test_invalid_objects_are_refused_in_the_words_of_the_api(cluster: Cluster, spec: Obj, message: str) -> None:
    await established(cluster, definition())

    answer = await cluster.call("POST", CRON_TABS, cron_tab(spec=spec))

    assert answer.status == 422
    assert answer.json["message"].startswith(f'CronTab.{GROUP} "a" is invalid: {message}')


async def test_rules_in_cel_are_asked_on_create_and_update(cluster: Cluster) -> None:
    rules = [
        {"rule": "self.minReplicas <= self.replicas", "message": "replicas should be at least minReplicas."},
        {"rule": "self.replicas >= oldSelf.replicas", "messageExpression": "'was ' + string(oldSelf.replicas)"},
    ]
    integers = {"replicas": {"type": "integer"}, "minReplicas": {"type": "integer"}}
    spec = {"type": "object", "properties": integers, "required": ["replicas", "minReplicas"]}
    schema = {"type": "object", "properties": {"spec": {**spec, "x-kubernetes-validations": rules}}}
    await established(cluster, definition(version(schema=schema)))

    refused = await cluster.call("POST", CRON_TABS, cron_tab(spec={"replicas": 1, "minReplicas": 2}))
    made = await cluster.call("POST", CRON_TABS, cron_tab(spec={"replicas": 3, "minReplicas": 2}))
    smaller = await cluster.call("PATCH", f"{CRON_TABS}/a", {"spec": {"replicas": 2}}, content_type=MERGE)

    assert refused.status == 422
    assert refused.json["message"].endswith('spec: Invalid value: "object": replicas should be at least minReplicas.')
    assert made.status == 201
    assert smaller.json["message"].endswith('spec: Invalid value: "object": was 3')


async def test_rules_that_do_not_compile_are_refused(cluster: Cluster) -> None:
    rule = {"rule": "self.replics > 1"}
    spec = {"type": "object", "properties": {"replicas": {"type": "integer"}}, "x-kubernetes-validations": [rule]}

    answer = await cluster.call(
        "POST", DEFINITIONS, definition(version(schema={"type": "object", "properties": {"spec": spec}}))
    )

    assert answer.status == 422
    assert "undefined field 'replics'" in answer.json["message"]
    cause = answer.json["details"]["causes"][0]["field"]
    assert cause == "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"
