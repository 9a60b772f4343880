"""Defaults of custom resources: put into objects where fields are missing, and judged when a definition brings them.

Nulls go first: a null in a field that is not `nullable` is as if it was not there, and a default takes its place.
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#defaulting.
"""

from __future__ import annotations

from typing import Any

from pinnace.machinery.errors import ApiError, Cause, invalid_value
from pinnace.machinery.meta import GVK, Obj, deep_copy
from pinnace.machinery.structural import ROOT_FIELDS, Structural, prune
from pinnace.machinery.structural_values import validate_values


def set_defaults(schema: Structural, obj: Any) -> bool:
    """Drop nulls that may not be and fill in defaults, in place; whether anything changed."""
    if type(obj) is dict:
        return _object(schema, obj)
    changed = False
    if type(obj) is list and isinstance(schema.items, Structural):
        default = schema.items.raw.get("default")
        for index, item in enumerate(obj):
            if item is None and not schema.items.nullable and default is not None:
                obj[index] = deep_copy(default)
                changed = True
            changed = set_defaults(schema.items, obj[index]) or changed
    return changed


def _object(schema: Structural, obj: Obj) -> bool:
    changed = False
    fields = schema.fields
    for name in [name for name, value in obj.items() if value is None]:
        child = fields.get(name) or (schema.items if schema.type == "map" else None)
        if isinstance(child, Structural) and not child.nullable:
            del obj[name]
            changed = True
            if name not in fields and child.raw.get("default") is not None:
                obj[name] = deep_copy(child.raw["default"])
    for name, child in fields.items():
        if isinstance(child, Structural):
            default = child.raw.get("default")
            if default is not None and name not in obj:
                obj[name] = deep_copy(default)
                changed = True
    for name, value in obj.items():
        if type(value) is dict or type(value) is list:
            child = fields.get(name) or (schema.items if schema.type == "map" else None)
            if isinstance(child, Structural):
                changed = set_defaults(child, value) or changed
    return changed


def default_errors(schema: Structural, path: str) -> list[Cause]:
    """What is wrong with the defaults below a node: unknown fields, and values that its own schema refuses."""
    causes: list[Cause] = []
    for name, child in schema.fields.items():
        if not isinstance(child, Structural) or (schema.resource and name in ROOT_FIELDS):
            continue
        causes += _own_default_errors(child, f"{path}.properties[{name}]")
        causes += default_errors(child, f"{path}.properties[{name}]")
    if isinstance(schema.items, Structural):
        where = f"{path}.items" if schema.type == "list" else f"{path}.additionalProperties"
        causes += _own_default_errors(schema.items, where)
        causes += default_errors(schema.items, where)
    return causes


def _own_default_errors(schema: Structural, path: str) -> list[Cause]:
    default = schema.raw.get("default")
    if default is None:
        return []
    where = f"{path}.default"
    whole = deep_copy(default)
    set_defaults(schema, whole)
    try:
        _, unknown = prune(schema, default, GVK("", "", ""))
    except ApiError as error:
        return [invalid_value(where, default, error.message)]
    if unknown:
        return [invalid_value(where, default, "must not have unknown fields")]
    return validate_values(schema.raw, whole, where)
