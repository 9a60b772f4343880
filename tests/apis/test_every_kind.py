"""What holds for every kind: rules never fail on what a schema lets through, defaults settle, rows fit columns."""

from __future__ import annotations

import copy
import random
from datetime import UTC, datetime
from typing import Any

import pytest

from pinnace.apis.kind import Kind
from pinnace.apis.registry import Registry
from pinnace.machinery.errors import Cause

from .test_registry import definitions

NOW = datetime(2026, 1, 2, tzinfo=UTC)
KINDS = Registry().kinds
STORED = [kind for kind in KINDS if kind.is_stored]
DEFINITIONS = definitions(37)
BY_GVK = {
    (gvk["group"], gvk["version"], gvk["kind"]): definition
    for definition in DEFINITIONS.values()
    for gvk in definition.get("x-kubernetes-group-version-kind") or []
    if len(definition["x-kubernetes-group-version-kind"]) == 1
}
TEXTS = ["", "a", "a-b", "x/y", "..", "/", "10.0.0.1", "100%", "1Gi", "-1", "Local", "Always", "None", "é" * 70]


def invent(schema: Any, dice: random.Random, depth: int = 0) -> Any:
    """A value of the schema's type, with little sense in it."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        if name.endswith(("Time", "MicroTime")):
            return "2026-01-01T00:00:00Z"
        if name.endswith("Quantity"):
            return dice.choice(["1", "100m", "1Gi", "-1", "0"])
        if name.endswith("IntOrString"):
            return dice.choice([0, 1, 80, 70000, -1, "25%", "101%", "http", ""])
        return invent(DEFINITIONS[name], dice, depth)
    kind = schema.get("type")
    kinds = [one for one in kind if one != "null"] if isinstance(kind, list) else [kind]
    match kinds[0]:
        case "object":
            return invent_object(schema, dice, depth)
        case "array":
            count = dice.choice([0, 1, 1, 2]) if depth < 9 else 0
            return [invent(schema["items"], dice, depth + 1) for _ in range(count)]
        case "integer" | "number":
            return dice.choice([0, 1, -1, 80, 70000, 2**31])
        case "boolean":
            return dice.choice([True, False])
    return dice.choice(schema.get("enum") or TEXTS)


def invent_object(schema: Any, dice: random.Random, depth: int) -> Any:
    properties = schema.get("properties")
    if properties is None:
        values = schema.get("additionalProperties")
        if not isinstance(values, dict) or not values:
            return {}
        return {dice.choice(TEXTS): invent(values, dice, depth + 1) for _ in range(dice.choice([0, 1, 2]))}
    chance = 0.8 if depth < 3 else 0.35 if depth < 9 else 0.0
    return {key: invent(value, dice, depth + 1) for key, value in properties.items() if dice.random() < chance}


def invented(kind: Kind, seed: int) -> Any:
    dice = random.Random(f"{kind.gvk}{seed}")
    obj = invent(BY_GVK[kind.gvk], dice)
    meta = {"name": "a", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"} | (
        {"namespace": "default"} if kind.namespaced else {}
    )
    return {**obj, "apiVersion": kind.gvk.api_version, "kind": kind.kind, "metadata": meta}


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: f"{kind.qualified}/{kind.version}")
def test_rules_survive_whatever_the_schema_lets_through(kind: Kind) -> None:
    for seed in range(40):
        obj = invented(kind, seed)
        before = invented(kind, seed + 1000)
        for each in (obj, before):
            if kind.default:
                kind.default(each)
        new = copy.deepcopy(obj)
        if kind.prepare:
            kind.prepare(new, None)
            kind.prepare(before, None)
            kind.prepare(obj, before)
        assert kind.validate is not None
        assert kind.validate_update is not None
        for causes in (kind.validate(new), kind.validate_update(obj, before)):
            assert all(isinstance(cause, Cause) for cause in causes)
        for each in (new, obj, invented(kind, seed)):
            if kind.row:
                assert len(kind.row(each, NOW)) == len(kind.columns)
        for read in kind.selectable_fields.values():
            assert isinstance(read(obj), str)
        if kind.to_storage and kind.from_storage:
            assert kind.from_storage(kind.to_storage(obj))["apiVersion"] == kind.gvk.api_version


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: f"{kind.qualified}/{kind.version}")
def test_defaults_of_defaults_are_the_same(kind: Kind) -> None:
    if kind.default is None:
        return
    for seed in range(20):
        once = invented(kind, seed)
        kind.default(once)
        twice = copy.deepcopy(once)
        kind.default(twice)
        assert twice == once


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: f"{kind.qualified}/{kind.version}")
def test_a_bare_object_is_shown_and_judged(kind: Kind) -> None:
    meta: dict[str, Any] = {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}
    if kind.namespaced:
        meta["namespace"] = "default"
    bare: dict[str, Any] = {"apiVersion": kind.gvk.api_version, "kind": kind.kind, "metadata": meta}
    if kind.default:
        kind.default(bare)
    if kind.prepare:
        kind.prepare(bare, None)
    assert kind.validate is not None
    kind.validate(bare)
    if kind.row:
        assert len(kind.row(bare, NOW)) == len(kind.columns)


@pytest.mark.parametrize("kind", STORED, ids=lambda kind: f"{kind.qualified}/{kind.version}")
def test_a_nameless_object_is_refused(kind: Kind) -> None:
    obj: dict[str, Any] = {"metadata": {"namespace": "default"} if kind.namespaced else {}, "spec": {}}
    if kind.default:
        kind.default(obj)
    assert kind.validate is not None
    messages = [(cause.field, cause.message) for cause in kind.validate(obj)]
    assert ("metadata.name", "Required value: name or generateName is required") in messages
