"""Definitions and objects of the tests of custom resources, and ways to wait for them."""

from __future__ import annotations

from typing import Any

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


SCALE = {
    "specReplicasPath": ".spec.replicas",
    "statusReplicasPath": ".status.replicas",
    "labelSelectorPath": ".status.labelSelector",
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
