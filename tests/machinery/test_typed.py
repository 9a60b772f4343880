"""How values are owned: every kind of list and map, walked, compared, merged and cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery import fieldset, typed_check
from pinnace.machinery.fieldset import Fields
from pinnace.machinery.meta import GVK
from pinnace.machinery.schema import Schema, Schemas
from pinnace.machinery.typed import DEDUCED, Node, created, field_set, node_of
from pinnace.machinery.typed_compare import compare
from pinnace.machinery.typed_merge import extract, merge, remove, with_named_fields

_STRING = {"type": "string"}
_ITEM = {
    "type": "object",
    "properties": {"name": _STRING, "port": {"type": "integer"}, "deep": {"type": "array", "items": _STRING}},
}
_EVERYTHING = {
    "type": "object",
    "properties": {
        "text": _STRING,
        "number": {"type": "integer"},
        "flag": {"type": "boolean"},
        "free": {"type": "object"},
        "struct": {"type": "object", "properties": {"a": _STRING, "b": _STRING}},
        "atomicStruct": {
            "type": "object",
            "properties": {"a": _STRING, "b": _STRING},
            "x-kubernetes-map-type": "atomic",
        },
        "map": {"type": "object", "additionalProperties": _STRING},
        "mapOfStructs": {"type": "object", "additionalProperties": _ITEM},
        "atomicMap": {"type": "object", "additionalProperties": _STRING, "x-kubernetes-map-type": "atomic"},
        "list": {"type": "array", "items": _STRING},
        "atomicList": {"type": "array", "items": _ITEM, "x-kubernetes-list-type": "atomic"},
        "set": {"type": "array", "items": _STRING, "x-kubernetes-list-type": "set"},
        "mergedSet": {"type": "array", "items": _STRING, "x-kubernetes-patch-strategy": "merge"},
        "keyed": {
            "type": "array",
            "items": _ITEM,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
        "twoKeys": {
            "type": "array",
            "items": _ITEM,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["port", "name"],
        },
        "merged": {
            "type": "array",
            "items": _ITEM,
            "x-kubernetes-patch-strategy": "merge",
            "x-kubernetes-patch-merge-key": "name",
        },
    },
}
NODE = node_of(Schema(Schemas.load(), _EVERYTHING))


def pod_node() -> Node:
    return node_of(Schemas.load().for_gvk(GVK("", "v1", "Pod")))


def lines(fields: Fields) -> list[str]:
    return sorted(map(fieldset.path_text, fieldset.paths(fields)))


# value, what applying it owns, what creating it owns besides
_SHAPES: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({"text": "x"}, [".text"], []),
    ({"text": None}, [".text"], []),
    ({"free": {"a": {"b": 1}}}, [".free"], []),
    ({"struct": {"a": "1"}}, [".struct.a"], [".struct"]),
    ({"struct": {}}, [".struct"], []),
    ({"struct": None}, [".struct"], []),
    ({"atomicStruct": {"a": "1"}}, [".atomicStruct"], []),
    ({"map": {"k": "1"}}, [".map.k"], [".map"]),
    ({"map": {}}, [".map"], []),
    ({"mapOfStructs": {"k": {"name": "n"}}}, [".mapOfStructs.k", ".mapOfStructs.k.name"], [".mapOfStructs"]),
    ({"atomicMap": {"k": "1"}}, [".atomicMap"], []),
    ({"list": ["a"]}, [".list"], []),
    ({"list": []}, [".list"], []),
    ({"atomicList": [{"name": "a"}]}, [".atomicList"], []),
    ({"set": ["b", "a"]}, ['.set[="a"]', '.set[="b"]'], [".set"]),
    ({"set": ["a", "a"]}, ['.set[="a"]'], [".set"]),
    ({"set": []}, [], [".set"]),
    ({"mergedSet": ["a"]}, ['.mergedSet[="a"]'], [".mergedSet"]),
    ({"keyed": [{"name": "a", "port": 1}]}, ['.keyed[name="a"]', '.keyed[name="a"].name', '.keyed[name="a"].port'],
     [".keyed"]),
    ({"keyed": [{"name": "a", "deep": ["x"]}]}, ['.keyed[name="a"]', '.keyed[name="a"].deep', '.keyed[name="a"].name'],
     [".keyed"]),
    ({"keyed": []}, [], [".keyed"]),
    ({"twoKeys": [{"name": "a", "port": 1}]},
     ['.twoKeys[name="a",port=1]', '.twoKeys[name="a",port=1].name', '.twoKeys[name="a",port=1].port'], [".twoKeys"]),
    ({"twoKeys": [{"name": "a"}]}, ['.twoKeys[name="a"]', '.twoKeys[name="a"].name'], [".twoKeys"]),
    ({"merged": [{"name": "a"}]}, ['.merged[name="a"]', '.merged[name="a"].name'], [".merged"]),
]  # fmt: skip


@pytest.mark.parametrize(("value", "applied", "more"), _SHAPES)
def test_every_shape_has_its_fields(value: Any, applied: list[str], more: list[str]) -> None:
    assert lines(field_set(NODE, value)) == applied
    assert lines(created(NODE, present=True)(value)) == sorted([*applied, *more])
    assert compare(NODE, {}, value).added == created(NODE, present=True)(value)
    assert compare(NODE, value, {}).removed == created(NODE, present=True)(value)


def test_without_a_schema_maps_have_parts_and_lists_have_not() -> None:
    value = {"spec": {"a": {"b": 1}, "list": [{"name": "x"}], "none": {}}}
    assert lines(field_set(DEDUCED, value)) == [".spec", ".spec.a", ".spec.a.b", ".spec.list", ".spec.none"]
    assert lines(created(DEDUCED, present=True)(value)) == [".spec", ".spec.a", ".spec.a.b", ".spec.list", ".spec.none"]


_ONE = {"name": "a", "port": 1}
_TWO = {"name": "b", "port": 2}


@pytest.mark.parametrize(
    ("old", "new", "added", "modified", "removed"),
    [
        ({"text": "a"}, {"text": "a"}, [], [], []),
        ({"text": "a"}, {"text": "b"}, [], [".text"], []),
        ({"text": "a"}, {}, [], [], [".text"]),
        ({"struct": {"a": "1"}}, {"struct": {"b": "1"}}, [".struct.b"], [], [".struct.a"]),
        ({"struct": {"a": "1"}}, {"struct": {}}, [], [], [".struct.a"]),
        ({"atomicStruct": {"a": "1"}}, {"atomicStruct": {"b": "1"}}, [], [".atomicStruct"], []),
        ({"map": {"a": "1", "b": "2"}}, {"map": {"a": "2", "c": "3"}}, [".map.c"], [".map.a"], [".map.b"]),
        ({"list": ["a", "b"]}, {"list": ["b", "a"]}, [], [".list"], []),
        ({"set": ["a", "b"]}, {"set": ["b", "a"]}, [], [], []),
        ({"set": ["a"]}, {"set": ["b"]}, ['.set[="b"]'], [], ['.set[="a"]']),
        ({"set": ["a", "a"]}, {"set": ["a"]}, ['.set[="a"]'], [], ['.set[="a"]']),
        ({"keyed": [_ONE, _TWO]}, {"keyed": [_TWO, _ONE]}, [], [], []),
        ({"keyed": [_ONE]}, {"keyed": [{**_ONE, "port": 9}]}, [], ['.keyed[name="a"].port'], []),
        ({"keyed": [_ONE]}, {"keyed": [_ONE, _TWO]},
         ['.keyed[name="b"]', '.keyed[name="b"].name', '.keyed[name="b"].port'], [], []),
        ({"free": {"a": 1}}, {"free": {"a": 2}}, [], [".free"], []),
    ],
)  # fmt: skip
def test_changes_are_found(old: Any, new: Any, added: list[str], modified: list[str], removed: list[str]) -> None:
    found = compare(NODE, old, new)
    assert (lines(found.added), lines(found.modified), lines(found.removed)) == (added, modified, removed)


def test_without_a_schema_true_is_not_one() -> None:
    assert lines(compare(DEDUCED, {"a": {"b": 1}}, {"a": {"b": True}}).modified) == [".a.b"]


def test_without_a_schema_a_map_may_become_a_scalar() -> None:
    found = compare(DEDUCED, {"a": {"b": 1}}, {"a": 1})
    assert (lines(found.modified), lines(found.removed)) == ([".a"], [".a.b"])


@pytest.mark.parametrize(
    ("live", "config", "merged"),
    [
        ({"text": "a", "number": 1}, {"text": "b"}, {"text": "b", "number": 1}),
        ({"struct": {"a": "1"}}, {"struct": {"b": "2"}}, {"struct": {"a": "1", "b": "2"}}),
        ({"atomicStruct": {"a": "1"}}, {"atomicStruct": {"b": "2"}}, {"atomicStruct": {"b": "2"}}),
        ({"map": {"a": "1"}}, {"map": {"b": "2"}}, {"map": {"a": "1", "b": "2"}}),
        ({"map": {"a": "1"}}, {"map": None}, {"map": {"a": "1"}}),
        ({"atomicMap": {"a": "1"}}, {"atomicMap": {"b": "2"}}, {"atomicMap": {"b": "2"}}),
        ({"list": ["a"]}, {"list": ["b"]}, {"list": ["b"]}),
        ({"set": ["a", "b"]}, {"set": ["b", "c"]}, {"set": ["a", "b", "c"]}),
        ({"set": ["a", "b", "c"]}, {"set": ["c", "a"]}, {"set": ["b", "c", "a"]}),
        ({"keyed": [_ONE]}, {"keyed": [{"name": "a", "deep": ["x"]}]}, {"keyed": [{**_ONE, "deep": ["x"]}]}),
        ({"keyed": [_ONE]}, {"keyed": [_TWO]}, {"keyed": [_ONE, _TWO]}),
        ({"keyed": [_ONE, _TWO]}, {"keyed": [_TWO, _ONE]}, {"keyed": [_TWO, _ONE]}),
        ({"keyed": [_ONE, _ONE]}, {"keyed": [{"name": "a"}]}, {"keyed": [{"name": "a"}]}),
        ({"twoKeys": [{"port": 1, "name": "a"}]}, {"twoKeys": [{"port": 1, "name": "b"}]},
         {"twoKeys": [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}]}),
    ],
)  # fmt: skip
def test_a_configuration_is_merged(live: Any, config: Any, merged: Any) -> None:
    assert merge(NODE, live, config) == merged


@pytest.mark.parametrize(
    ("order", "config", "merged"),
    [
        ("abcd", "db", "acdb"),
        ("abcd", "bx", "abcdx"),
        ("ab", "xa", "xab"),
        ("xy", "abc", "xyabc"),
        ("abc", "cba", "cba"),
        ("aXbYc", "cb", "aXYcb"),
    ],
)
def test_the_order_is_that_of_the_configuration(order: str, config: str, merged: str) -> None:
    """What the configuration does not name keeps its place as far as that goes."""
    assert sorted(merged) == sorted(set(order) | set(config))
    assert "".join(merge(NODE, {"set": list(order)}, {"set": list(config)})["set"]) == merged


@pytest.mark.parametrize(
    ("value", "members", "left"),
    [
        ({"text": "a", "number": 1}, ["f:text"], {"number": 1}),
        ({"map": {"a": "1", "b": "2"}}, ["f:map", "f:a"], {"map": {"b": "2"}}),
        ({"map": {"a": "1"}}, ["f:map", "f:a"], {"map": {}}),
        ({"set": ["a", "b"]}, ["f:set", 'v:"a"'], {"set": ["b"]}),
        ({"keyed": [_ONE, _TWO]}, ["f:keyed", 'k:{"name":"a"}'], {"keyed": [_TWO]}),
        ({"keyed": [_ONE]}, ["f:keyed", 'k:{"name":"a"}', "f:port"], {"keyed": [{"name": "a"}]}),
        ({"list": ["a"]}, ["f:list"], {}),
    ],
)
def test_members_are_taken_out(value: Any, members: list[str], left: Any) -> None:
    assert remove(NODE, value, fieldset.of(tuple(members))) == left


def test_a_struct_goes_with_all_that_is_in_it() -> None:
    fields = fieldset.of(("f:struct", "f:a"), ("f:map", "f:a"))
    assert lines(with_named_fields(NODE, fields)) == [".map", ".map.a", ".struct", ".struct.a"]


_NO_KEY = (
    '.keyed: element 0: associative list with keys has an element that omits all key fields ["name"] '
    "(and doesn't have default values for any key fields)"
)


@pytest.mark.parametrize(
    ("value", "complaints"),
    [
        ({"foo": 1}, [".foo: field not declared in schema"]),
        ({"struct": {"c": 1}}, [".struct.c: field not declared in schema"]),
        ({"atomicStruct": {"c": 1}}, [".atomicStruct.c: field not declared in schema"]),
        ({"text": True}, [".text: expected string, got &value.valueUnstructured{Value:true}"]),
        ({"text": 8080}, [".text: expected string, got &value.valueUnstructured{Value:8080}"]),
        ({"number": "1"}, [".number: expected numeric (int or float), got string"]),
        ({"flag": "yes"}, [".flag: expected boolean, got &{yes}"]),
        ({"struct": "abc"}, [".struct: expected map, got &{abc}"]),
        ({"set": {"a": "b"}}, [".set: expected list, got &{map[a:b]}"]),
        ({"keyed": [_ONE, _ONE]}, ['.keyed: duplicate entries for key [name="a"]']),
        ({"keyed": [{"port": 1}]}, [
            _NO_KEY]),
        ({"keyed": [None]}, [".keyed: element 0: associative list with keys may not have a null element"]),
        ({"keyed": ["a"]}, [".keyed: element 0: associative list with keys may not have non-map elements"]),
        ({"keyed": [{"name": "a", "x": 1}]}, ['.keyed[name="a"].x: field not declared in schema']),
        ({"set": [{}]}, [".set: element 0: associative list without keys has an element that's a map type"]),
        ({"text": None, "struct": None, "keyed": None, "free": {"a": [1]}, "map": {"a": "b"}}, []),
    ],
)  # fmt: skip
def test_wrong_configurations_are_told_what_is_wrong(value: Any, complaints: list[str]) -> None:
    assert typed_check.problems(NODE, value) == complaints


def test_several_complaints_are_a_list() -> None:
    assert typed_check.worded([".a: x", ".b: y"]) == "errors:\n  .a: x\n  .b: y"


def test_the_protocol_of_a_port_is_part_of_its_key_also_when_left_out() -> None:
    ports = {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80}]}]}}
    port = '.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"]'
    assert port in lines(field_set(pod_node(), ports))
    filled = {"spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}]}]}}
    assert merge(pod_node(), filled, ports) == filled


# Laws.

_ITEMS = st.fixed_dictionaries({"name": st.sampled_from("abc")}, optional={"port": st.integers(0, 2)})
_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "text": st.sampled_from("xy"),
        "number": st.integers(0, 2),
        "struct": st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), min_size=1),
        "atomicStruct": st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), min_size=1),
        "map": st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), min_size=1),
        "list": st.lists(st.sampled_from("ab"), min_size=1, max_size=3),
        "set": st.lists(st.sampled_from("abc"), unique=True, min_size=1),
        "keyed": st.lists(_ITEMS, unique_by=lambda item: item["name"], min_size=1),
        "free": st.dictionaries(st.sampled_from("ab"), st.integers(0, 1), min_size=1),
    },
)


@given(_VALUES, _VALUES)
def test_what_was_merged_can_be_extracted(live: Any, config: Any) -> None:
    merged = merge(NODE, live, config)
    assert compare(NODE, config, extract(NODE, merged, field_set(NODE, config))).is_same
    assert merge(NODE, merged, config) == merged
    assert typed_check.problems(NODE, merged) == []


@given(_VALUES, _VALUES)
def test_a_comparison_tells_the_way_from_one_to_the_other(old: Any, new: Any) -> None:
    found = compare(NODE, old, new)
    back = compare(NODE, new, old)
    assert (found.added, found.removed) == (back.removed, back.added)
    assert found.modified == back.modified
    restored = merge(NODE, remove(NODE, old, found.removed), extract(NODE, new, found.changed))
    assert compare(NODE, restored, new).is_same


@given(_VALUES)
def test_nothing_distinguishes_a_value_from_itself(value: Any) -> None:
    assert compare(NODE, value, value).is_same
    assert merge(NODE, value, value) == value
    assert merge(NODE, {}, value) == value
