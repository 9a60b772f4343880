"""Tables, and percentages of a total."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from pinnace.machinery import intorstring, table

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@dataclass
class FakeColumn:
    name: str
    type: str = "string"
    format: str = ""
    priority: int = 0
    description: str = ""


@dataclass
class FakeKind:
    columns: tuple[FakeColumn, ...] = ()
    row: Any = None
    extra: dict[str, Any] = field(default_factory=dict)


POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"}}
KIND = FakeKind((FakeColumn("Name"), FakeColumn("Age")), lambda obj, _now: [obj["metadata"]["name"], "24h"])


def test_rows_carry_metadata_unless_asked_otherwise() -> None:
    rendered = table.render(KIND, [POD], NOW, list_metadata={"resourceVersion": "5"})

    assert rendered["kind"] == "Table"
    assert rendered["apiVersion"] == "meta.k8s.io/v1"
    assert rendered["metadata"] == {"resourceVersion": "5"}
    assert [(each["name"], each["format"]) for each in rendered["columnDefinitions"]] == [("Name", "name"), ("Age", "")]
    assert rendered["rows"] == [
        {
            "cells": ["a", "24h"],
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": POD["metadata"]},
        }
    ]
    assert table.render(KIND, [POD], NOW, "None")["rows"] == [{"cells": ["a", "24h"]}]
    assert table.render(KIND, [POD], NOW, "Object")["rows"][0]["object"] is POD


def test_later_events_of_a_watch_carry_no_headers() -> None:
    assert table.render(KIND, [POD], NOW, headers=False)["columnDefinitions"] is None


def test_a_kind_without_columns_shows_name_and_age() -> None:
    rendered = table.render(FakeKind(), [POD], NOW)

    assert [each["name"] for each in rendered["columnDefinitions"]] == ["Name", "Age"]
    assert rendered["rows"][0]["cells"] == ["a", "24h"]


@pytest.mark.parametrize(
    ("value", "total", "up", "result"),
    [
        (3, 10, True, 3),
        ("25%", 10, True, 3),
        ("25%", 10, False, 2),
        ("100%", 7, False, 7),
        ("0%", 7, True, 0),
        ("150%", 4, True, 6),
    ],
)
def test_percentages_scale(value: int | str, total: int, up: bool, result: int) -> None:
    assert intorstring.scale(value, total, round_up=up) == result


def test_other_text_does_not_scale() -> None:
    with pytest.raises(ValueError, match="invalid value for IntOrString: invalid type: string is not a percentage"):
        intorstring.scale("5", 10, round_up=True)
    assert intorstring.is_percentage("5%")
    assert not intorstring.is_percentage(5)
