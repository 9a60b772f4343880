"""Limit ranges and resource quotas: what a namespace's pods may ask for, each and together.

Specified in https://kubernetes.io/docs/concepts/policy/limit-range/ and
https://kubernetes.io/docs/concepts/policy/resource-quotas/.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pinnace.apis.checks import amount, every, quantity_not_negative
from pinnace.apis.fields import AGE, NAME, age, column, name, spec_of, status_of
from pinnace.apis.kind import Rules
from pinnace.apis.workload import forget_status
from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value
from pinnace.machinery.meta import Obj


def default_limit_range(limit_range: Obj) -> None:
    """A container that says nothing gets the maximum, and requests what it is limited to, or the minimum."""
    for item in spec_of(limit_range).get("limits") or ():
        if item.get("type") != "Container":
            continue
        limits = item.setdefault("default", {})
        requests = item.setdefault("defaultRequest", {})
        for source, target in (("max", limits), ("default", requests), ("min", requests)):
            for key, value in (item.get(source) or {}).items():
                target.setdefault(key, value)
        for key in ("default", "defaultRequest"):
            if not item[key]:
                del item[key]


def validate_limit_range(limit_range: Obj) -> list[Cause]:
    errors: list[Cause] = []
    seen = set()
    for index, item in enumerate(spec_of(limit_range).get("limits") or ()):
        path = f"spec.limits[{index}]"
        kind = item.get("type") or ""
        errors += every(f"{path}.type", kind, names.is_qualified_name(kind))
        if kind in seen:
            errors.append(duplicate(f"{path}.type", kind))
        seen.add(kind)
        if kind == "Pod":
            for key in ("default", "defaultRequest"):
                if item.get(key):
                    why = "may not be specified when `type` is 'Pod'"
                    errors.append(field_forbidden(f"{path}.{key}", why))
        errors += _ordered(item, path)
    return errors


_ORDER = (
    ("min", "max"),
    ("min", "defaultRequest"),
    ("defaultRequest", "max"),
    ("defaultRequest", "default"),
    ("default", "max"),
)
_WORDS = {"min": "min", "max": "max", "default": "default", "defaultRequest": "default request"}


def _ordered(item: Obj, path: str) -> list[Cause]:
    """min <= default request <= default <= max, for each resource."""
    errors: list[Cause] = []
    for low, high in _ORDER:
        for key, value in (item.get(low) or {}).items():
            limit = (item.get(high) or {}).get(key)
            small, great = amount(value), amount(limit) if limit is not None else None
            if small is not None and great is not None and small > great:
                why = f"{_WORDS[low]} value {small} is greater than {_WORDS[high]} value {great}"
                errors.append(invalid_value(f"{path}.{low}[{key}]", str(small), why))
    return errors


def row_limit_range(limit_range: Obj, now: datetime) -> list[Any]:  # noqa: ARG001 (shows the moment itself)
    return [name(limit_range), limit_range["metadata"].get("creationTimestamp") or ""]


LIMIT_RANGE = Rules(
    columns=(NAME, column("Created At")),
    row=row_limit_range,
    default=default_limit_range,
    validate=validate_limit_range,
)


def validate_quota(quota: Obj) -> list[Cause]:
    errors: list[Cause] = []
    for key, value in (spec_of(quota).get("hard") or {}).items():
        errors += every(f"spec.hard[{key}]", key, names.is_qualified_name(key))
        errors += quantity_not_negative(f"spec.hard[{key}]", value)
    return errors


def row_quota(quota: Obj, now: datetime) -> list[Any]:
    status = status_of(quota)
    hard, used = status.get("hard") or {}, status.get("used") or {}
    shown = {key: f"{key}: {used.get(key, '0')}/{hard[key]}" for key in sorted(hard)}
    limits = [text for key, text in shown.items() if key.startswith("limits")]
    requests = [text for key, text in shown.items() if not key.startswith("limits")]
    return [name(quota), ", ".join(requests), ", ".join(limits), age(quota, now)]


RESOURCE_QUOTA = Rules(
    columns=(NAME, column("Request"), column("Limit"), AGE),
    row=row_quota,
    validate=validate_quota,
    prepare=forget_status,
)
