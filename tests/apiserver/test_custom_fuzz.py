"""Definitions and custom objects made of anything at all: the answer is never a 5xx, and the server goes on."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from tests.apiserver.conftest import Cluster
from tests.apiserver.custom import (
    CRON_TABS,
    DEFINITIONS,
    MERGE,
    SCALE,
    cron_tab,
    definition,
    deleted,
    established,
    version,
)

ROUNDS = 150

EVERYTHING: Obj = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "default": {},
            "properties": {
                "replicas": {"type": "integer", "minimum": 1, "default": 1},
                "port": {"x-kubernetes-int-or-string": True, "pattern": "^a"},
                "free": {"x-kubernetes-preserve-unknown-fields": True},
                "nullable": {"type": "string", "nullable": True, "enum": ["a", "b"], "format": "date-time"},
                "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set", "maxItems": 3},
                "list": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {
                        "type": "object",
                        "required": ["k"],
                        "properties": {"k": {"type": "string"}, "v": {"type": "number", "multipleOf": 0.5}},
                        "x-kubernetes-validations": [{"rule": "self.k != 'bad'"}],
                    },
                },
                "map": {"type": "object", "additionalProperties": {"type": "boolean"}, "maxProperties": 2},
                "pod": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "x-kubernetes-preserve-unknown-fields": True,
                },
                "either": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}},
            },
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}

_SCALARS: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2.5,
    1e300,
    2**62,
    "",
    "a",
    "b",
    "\u0000",
    "é" * 70,
    "2020-01-01T00:00:00Z",
]
_NAMES = ["replicas", "port", "free", "nullable", "set", "list", "map", "pod", "either", "k", "v", "metadata", "name",
          "labels", "apiVersion", "kind", "spec", "status", "x.y/z", ""]  # fmt: skip


def anything(chance: random.Random, depth: int = 4) -> Any:
    kind = chance.random()
    if depth == 0 or kind < 0.4:
        return chance.choice(_SCALARS)
    if kind < 0.6:
        return [anything(chance, depth - 1) for _ in range(chance.randrange(4))]
    return {chance.choice(_NAMES): anything(chance, depth - 1) for _ in range(chance.randrange(5))}


def spoiled(chance: random.Random, value: Any, depth: int = 0) -> Any:
    """The value with something changed somewhere in it."""
    if depth > 8 or not isinstance(value, dict | list) or not value or chance.random() < 0.15:
        return anything(chance, 3)
    made = copy.copy(value)
    place = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
    if isinstance(made, dict) and chance.random() < 0.1:
        del made[place]
    else:
        made[place] = spoiled(chance, value[place], depth + 1)
    return made


@pytest.mark.parametrize("seed", [1, 2])
async def test_objects(cluster: Cluster, seed: int) -> None:
    chance = random.Random(seed)
    await established(cluster, definition(version(schema=EVERYTHING, subresources={"status": {}, "scale": SCALE})))
    made = (await cluster.call("POST", CRON_TABS, cron_tab("kept"))).json

    for index in range(ROUNDS):
        body = cron_tab(f"x{index}", spec=anything(chance), status=anything(chance, 2))
        if chance.random() < 0.3:
            body = spoiled(chance, body)
        posted = await cluster.call("POST", CRON_TABS, body)
        assert posted.status < 500, (body, posted.body)
        patch = {"spec": anything(chance)} if chance.random() < 0.8 else anything(chance)
        below = chance.choice(["", "/status", "/scale"])
        patched = await cluster.call("PATCH", f"{CRON_TABS}/kept{below}", patch, content_type=MERGE)
        assert patched.status < 500 or below == "/scale", (patch, patched.body)
        operations = [{"op": "replace", "path": f"/spec/{chance.choice(_NAMES[:9])}", "value": anything(chance)}]
        patched = await cluster.call(
            "PATCH", f"{CRON_TABS}/kept", operations, content_type="application/json-patch+json"
        )
        assert patched.status < 500, (operations, patched.body)
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    assert (await cluster.call("GET", CRON_TABS, headers=table)).status == 200
    assert (await cluster.call("GET", f"{CRON_TABS}/kept")).json["metadata"]["uid"] == made["metadata"]["uid"]


@pytest.mark.parametrize("seed", [1, 2])
async def test_definitions(cluster: Cluster, seed: int) -> None:
    chance = random.Random(seed)
    whole = definition(
        version(
            schema=EVERYTHING,
            subresources={"status": {}, "scale": SCALE},
            selectableFields=[{"jsonPath": ".spec.replicas"}],
        ),
        version("v2", EVERYTHING, storage=False),
    )
    for _ in range(ROUNDS):
        body = spoiled(chance, whole)
        if isinstance(body, dict) and isinstance(body.get("metadata"), dict):
            body["metadata"] = whole["metadata"]
        posted = await cluster.call("POST", DEFINITIONS, body)
        assert posted.status < 500, (body, posted.body)
        if posted.status == 201:
            assert (await cluster.call("GET", "/apis")).status == 200
            await deleted(cluster, posted.json["metadata"]["name"])
    await established(cluster, whole)
    for _ in range(ROUNDS // 3):
        patch = {"spec": spoiled(chance, whole["spec"])}
        path = f"{DEFINITIONS}/{whole['metadata']['name']}"
        patched = await cluster.call("PATCH", path, patch, content_type=MERGE)
        assert patched.status < 500, (patch, patched.body)
    assert (await cluster.call("GET", "/openapi/v2", headers={"Accept": "application/json"})).status == 200
    assert (await cluster.call("GET", CRON_TABS)).status == 200
