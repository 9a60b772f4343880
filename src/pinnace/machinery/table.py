"""`meta.k8s.io/v1` Table: objects as the rows that `kubectl get` prints, made by the kind's own columns.

The shape is specified at https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables,
the short form of durations by kubectl's `duration.HumanDuration`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from pinnace.machinery.meta import Obj, parse_time

Include = Literal["None", "Metadata", "Object"]


class Column(Protocol):
    """`apis.kind.Column`, as far as a table needs it."""

    @property
    def name(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def format(self) -> str: ...
    @property
    def priority(self) -> int: ...
    @property
    def description(self) -> str: ...


class Tabular(Protocol):
    """`apis.kind.Kind`, as far as a table needs it."""

    @property
    def columns(self) -> Sequence[Column]: ...
    @property
    def row(self) -> Callable[[Obj, datetime], list[Any]] | None: ...


_NAME_DESCRIPTION = "Name must be unique within a namespace."
_AGE_DESCRIPTION = "When the object was created."


def render(
    kind: Tabular,
    objs: Iterable[Obj],
    now: datetime,
    include_object: Include = "Metadata",
    list_metadata: Obj | None = None,
    *,
    headers: bool = True,
) -> Obj:
    """The objects as a Table; `headers` is false for the second and later events of a watch."""
    custom = bool(kind.columns and kind.row)
    row = kind.row if custom and kind.row else _plain_row
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": list_metadata or {},
        "columnDefinitions": (_definitions(kind) if custom else _PLAIN) if headers else None,
        "rows": [_row(obj, row(obj, now), include_object) for obj in objs],
    }


def _row(obj: Obj, cells: list[Any], include: Include) -> Obj:
    if include == "None":
        return {"cells": cells}
    return {"cells": cells, "object": obj if include == "Object" else partial_metadata(obj)}


def partial_metadata(obj: Obj) -> Obj:
    """The object as `PartialObjectMetadata`: metadata alone."""
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def _definitions(kind: Tabular) -> list[Obj]:
    return [
        _definition(
            column.name,
            column.type,
            "name" if column.name == "Name" and not column.format else column.format,
            column.description or {"Name": _NAME_DESCRIPTION, "Age": _AGE_DESCRIPTION}.get(column.name, ""),
            column.priority,
        )
        for column in kind.columns
    ]


def _definition(name: str, type_: str, format_: str, description: str, priority: int) -> Obj:
    return {"name": name, "type": type_, "format": format_, "description": description, "priority": priority}


_PLAIN = [
    _definition("Name", "string", "name", _NAME_DESCRIPTION, 0),
    _definition("Created At", "date", "", _AGE_DESCRIPTION, 0),
]


def _plain_row(obj: Obj, _now: datetime) -> list[Any]:
    """A kind without columns of its own shows its name and when it was made, as Kubernetes' default does."""
    meta = obj["metadata"]
    return [meta.get("name", ""), meta.get("creationTimestamp")]


def age(timestamp: str | None, now: datetime) -> str:
    """The time since a timestamp of the API (`3d4h`); `<unknown>` where there is none."""
    return human_duration(now - parse_time(timestamp)) if timestamp else "<unknown>"


def human_duration(duration: timedelta) -> str:
    """At most two units, the second only while it matters: `45s`, `2m30s`, `90m`, `5h12m`, `3d4h`, `400d`, `3y20d`."""
    whole = int(duration.total_seconds())
    if duration.total_seconds() <= -2:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if hours < 192:
        return _two(days, "d", hours % 24, "h")
    if days < 730:
        return f"{days}d"
    years = days // 365
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(great: int, unit: str, small: int, small_unit: str) -> str:
    return f"{great}{unit}{small}{small_unit}" if small else f"{great}{unit}"
