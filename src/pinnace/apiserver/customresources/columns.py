"""The columns of `kubectl get` for a custom resource: Name, what `additionalPrinterColumns` asks for, or Age.

https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#additional-printer-columns.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson

from pinnace.apis.fields import NAME, name
from pinnace.apis.kind import Column, Row
from pinnace.machinery.duration import since
from pinnace.machinery.jsonpath import JsonPathError, compile_path
from pinnace.machinery.meta import Obj, parse_time

_AGE: Obj = {
    "name": "Age",
    "type": "date",
    "jsonPath": ".metadata.creationTimestamp",
    "description": "When the object was created.",
}

Cell = Callable[[Obj, datetime], Any]


def columns_of(given: list[Obj]) -> tuple[tuple[Column, ...], Row]:
    """The headers and what makes a row, from one version's `additionalPrinterColumns`."""
    asked = given or [_AGE]
    headers = tuple(
        Column(
            one.get("name", ""),
            one.get("type", "string"),
            one.get("format") or "",
            one.get("priority") or 0,
            one.get("description") or f"Custom resource definition column (in JSONPath format): {one.get('jsonPath')}",
        )
        for one in asked
    )
    cells = [_cell(one.get("jsonPath") or "", one.get("type") or "string") for one in asked]

    def row(obj: Obj, now: datetime) -> list[Any]:
        return [name(obj), *(cell(obj, now) for cell in cells)]

    return (NAME, *headers), row


def _cell(path: str, kind: str) -> Cell:
    try:
        find = compile_path(path)
    except JsonPathError:
        find = _nothing  # validation looks only at how a path begins

    def cell(obj: Obj, now: datetime) -> Any:
        found = find(obj)
        return _shown(found[0], kind, now) if found else None

    return cell


def _nothing(_: Any) -> list[Any]:
    return []


def _shown(value: Any, kind: str, now: datetime) -> Any:
    """A value as its column's type shows it; None where it is of another type."""
    match kind:
        case "string":
            return _text(value)
        case "integer" if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value)
        case "number" if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        case "boolean" if isinstance(value, bool):
            return value
        case "date" if isinstance(value, str):
            try:
                parse_time(value)
            except ValueError:
                return "<invalid>"
            return since(value, now)
    return None


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
