"""Custom resources as a real `kubectl` sees them: published schemas, validation, explain, columns, scale."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import Cluster
from tests.apiserver.custom import (
    DEFINITIONS,
    GROUP,
    SCALE,
    SCHEMA,
    cron_tab,
    definition,
    deleted,
    established,
    version,
)
from tests.apiserver.test_kubectl import KUBECTL, kubeconfig, kubectl

__all__ = ["kubeconfig"]

needs_kubectl = pytest.mark.skipif(not KUBECTL, reason="needs kubectl")

MODEL = "com.example.stable.v1.CronTab"
DESCRIBED: Obj = {
    "type": "object",
    "description": "CronTab runs a command.",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "description": "What to run.",
            "required": ["image"],
            "properties": {
                "image": {"type": "string", "description": "The image."},
                "port": {"x-kubernetes-int-or-string": True},
                "note": {"type": "string", "nullable": True},
                "jobs": {
                    "type": "array",
                    "description": "The jobs.",
                    "items": {"type": "object", "properties": {"name": {"type": "string", "description": "Its name."}}},
                },
            },
        }
    },
}


async def v2(cluster: Cluster) -> Obj:
    answer = await cluster.call("GET", "/openapi/v2", headers={"Accept": "application/json"})
    found: Obj = answer.json
    return found


async def v3(cluster: Cluster, group_version: str) -> Obj | None:
    index = (await cluster.call("GET", "/openapi/v3")).json["paths"]
    entry = index.get(f"apis/{group_version}")
    if entry is None:
        return None
    found: Obj = (await cluster.call("GET", entry["serverRelativeURL"])).json
    return found


async def test_schemas_are_published_at_once(cluster: Cluster) -> None:
    """Conformance: "Custom Resource OpenAPI Publish, with validation schema"."""
    before = (await cluster.call("GET", "/openapi/v2", headers={"Accept": "application/json"})).headers["etag"]
    await established(cluster, definition(version(schema=DESCRIBED)))

    document = await v2(cluster)
    model = document["definitions"][MODEL]
    assert model["properties"]["spec"]["properties"]["image"] == {"type": "string", "description": "The image."}
    assert model["properties"]["spec"]["properties"]["port"] == {"x-kubernetes-int-or-string": True}
    assert model["properties"]["metadata"]["$ref"] == "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    assert model["x-kubernetes-group-version-kind"] == [{"group": GROUP, "version": "v1", "kind": "CronTab"}]
    assert document["definitions"][f"{MODEL}List"]["required"] == ["items"]
    operation = document["paths"][f"/apis/{GROUP}/v1/namespaces/{{namespace}}/crontabs/{{name}}"]["get"]
    assert operation["operationId"] == "readStableExampleComV1NamespacedCronTab"
    assert "/api/v1/namespaces/{namespace}/pods" in document["paths"]
    after = (await cluster.call("GET", "/openapi/v2", headers={"Accept": "application/json"})).headers["etag"]
    assert after != before

    third = await v3(cluster, f"{GROUP}/v1")
    assert third is not None
    model = third["components"]["schemas"][MODEL]
    assert model["properties"]["spec"]["properties"]["note"] == {"type": "string", "nullable": True}
    assert "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta" in third["components"]["schemas"]

    await deleted(cluster)
    assert MODEL not in (await v2(cluster))["definitions"]
    assert await v3(cluster, f"{GROUP}/v1") is None
    assert (await cluster.call("GET", "/openapi/v2", headers={"Accept": "application/json"})).headers["etag"] == before


async def test_every_group_version_and_kind_is_published(cluster: Cluster) -> None:
    """Conformance: "Custom Resource OpenAPI Publish, varying groups",
    "Custom Resource OpenAPI Publish, varying versions", "Custom Resource OpenAPI Publish, varying kinds"."""
    await established(cluster, definition(version(), version("v2", DESCRIBED, storage=False)))
    await established(cluster, definition(plural="others", kind="Other"))
    await established(cluster, definition(group="other.example.com"))

    definitions = (await v2(cluster))["definitions"]

    for name in ("stable.v1.CronTab", "stable.v2.CronTab", "stable.v1.Other", "other.v1.CronTab"):
        assert f"com.example.{name}" in definitions


async def test_a_version_that_is_renamed_or_not_served_is_published_so(cluster: Cluster) -> None:
    """Conformance: "Custom Resource OpenAPI Publish, version rename",
    "Custom Resource OpenAPI Publish, stop serving version"."""
    await established(cluster, definition(version(), version("v2", DESCRIBED, storage=False)))
    path = f"{DEFINITIONS}/crontabs.{GROUP}"

    renamed = [{"op": "replace", "path": "/spec/versions/1/name", "value": "v4"}]
    await cluster.call("PATCH", path, renamed, content_type="application/json-patch+json")
    definitions = (await v2(cluster))["definitions"]
    assert "com.example.stable.v2.CronTab" not in definitions
    assert "com.example.stable.v4.CronTab" in definitions

    unserved = [{"op": "replace", "path": "/spec/versions/1/served", "value": False}]
    await cluster.call("PATCH", path, unserved, content_type="application/json-patch+json")
    definitions = (await v2(cluster))["definitions"]
    assert "com.example.stable.v4.CronTab" not in definitions
    assert MODEL in definitions


@needs_kubectl
async def test_kubectl_validates_and_explains(cluster: Cluster, kubeconfig: Path) -> None:
    """Conformance: "Custom Resource OpenAPI Publish, with validation schema"."""
    await established(cluster, definition(version(schema=DESCRIBED)))
    good = json.dumps(cron_tab(spec={"image": "x", "jobs": [{"name": "a"}]}))

    assert "crontab.stable.example.com/a created" in await kubectl(kubeconfig, "create", "-f", "-", stdin=good)
    changed = good.replace('"x"', '"y"')
    assert "configured" in await kubectl(kubeconfig, "apply", "-f", "-", stdin=changed)
    unknown = json.dumps(cron_tab(spec={"image": "x", "foo": 1}))
    assert 'unknown field "spec.foo"' in await kubectl(kubeconfig, "apply", "-f", "-", stdin=unknown, fails=True)
    missing = json.dumps(cron_tab("b", spec={}))
    assert "spec.image: Required value" in await kubectl(kubeconfig, "apply", "-f", "-", stdin=missing, fails=True)

    told = await kubectl(kubeconfig, "explain", "crontabs")
    assert "CronTab runs a command." in told
    assert "What to run." in told
    told = await kubectl(kubeconfig, "explain", "crontabs.spec.jobs.name")
    assert "Its name." in told
    assert "does not exist" in await kubectl(kubeconfig, "explain", "crontabs.spec.none", fails=True)


@needs_kubectl
@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        {
            "type": "object",
            "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        },
        {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "x-kubernetes-preserve-unknown-fields": True,
                }
            },
        },
    ],
    ids=["at the root", "in an object", "in an embedded resource"],
)
async def test_unknown_fields_that_are_preserved_are_let_through(
    cluster: Cluster, kubeconfig: Path, schema: Obj
) -> None:
    """Conformance: "Custom Resource OpenAPI Publish, with x-kubernetes-preserve-unknown-fields at root",
    "Custom Resource OpenAPI Publish, with x-kubernetes-preserve-unknown-fields in object",
    "Custom Resource OpenAPI Publish, with x-kubernetes-preserve-unknown-fields in embedded object"."""
    await established(cluster, definition(version(schema=schema)))
    spec: Any = {"apiVersion": "v1", "kind": "Any", "a": {"b": [1, {"c": None}]}}

    assert "created" in await kubectl(kubeconfig, "create", "-f", "-", stdin=json.dumps(cron_tab(spec=spec)))
    spec["a"]["b"] = [2]
    assert "configured" in await kubectl(kubeconfig, "apply", "-f", "-", stdin=json.dumps(cron_tab(spec=spec)))
    assert "CronTab" in await kubectl(kubeconfig, "explain", "crontabs")


@needs_kubectl
async def test_a_day_with_a_custom_resource(cluster: Cluster, kubeconfig: Path) -> None:
    columns = [{"name": "Image", "type": "string", "jsonPath": ".spec.image"}]
    served = version(schema=SCHEMA, subresources={"status": {}, "scale": SCALE}, additionalPrinterColumns=columns)
    given = definition(served)
    given["spec"]["names"] |= {"shortNames": ["ct"], "categories": ["all"]}
    ctl = kubeconfig

    assert "created" in await kubectl(ctl, "apply", "-f", "-", stdin=json.dumps(given))
    name = f"crd/crontabs.{GROUP}"
    assert "condition met" in await kubectl(ctl, "wait", "--for=condition=Established", name, "--timeout=20s")
    assert "CREATED AT" in await kubectl(ctl, "get", "crd")
    assert "crontabs" in await kubectl(ctl, "api-resources", f"--api-group={GROUP}")

    made = json.dumps(cron_tab(spec={"image": "x", "replicas": 1}))
    assert "created" in await kubectl(ctl, "apply", "-f", "-", stdin=made)
    assert "unchanged" in await kubectl(ctl, "apply", "-f", "-", stdin=made)
    shown = await kubectl(ctl, "get", "ct")
    assert shown.split() == ["NAME", "IMAGE", "a", "x"]
    assert "crontab.stable.example.com/a" in await kubectl(ctl, "get", "all")
    assert "scaled" in await kubectl(ctl, "scale", "ct/a", "--replicas=3")
    assert "patched" in await kubectl(ctl, "patch", "ct", "a", "--type=merge", "-p", '{"spec":{"image":"z"}}')
    status = '{"status":{"replicas":3,"labelSelector":"app=a"}}'
    assert "patched" in await kubectl(ctl, "patch", "ct", "a", "--subresource=status", "--type=merge", "-p", status)
    path = "{.spec.image} {.spec.replicas} {.status.replicas}"
    assert await kubectl(ctl, "get", "ct", "a", "-o", f"jsonpath={path}") == "z 3 3"
    assert "CronTab" in await kubectl(ctl, "describe", "ct", "a")
    assert "labeled" in await kubectl(ctl, "label", "ct", "a", "tier=x")
    assert "deleted" in await kubectl(ctl, "delete", "ct", "a")
    assert "deleted" in await kubectl(ctl, "delete", name)
    assert "could not find the requested resource" in await kubectl(ctl, "get", "crontabs", fails=True)


async def test_the_binary_document_holds_custom_models_too(cluster: Cluster) -> None:
    await established(cluster, definition(version(schema=DESCRIBED)))
    accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

    answer = await cluster.call("GET", "/openapi/v2", headers={"Accept": accept})

    assert MODEL.encode() in answer.body
    assert b"io.k8s.api.core.v1.Pod" in answer.body
