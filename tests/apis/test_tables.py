"""Every kind against its table: what a bare object becomes, what is refused, what may change, and how it is shown."""

from __future__ import annotations

import copy
import importlib
import pkgutil
from datetime import UTC, datetime
from typing import Any

import pytest

from pinnace.apis.kind import Kind
from pinnace.apis.registry import Registry
from pinnace.machinery.errors import Cause
from tests.apis import tables
from tests.apis.objects import kind_of
from tests.apis.tables.table import Changes, Obj, Table, changed

NOW = datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
MODULES = [
    importlib.import_module(f"tests.apis.tables.{found.name}")
    for found in pkgutil.iter_modules(tables.__path__)
    if found.name not in ("table", "templates")
]
TABLES: list[Table] = [table for module in MODULES for table in module.TABLES]
UNTOLD = {
    ("v1", "ComponentStatus"),  # is made up when it is asked for
    ("apiregistration.k8s.io/v1", "APIService"),  # tests/apiserver
}


def sent(table: Table, fields: Obj) -> Obj:
    meta = {"name": table.name, "uid": "1234", "creationTimestamp": "2026-01-01T00:00:00Z"}
    if kind_of(table.api_version, table.kind).namespaced:
        meta["namespace"] = "default"
    fields = copy.deepcopy(fields)
    meta |= fields.pop("metadata", {})
    return {"apiVersion": table.api_version, "kind": table.kind, "metadata": meta, **fields}


def stored(kind: Kind, obj: Obj, old: Obj | None = None) -> Obj:
    if kind.has_status and old is None and kind.kind != "Node":
        obj.pop("status", None)
    if kind.default:
        kind.default(obj)
    if kind.prepare:
        kind.prepare(obj, old)
    return obj


def words(causes: list[Cause]) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in causes]


def cases_of(name: str) -> list[Any]:
    return [
        pytest.param(table, changes, messages, id=f"{table.id}-{', '.join(map(str, changes))}"[:100])
        for table in TABLES
        for changes, messages in getattr(table, name)
    ]


def test_every_kind_that_is_served_has_a_table() -> None:
    served = {(kind.gvk.api_version, kind.kind) for kind in Registry().kinds if kind.is_stored}
    told = {(table.api_version, table.kind) for table in TABLES}
    assert served - told - UNTOLD == set()
    assert len(TABLES) == len(told), "one table for each kind"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.id)
def test_a_table_says_everything(table: Table) -> None:
    assert table.invalid or table.invalid_full
    assert table.updates or table.updates_full
    assert table.columns


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.id)
def test_a_bare_object_gets_its_defaults(table: Table) -> None:
    kind = kind_of(table.api_version, table.kind)
    obj = stored(kind, sent(table, table.minimal))
    assert kind.validate is not None
    assert words(kind.validate(obj)) == []
    bare = {key: value for key, value in obj.items() if key not in ("apiVersion", "kind", "metadata")}
    assert bare == table.defaulted


@pytest.mark.parametrize("table", [table for table in TABLES if table.full], ids=lambda table: table.id)
def test_a_full_object_is_accepted(table: Table) -> None:
    kind = kind_of(table.api_version, table.kind)
    obj = stored(kind, sent(table, table.full))
    assert kind.validate is not None
    assert words(kind.validate(obj)) == []


def refused(table: Table, fields: Obj, changes: Changes) -> list[str]:
    kind = kind_of(table.api_version, table.kind)
    assert kind.validate is not None
    return words(kind.validate(stored(kind, changed(sent(table, fields), changes))))


@pytest.mark.parametrize(("table", "changes", "messages"), cases_of("invalid"))
def test_what_is_refused_of_a_bare_object(table: Table, changes: Changes, messages: list[str]) -> None:
    assert refused(table, table.minimal, changes) == messages


@pytest.mark.parametrize(("table", "changes", "messages"), cases_of("invalid_full"))
def test_what_is_refused_of_a_full_object(table: Table, changes: Changes, messages: list[str]) -> None:
    assert refused(table, table.full, changes) == messages


def refused_update(table: Table, fields: Obj, changes: Changes) -> list[str]:
    kind = kind_of(table.api_version, table.kind)
    assert kind.validate_update is not None
    old = stored(kind, sent(table, fields))
    return words(kind.validate_update(stored(kind, changed(old, changes), old), old))


@pytest.mark.parametrize(("table", "changes", "messages"), cases_of("updates"))
def test_what_may_change_of_a_bare_object(table: Table, changes: Changes, messages: list[str]) -> None:
    assert refused_update(table, table.minimal, changes) == messages


@pytest.mark.parametrize(("table", "changes", "messages"), cases_of("updates_full"))
def test_what_may_change_of_a_full_object(table: Table, changes: Changes, messages: list[str]) -> None:
    assert refused_update(table, table.full, changes) == messages


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.id)
def test_what_kubectl_get_shows(table: Table) -> None:
    kind = kind_of(table.api_version, table.kind)
    shown = [f"{column.name}*" if column.priority else column.name for column in kind.columns]
    assert shown == ([] if table.columns == ["Name", "Age"] and not shown else table.columns)
    if kind.row is None:
        return
    obj = stored(kind, sent(table, table.full or table.minimal))
    if table.status is not None:
        obj["status"] = table.status
    assert kind.row(obj, NOW) == table.cells
