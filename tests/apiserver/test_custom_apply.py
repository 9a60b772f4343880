"""Server-side apply of custom resources: by the list and map types of their schema, and by none where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import Cluster
from tests.apiserver.custom import (
    CRON_TABS,
    GROUP,
    SCALE,
    cron_tab,
    definition,
    established,
    version,
)
from tests.apiserver.test_apply import APPLY, MERGE, apply, managers, owned

_STRING = {"type": "string"}
_ITEM = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": _STRING, "port": {"type": "integer"}, "protocol": {**_STRING, "default": "TCP"}},
}
TYPES: Obj = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "properties": {
                "replicas": {"type": "integer"},
                "labels": {"type": "object", "additionalProperties": _STRING},
                "whole": {"type": "object", "additionalProperties": _STRING, "x-kubernetes-map-type": "atomic"},
                "list": {"type": "array", "items": _STRING},
                "set": {"type": "array", "items": _STRING, "x-kubernetes-list-type": "set"},
                "keyed": {
                    "type": "array",
                    "items": _ITEM,
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["name", "protocol"],
                },
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "embedded": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "x-kubernetes-preserve-unknown-fields": True,
                },
            },
        },
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
    },
}
OBJECT = f"{CRON_TABS}/a"


@pytest.fixture
async def typed(cluster: Cluster) -> Cluster:
    await established(cluster, definition(version(schema=TYPES, subresources={"status": {}, "scale": SCALE})))
    return cluster


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"replicas": 1}, [".spec.replicas"]),
        ({"labels": {"a": "b"}}, [".spec.labels.a"]),
        ({"whole": {"a": "b"}}, [".spec.whole"]),
        ({"list": ["a"]}, [".spec.list"]),
        ({"set": ["a"]}, ['.spec.set[="a"]']),
        ({"keyed": [{"name": "a", "port": 1}]}, [
            '.spec.keyed[name="a",protocol="TCP"]',
            '.spec.keyed[name="a",protocol="TCP"].name',
            '.spec.keyed[name="a",protocol="TCP"].port',
        ]),
        ({"free": {"a": {"b": [1]}}}, [".spec.free.a", ".spec.free.a.b"]),
        ({"embedded": {"apiVersion": "v1", "kind": "X", "metadata": {"labels": {"a": "b"}}, "data": {"c": 1}}}, [
            ".spec.embedded.apiVersion",
            ".spec.embedded.data",
            ".spec.embedded.data.c",
            ".spec.embedded.kind",
            ".spec.embedded.metadata.labels.a",
        ]),
    ],
)  # fmt: skip
async def test_ownership_is_by_the_types_of_the_schema(typed: Cluster, spec: Obj, fields: list[str]) -> None:
    answer = await apply(typed, OBJECT, cron_tab(spec=spec))
    assert answer.status == 201, answer.json
    assert owned(answer.json, "a") == fields
    assert (await apply(typed, OBJECT, cron_tab(spec=spec))).json == answer.json


async def test_managers_share_lists_and_maps(typed: Cluster) -> None:
    await apply(typed, OBJECT, cron_tab(spec={"set": ["a"], "free": {"x": 1}, "keyed": [{"name": "a", "port": 1}]}))
    mine = {"set": ["b"], "free": {"y": 2}, "keyed": [{"name": "b"}]}
    both = await apply(typed, OBJECT, cron_tab(spec=mine), "b")
    assert both.json["spec"] == {
        "set": ["a", "b"],
        "free": {"x": 1, "y": 2},
        "keyed": [{"name": "a", "port": 1, "protocol": "TCP"}, {"name": "b", "protocol": "TCP"}],
    }
    refused = await apply(typed, OBJECT, cron_tab(spec={"keyed": [{"name": "a", "port": 2}]}), "b")
    assert refused.json["message"] == (
        'Apply failed with 1 conflict: conflict with "a": .spec.keyed[name="a",protocol="TCP"].port'
    )
    gone = await apply(typed, OBJECT, cron_tab(spec={"replicas": 1}))
    assert gone.json["spec"] == {
        "replicas": 1,
        "set": ["b"],
        "free": {"y": 2},
        "keyed": [{"name": "b", "protocol": "TCP"}],
    }


async def test_creating_and_updating_are_tracked(typed: Cluster) -> None:
    made = await typed.call("POST", f"{CRON_TABS}?fieldManager=a", cron_tab(spec={"replicas": 1, "free": {"x": {}}}))
    assert owned(made.json, "a") == [".spec", ".spec.free", ".spec.free.x", ".spec.replicas"]
    patched = await typed.call(
        "PATCH", f"{OBJECT}?fieldManager=b", {"spec": {"replicas": 2, "free": {"x": 1}}}, content_type=MERGE
    )
    assert owned(patched.json, "b") == [".spec.free.x", ".spec.replicas"]


async def test_status_and_scale_have_managers_of_their_own(typed: Cluster) -> None:
    await apply(typed, OBJECT, cron_tab(spec={"replicas": 1}, status={"replicas": 9}))
    status = await apply(typed, f"{OBJECT}/status", cron_tab(status={"replicas": 1}, spec={"replicas": 7}), "ctl")
    assert (status.json["status"], status.json["spec"]) == ({"replicas": 1}, {"replicas": 1})
    assert owned(status.json, "ctl") == [".status.replicas"]
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "a"}, "spec": {"replicas": 4}}
    refused = await apply(typed, f"{OBJECT}/scale", scale, "hpa")
    assert refused.json["message"] == 'Apply failed with 1 conflict: conflict with "a": .spec.replicas'
    done = await apply(typed, f"{OBJECT}/scale", scale, "hpa", force="true")
    assert (done.status, done.json["spec"]) == (200, {"replicas": 4})
    obj = (await typed.call("GET", OBJECT)).json
    assert managers(obj) == [("ctl", "Apply", "status"), ("hpa", "Apply", "scale")]


async def test_what_the_schema_does_not_have_is_refused(typed: Cluster) -> None:
    """Conformance: "Server side field validation, unknown fields CR fails validation",
    "Server side field validation, unknown metadata" """
    embedded = {"apiVersion": "v1", "kind": "X", "metadata": {"unknownSubMeta": 1}}
    config = cron_tab(spec={"foo": 1, "keyed": [{"name": "a"}, {"name": "a"}], "embedded": embedded})
    config["metadata"]["unknownMeta"] = 1
    answer = await apply(typed, OBJECT, config)
    assert answer.status == 400
    assert answer.json["message"].split("\n") == [
        f"failed to create typed patch object (/a; {GROUP}/v1, Kind=CronTab): errors:",
        "  .metadata.unknownMeta: field not declared in schema",
        "  .spec.foo: field not declared in schema",
        '  .spec.keyed: duplicate entries for key [name="a",protocol="TCP"]',
        "  .spec.embedded.metadata.unknownSubMeta: field not declared in schema",
    ]


async def test_keys_given_twice_are_refused_also_where_any_field_is_taken(typed: Cluster) -> None:
    """Conformance: "Server side field validation, CR duplicates" """
    body = f"apiVersion: {GROUP}/v1\nkind: CronTab\nmetadata: {{name: a}}\nspec:\n  free:\n    x: 1\n    x: 2\n"
    refused = await apply(typed, OBJECT, body.encode(), fieldValidation="Strict")
    assert refused.status == 400
    assert "error strict decoding YAML: error converting YAML to JSON: yaml: " in refused.json["message"]
    assert 'line 7: key "x" already set in map' in refused.json["message"]
    warned = await apply(typed, OBJECT, body.encode())
    assert (warned.status, warned.json["spec"], len(warned.warnings)) == (201, {"free": {"x": 2}}, 1)


async def test_without_a_schema_every_field_is_taken(cluster: Cluster) -> None:
    """Conformance: "Server side field validation, unknown fields CR no validation schema",
    "Server side field validation, valid CR with validation schema" """
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    await established(cluster, definition(version(schema=schema)))
    config = cron_tab(spec={"a": [{"name": "x"}], "b": {"c": 1}})
    answer = await apply(cluster, OBJECT, config, fieldValidation="Strict")
    assert (answer.status, answer.json["spec"]) == (201, config["spec"])
    assert owned(answer.json, "a") == [".spec", ".spec.a", ".spec.b", ".spec.b.c"]


async def test_the_rules_of_the_schema_hold_for_what_is_applied(typed: Cluster) -> None:
    answer = await apply(typed, OBJECT, cron_tab(spec={"keyed": [{"protocol": "UDP"}]}))
    assert (answer.status, answer.json["reason"]) == (422, "Invalid")


async def test_versions_that_differ_in_name_share_their_managers(cluster: Cluster) -> None:
    await established(cluster, definition(version("v1", TYPES), version("v2", TYPES, storage=False)))
    await apply(cluster, OBJECT, cron_tab(spec={"replicas": 1, "set": ["a"]}))
    other = OBJECT.replace("/v1/", "/v2/")
    mine = cron_tab(api_version=f"{GROUP}/v2", spec={"replicas": 2})
    refused = await apply(cluster, other, mine, "b")
    assert refused.json["message"] == 'Apply failed with 1 conflict: conflict with "a": .spec.replicas'
    moved = await apply(cluster, other, mine)
    assert moved.json["spec"] == {"replicas": 2}
    assert [entry["apiVersion"] for entry in moved.json["metadata"]["managedFields"]] == [f"{GROUP}/v2"]


async def test_definitions_are_applied_and_reconciled(cluster: Cluster) -> None:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/crontabs.stable.example.com"
    assert (await apply(cluster, path, definition(version(schema=TYPES)))).status == 201
    again = await apply(cluster, path, definition(version(schema=TYPES)))
    assert again.status == 200, again.json
    found = managers(again.json)
    assert ("a", "Apply", "") in found
    assert all(manager == "kube-apiserver" for manager, _, subresource in found if subresource == "status")


async def test_deep_objects_are_no_trouble(typed: Cluster) -> None:
    deep: Any = 1
    for _ in range(230):
        deep = {"a": deep}
    for free in (deep, {"b": deep}, {"a": {"c": deep["a"]}}):
        answer = await apply(typed, OBJECT, cron_tab(spec={"free": free}))
        assert answer.status < 500, answer.json
        patch = {"spec": {"free": {"z": deep}}}
        answer = await typed.call("PATCH", OBJECT, patch, content_type=MERGE)
        assert answer.status < 500, answer.json
    answer = await typed.call("PATCH", f"{OBJECT}?fieldManager=x&force=true", {}, content_type=APPLY)
    assert answer.status == 400


@pytest.mark.parametrize("content_type", [APPLY, MERGE])
async def test_a_deprecated_version_warns_of_patches_too(cluster: Cluster, content_type: str) -> None:
    given = version(schema=TYPES, deprecated=True, deprecationWarning="v1 is old")
    await established(cluster, definition(given))
    await apply(cluster, OBJECT, cron_tab(spec={"replicas": 1}))
    path = f"{OBJECT}?fieldManager=a"
    answer = await cluster.call("PATCH", path, cron_tab(spec={"replicas": 2}), content_type=content_type)
    assert answer.warnings == ['299 - "v1 is old"']
