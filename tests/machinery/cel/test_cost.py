"""Estimates of cost are those that Kubernetes makes for the same schemas and rules."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.cel import cost
from pinnace.machinery.cel.environment import Environment
from pinnace.machinery.cel.schema_types import schema_type
from pinnace.machinery.meta import Obj


def scalar(kind: str) -> Obj:
    if kind == "int-or-string":
        return {"x-kubernetes-int-or-string": True}
    formats = ("date", "date-time", "duration", "byte")
    return {"type": "string", "format": kind} if kind in formats else {"type": kind}


def array(items: Obj, limit: int | None = None) -> Obj:
    return {"type": "array", "items": items, **({"maxItems": limit} if limit is not None else {})}


def mapping(values: Obj, limit: int | None = None) -> Obj:
    return {
        "type": "object",
        "additionalProperties": values,
        **({"maxProperties": limit} if limit is not None else {}),
    }


def text(limit: int | None = None, **more: Any) -> Obj:
    return {"type": "string", **({"maxLength": limit} if limit is not None else {}), **more}


def estimate(schema: Obj, rule: str) -> int:
    of = schema_type(schema)
    assert of is not None
    return cost.estimate(Environment(99, {"self": of, "oldSelf": of}).compile(rule).tree)


ITEM: Obj = {"type": "object", "properties": {"required": {"type": "string"}}, "required": ["required"]}
ALL = "self.all(x, true)"


@pytest.mark.parametrize(
    ("items", "rule", "unlimited", "limit", "limited"),
    [
        (scalar("number"), ALL, 4718591, 10, 32),
        (scalar("string"), ALL, 3145727, 20, 62),
        (scalar("boolean"), ALL, 1887437, 5, 17),
        (array(scalar("number")), ALL, 3145727, 100, 302),
        (ITEM, ALL, 555128, 50, 152),
        (scalar("int-or-string"), ALL, 4718591, 10, 32),
        (scalar("duration"), ALL, 2359295, 5, 17),
        (scalar("date"), ALL, 725936, 15, 47),
        (scalar("date-time"), ALL, 428963, 25, 77),
        (scalar("number"), "self[1] == 0.0", 2, 5000, 2),
        (scalar("string"), "self[1] == self[1]", 314577, 8, 314577),
        (scalar("number"), "self.all(x, x == 0.0)", 6291454, 3 * 1024 * 2048, 25165826),
        (scalar("int-or-string"), "self[0] == 5", 3, 10, 3),
        (scalar("boolean"), "self[0] == false", 2, 25, 2),
        (ITEM, "self[0] == null", 2, 422, 2),
        (array(scalar("number")), "self[0][0] == -1.0", 3, 51, 3),
        (mapping(scalar("number")), "self.all(x, x.y == 25.2)", 6291452, 12, 74),
        (mapping(scalar("number")), "self[0].x > 2.0", 4, 3000, 4),
        (scalar("duration"), "self[0].getHours() == 2", 4, 525, 4),
    ],
)
def test_lists_cost_as_much_as_they_can_hold(items: Obj, rule: str, unlimited: int, limit: int, limited: int) -> None:
    assert estimate(array(items), rule) == unlimited
    assert estimate(array(items, limit), rule) == limited


@pytest.mark.parametrize(
    ("values", "rule", "unlimited", "limit", "limited"),
    [
        (scalar("number"), ALL, 1348169, 10, 32),
        (scalar("number"), "has(self.x)", 0, 100, 0),
        (scalar("string"), ALL, 1179647, 3, 11),
        (scalar("boolean"), ALL, 943718, 100, 302),
        (scalar("int-or-string"), ALL, 1348169, 15, 47),
        (scalar("duration"), ALL, 1048577, 5, 17),
        (scalar("date"), ALL, 524288, 10, 32),
        (scalar("date-time"), ALL, 349526, 25, 77),
        (mapping(scalar("number")), ALL, 1179647, 10, 32),
        (array(scalar("number")), ALL, 1179647, 25, 77),
        (ITEM, ALL, 428963, 20, 62),
        (scalar("number"), 'self["x"] == 0.0', 2, 0, 2),
        (scalar("integer"), "oldSelf.size() == self.size()", 5, 10, 5),
        (scalar("date-time"), 'self["a"] == self["b"]', 8, 7, 8),
        (scalar("duration"), 'self["c"] == self["d"]', 8, 42, 8),
    ],
)
def test_maps_cost_as_much_as_they_can_hold(values: Obj, rule: str, unlimited: int, limit: int, limited: int) -> None:
    assert estimate(mapping(values), rule) == unlimited
    assert estimate(mapping(values, limit), rule) == limited


@pytest.mark.parametrize(
    ("rule", "unlimited", "limit", "limited"),
    [
        ("self.contains('test')", 314574, 10, 5),
        ("self.startsWith('test')", 2, 15, 2),
        ("self.endsWith('test')", 2, 30, 2),
        ('size(self + "hello") > size("hello")', 314578, 4, 7),
        ('self.matches("x")', 314574, 50, 22),
        ('"".matches("(((((((((())))))))))[0-9]")', 7, 10, 7),
        ('self.matches("")', 1, 100, 1),
        ('self == "x"', 2, 0, 1),
        ("self.find('[0-9]+') == ''", 629147, 10, 11),
        ("self.lowerAscii() == 'lower!'", 314575, 10, 6),
    ],
)
def test_strings_cost_as_much_as_they_are_long(rule: str, unlimited: int, limit: int, limited: int) -> None:
    assert estimate(text(), rule) == unlimited
    assert estimate(text(limit), rule) == limited


def test_functions_cost_what_they_walk_and_write() -> None:
    strings = array(text(10), 10)
    assert estimate(array(text()), "self.join(' ') == 'aa bb'") == pytest.approx(329853068905, rel=1e-8)
    assert estimate(strings, "self.join(' ') == 'aa bb'") == 43
    assert estimate(array(text()), "self.isSorted() == true") == 329854432052
    assert estimate(strings, "self.isSorted() == true") == 52
    replaced: Obj = {"type": "object", "properties": {"str": text(4), "before": text(2), "after": text(4)}}
    assert estimate(replaced, "self.str.replace(self.before, self.after) == 'does not matter'") == 12
    split: Obj = {"type": "object", "properties": {"str": text(), "separator": text()}}
    assert estimate(split, "self.str.split(self.separator) == []") == 629160


@pytest.mark.parametrize(("depth", "limited"), [(2, 352), (3, 3552)])
def test_loops_within_loops_multiply(depth: int, limited: int) -> None:
    names = "xyz"[:depth]
    rule = "".join(f"self.all({name}, " for name in names) + "true" + ")" * depth
    assert estimate(array(scalar("number"), 10), rule) == limited
    assert estimate(array(scalar("number")), rule) > cost.PER_EXPRESSION


@pytest.mark.parametrize(
    ("worst", "shown"),
    [
        (12_000_000, "1.200000x"),
        (20_000_000, "2.0x"),
        (999_000_000, "99.9x"),
        (10**10, "more than 100x"),
    ],
)
def test_a_cost_beyond_its_limit_says_by_how_much(worst: int, shown: str) -> None:
    assert cost.over("estimated rule cost", worst, cost.PER_EXPRESSION).startswith(
        f"estimated rule cost exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, "
    )
