"""`meta.k8s.io/v1` Table: objects as the rows that `kubectl get` prints, made by the kind's own columns.

The shape is specified at https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables,
the short form of durations by kubectl's `duration.HumanDuration`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from pinnace.machinery.duration import since
from pinnace.machinery.meta import Obj

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
    _definition("Age", "string", "", _AGE_DESCRIPTION, 0),
]


def _plain_row(obj: Obj, now: datetime) -> list[Any]:
    """A kind without columns of its own shows its name and its age."""
    meta = obj["metadata"]
    return [meta.get("name", ""), since(meta.get("creationTimestamp"), now)]
