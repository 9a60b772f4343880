"""Objects of any kind as they are stored, judged and shown: what the tests of all kinds share."""

from __future__ import annotations

import copy
from datetime import UTC, datetime
from typing import Any

from pinnace.apis.kind import Kind
from pinnace.apis.registry import Registry
from pinnace.machinery.meta import GVK, parse_api_version

NOW = datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
# Fields of features that are off would be dropped.
REGISTRY = Registry(feature_gates={"AllAlpha": True, "AllBeta": True})
TEMPLATE = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "nginx:1"}]}}
SELECTOR = {"matchLabels": {"app": "web"}}
APP = {"selector": SELECTOR, "template": TEMPLATE}


def kind_of(api_version: str, kind: str) -> Kind:
    found = REGISTRY.by_gvk(GVK(*parse_api_version(api_version), kind))
    assert found is not None
    return found


def made(api_version: str, kind: str, **fields: Any) -> dict[str, Any]:
    """As it is stored after a create."""
    rules = kind_of(api_version, kind)
    meta = {"name": "web", "uid": "1234", "creationTimestamp": "2026-01-01T00:00:00Z", **fields.pop("metadata", {})}
    if rules.namespaced:
        meta.setdefault("namespace", "default")
    obj = {"apiVersion": api_version, "kind": kind, "metadata": meta, **copy.deepcopy(fields)}
    if rules.default:
        rules.default(obj)
    if rules.prepare:
        rules.prepare(obj, None)
    return obj


def errors(obj: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    rules = kind_of(obj["apiVersion"], obj["kind"])
    assert rules.validate
    assert rules.validate_update
    causes = rules.validate(obj) if old is None else rules.validate_update(obj, old)
    return [f"{cause.field}: {cause.message}" for cause in causes]


def cells(obj: dict[str, Any]) -> list[Any]:
    rules = kind_of(obj["apiVersion"], obj["kind"])
    assert rules.row
    return [cell for cell, column in zip(rules.row(obj, NOW), rules.columns, strict=True) if not column.priority]


def names(api_version: str, kind: str) -> list[str]:
    return [column.name for column in kind_of(api_version, kind).columns if not column.priority]


def without(spec: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in spec.items() if key not in keys}
