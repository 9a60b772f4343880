"""Structural schemas of custom resources: their own rules, pruning, defaulting, and values held against them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery import structural_rules
from pinnace.machinery.decoding import DecodeError
from pinnace.machinery.errors import Cause
from pinnace.machinery.meta import GVK, Obj, deep_copy
from pinnace.machinery.schema import Schemas
from pinnace.machinery.structural import Structural, compile_structural, prune
from pinnace.machinery.structural_defaults import default_errors, set_defaults
from pinnace.machinery.structural_formats import has_format
from pinnace.machinery.structural_values import go_float, list_type_errors, validate_values

CRON_TAB = GVK("stable.example.com", "v1", "CronTab")


def obj(**properties: Any) -> Obj:
    return {"type": "object", "properties": properties}


def array(items: Obj, **more: Any) -> Obj:
    return {"type": "array", "items": items, **more}


STRING: Obj = {"type": "string"}
INTEGER: Obj = {"type": "integer"}


def compiled(raw: Obj) -> Structural:
    return compile_structural(raw, Schemas.load())


def worded(causes: list[Cause]) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in causes]


def resource(**fields: Any) -> Obj:
    return {"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "a"}, **fields}


# The schema's own rules.


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({}, ["s.type: Required value: must not be empty at the root"]),
        (STRING, ['s.type: Invalid value: "string": must be object at the root']),
        (
            obj(spec={"properties": {"a": STRING}}),
            ["s.properties[spec].type: Required value: must not be empty for specified object fields"],
        ),
        (
            obj(a=array({})),
            ["s.properties[a].items.type: Required value: must not be empty for specified array items"],
        ),
        (obj(a={"type": "array"}), ["s.properties[a].items: Required value: must be specified"]),
        (
            {"type": "object", "additionalProperties": STRING},
            ["s.additionalProperties: Forbidden: must not be used at the root"],
        ),
        (
            obj(a={"type": "string", "anyOf": [{"type": "string"}]}),
            ["s.properties[a].anyOf[0].type: Forbidden: must be empty to be structural"],
        ),
        (
            obj(a={"type": "object", "oneOf": [{"properties": {"b": {"minimum": 1}}}]}),
            [
                (
                    "s.properties[a].properties[b]: Required value: because it is defined in "
                    "s.properties[a].oneOf[0].properties[b]"
                )
            ],
        ),
        (
            obj(metadata=obj(labels={"type": "object"})),
            [
                (
                    "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, "
                    "but metadata is implicitly specified"
                )
            ],
        ),
        (obj(metadata=obj(name={"type": "string", "maxLength": 20})), []),
        (obj(kind=INTEGER), ['s.properties[kind].type: Invalid value: "integer": must be string']),
        (obj(a={"x-kubernetes-int-or-string": True, "anyOf": [INTEGER, STRING]}), []),
        (obj(a={"x-kubernetes-preserve-unknown-fields": True}), []),
        (
            obj(a={"type": "object", "x-kubernetes-embedded-resource": True}),
            [
                (
                    "s.properties[a].properties: Required value: must not be empty if x-kubernetes-embedded-resource "
                    "is true without x-kubernetes-preserve-unknown-fields"
                )
            ],
        ),
        (
            obj(a={"type": "string", "pattern": "("}),
            [
                (
                    's.properties[a].pattern: Invalid value: "(": must be a valid regular expression, but isn\'t: '
                    "error parsing regexp: missing closing ): `(`"
                )
            ],
        ),
    ],
)
def test_a_schema_that_is_not_structural_is_told_where(raw: Obj, expected: list[str]) -> None:
    assert worded(structural_rules.structural_errors(raw, "s")) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (obj(a={"$ref": "#/x", "type": "string"}), ["s.properties[a].$ref: Forbidden: $ref is not supported"]),
        (
            obj(a=array(STRING, uniqueItems=True)),
            [
                (
                    "s.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime "
                    "complexity becomes quadratic"
                )
            ],
        ),
        (
            obj(a={"type": "object", "properties": {"b": STRING}, "additionalProperties": STRING}),
            [
                (
                    "s.properties[a].additionalProperties: Forbidden: additionalProperties and properties are mutual "
                    "exclusive"
                )
            ],
        ),
        (
            obj(a={"type": "strong"}),
            [
                (
                    's.properties[a].type: Unsupported value: "strong": supported values: "array", "boolean", '
                    '"integer", "number", "object", "string"'
                )
            ],
        ),
        (
            obj(a=array(STRING, **{"x-kubernetes-list-type": "bag"})),
            [
                (
                    's.properties[a].x-kubernetes-list-type: Unsupported value: "bag": supported values: "atomic", '
                    '"map", "set"'
                )
            ],
        ),
        (
            obj(a=array(obj(k=STRING), **{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]})),
            [
                (
                    "s.properties[a].items.properties[k].default: Required value: this property is in "
                    "x-kubernetes-list-map-keys, so it must have a default or be a required property"
                )
            ],
        ),
        (
            obj(a=array(obj(k=STRING), **{"x-kubernetes-list-type": "map"})),
            [
                (
                    "s.properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if "
                    "x-kubernetes-list-type is map"
                )
            ],
        ),
        (
            obj(a={"type": "object", "x-kubernetes-preserve-unknown-fields": False}),
            ["s.properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"],
        ),
        (
            obj(kind={"type": "string", "default": "X"}),
            ["s.properties[kind].default: Forbidden: must not be set in top-level kind"],
        ),
        (
            obj(a={"type": "object", "x-kubernetes-validations": [{"rule": " "}]}),
            ["s.properties[a].x-kubernetes-validations[0].rule: Required value: rule is not specified"],
        ),
    ],
)
def test_keywords_that_are_not_supported_are_named(raw: Obj, expected: list[str]) -> None:
    assert worded(structural_rules.schema_errors(raw, "s")) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (5, "s: Invalid value: 5: must be of type object"),
        ({"type": 5}, "s.type: Invalid value: 5: must be of type string"),
        (obj(a=STRING, b=7), "s.properties[b]: Invalid value: 7: must be of type object"),
        ({"properties": []}, "s.properties: Invalid value: []: must be of type object"),
        (
            obj(a={"items": {"maxLength": "x"}}),
            's.properties[a].items.maxLength: Invalid value: "x": must be of type integer',
        ),
        ({"allOf": 1}, "s.allOf: Invalid value: 1: must be of type array"),
        ({"required": [1]}, "s.required[0]: Invalid value: 1: must be of type string"),
    ],
)
def test_what_is_no_schema_is_refused_before_it_is_read(raw: Any, expected: str) -> None:
    assert worded(structural_rules.type_errors(raw, "s")) == [expected]


# Pruning.

PRUNED = compiled(
    obj(
        spec=obj(
            a=STRING,
            list=array(obj(x=STRING)),
            map={"type": "object", "additionalProperties": obj(x=STRING)},
            free={
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "properties": {"known": obj(x=STRING)},
            },
            embedded={
                "type": "object",
                "x-kubernetes-embedded-resource": True,
                "x-kubernetes-preserve-unknown-fields": True,
            },
        )
    )
)


@pytest.mark.parametrize(
    ("spec", "kept", "unknown"),
    [
        ({"a": "1", "b": 2}, {"a": "1"}, ["spec.b"]),
        ({"list": [{"x": "1", "y": 1}, {}]}, {"list": [{"x": "1"}, {}]}, ["spec.list[0].y"]),
        ({"map": {"k": {"x": "1", "y": 1}}}, {"map": {"k": {"x": "1"}}}, ["spec.map.k.y"]),
        (
            {"free": {"known": {"x": "1", "y": 1}, "other": {"z": [1]}}},
            {"free": {"known": {"x": "1"}, "other": {"z": [1]}}},
            ["spec.free.known.y"],
        ),
        (
            {"embedded": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "odd": 1}, "spec": {"q": 1}}},
            {"embedded": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"q": 1}}},
            ["spec.embedded.metadata.odd"],
        ),
    ],
)
def test_fields_that_the_schema_does_not_have_are_pruned(spec: Obj, kept: Obj, unknown: list[str]) -> None:
    given_object = resource(spec=spec)
    before = deep_copy(given_object)

    pruned, warnings = prune(PRUNED, given_object, CRON_TAB)

    assert pruned == resource(spec=kept)
    assert warnings == [f'unknown field "{path}"' for path in unknown]
    assert given_object == before


def test_an_object_that_fits_is_taken_as_it_is() -> None:
    given_object = resource(spec={"a": "1"})

    assert PRUNED.decode(given_object)[0] is given_object


def test_strict_decoding_refuses_unknown_fields() -> None:
    with pytest.raises(
        DecodeError, match=r'strict decoding error: unknown field "metadata.foo", unknown field "spec.b"'
    ):
        PRUNED.decode({**resource(spec={"b": 1}), "metadata": {"foo": 1}}, True, CRON_TAB)


def test_metadata_that_is_none_is_refused() -> None:
    with pytest.raises(DecodeError, match="cannot be handled as a CronTab: json: cannot unmarshal number"):
        PRUNED.decode({**resource(), "metadata": {"name": 5}}, False, CRON_TAB)


def test_apply_finds_types_and_keys_as_in_generated_schemas() -> None:
    keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
    schema = compiled(
        obj(spec=obj(a=array(obj(k=STRING), **keys), m={"type": "object", "additionalProperties": STRING}))
    )
    spec = schema.fields["spec"]

    listed = spec.fields["a"]
    assert (listed.type, listed.list_type, listed.list_map_keys) == ("list", "map", ("k",))
    assert listed.items is not None
    assert listed.items.fields["k"].type == "string"
    assert spec.fields["m"].type == "map"
    assert spec.fields["m"].items is not None
    assert schema.fields["metadata"].fields["labels"].type == "map"


# Defaulting.

DEFAULTED = obj(
    spec={
        "type": "object",
        "default": {"inner": {}},
        "properties": {
            "replicas": {"type": "integer", "default": 1},
            "nullable": {"type": "string", "nullable": True, "default": "d"},
            "plain": STRING,
            "inner": obj(deep={"type": "string", "default": "x"}),
            "list": array(obj(n={"type": "integer", "default": 7})),
            "map": {"type": "object", "additionalProperties": {"type": "string", "default": "m"}},
        },
    }
)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, {"inner": {"deep": "x"}, "replicas": 1, "nullable": "d"}),
        ({}, {"replicas": 1, "nullable": "d"}),
        ({"replicas": None, "nullable": None, "plain": None}, {"replicas": 1, "nullable": None}),
        ({"inner": {}}, {"inner": {"deep": "x"}, "replicas": 1, "nullable": "d"}),
        ({"list": [{}, {"n": 2}]}, {"list": [{"n": 7}, {"n": 2}], "replicas": 1, "nullable": "d"}),
        ({"map": {"a": None, "b": "c"}}, {"map": {"a": "m", "b": "c"}, "replicas": 1, "nullable": "d"}),
    ],
)
def test_missing_fields_are_filled_in_and_forbidden_nulls_dropped(spec: Obj | None, expected: Obj) -> None:
    given_object = resource() if spec is None else resource(spec=spec)

    assert set_defaults(compiled(DEFAULTED), given_object)
    assert given_object["spec"] == expected
    assert not set_defaults(compiled(DEFAULTED), given_object)


def test_defaults_are_held_against_their_schema() -> None:
    raw = obj(
        a={"type": "integer", "default": "x"},
        b={"type": "object", "properties": {"c": STRING}, "default": {"d": 1}},
    )

    assert worded(default_errors(compiled(raw), "s")) == [
        (
            's.properties[a].default: Invalid value: "string": s.properties[a].default in body must be of type '
            'integer: "string"'
        ),
        's.properties[b].default: Invalid value: {"d":1}: must not have unknown fields',
    ]


# Values.


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        (INTEGER, "string", ['a: Invalid value: "string": a in body must be of type integer: "string"']),
        (STRING, 5, ['a: Invalid value: "integer": a in body must be of type string: "integer"']),
        (INTEGER, 1.5, ['a: Invalid value: "number": a in body must be of type integer: "number"']),
        (INTEGER, 5.0, []),
        ({"type": "number"}, 5, []),
        (STRING, None, ['a: Invalid value: "null": a in body must be of type string: "null"']),
        ({**STRING, "nullable": True}, None, []),
        ({"x-kubernetes-int-or-string": True}, "1", []),
        (
            {"x-kubernetes-int-or-string": True},
            [],
            ['a: Invalid value: "array": a in body must be of type integer,string: "array"'],
        ),
        ({**INTEGER, "minimum": 1}, 0, ["a: Invalid value: 0: a in body should be greater than or equal to 1"]),
        ({**INTEGER, "maximum": 10}, 11, ["a: Invalid value: 11: a in body should be less than or equal to 10"]),
        (
            {**INTEGER, "minimum": 1, "exclusiveMinimum": True},
            1,
            ["a: Invalid value: 1: a in body should be greater than 1"],
        ),
        ({**INTEGER, "multipleOf": 3}, 7, ["a: Invalid value: 7: a in body should be a multiple of 3"]),
        ({**STRING, "maxLength": 2}, "abc", ["a: Too long: may not be more than 2 bytes"]),
        ({**STRING, "minLength": 2}, "a", ['a: Invalid value: "a": a in body should be at least 2 chars long']),
        ({**STRING, "pattern": "^[a-z]+$"}, "A\n", ["a: Invalid value: \"A\\n\": a in body should match '^[a-z]+$'"]),
        ({**STRING, "enum": ["x", "y"]}, "z", ['a: Unsupported value: "z": supported values: "x", "y"']),
        (
            {**STRING, "format": "date-time"},
            "today",
            ['a: Invalid value: "today": a in body must be of type date-time: "today"'],
        ),
        (array(STRING, maxItems=1), ["a", "b"], ["a: Too many: 2: must have at most 1 items"]),
        (array(STRING, minItems=1), [], ["a: Invalid value: 0: a in body should have at least 1 items"]),
        (array(STRING), [1], ['a[0]: Invalid value: "integer": a[0] in body must be of type string: "integer"']),
        ({"type": "object", "required": ["b"]}, {}, ["a.b: Required value"]),
        ({"type": "object", "maxProperties": 1}, {"b": 1, "c": 2}, ["a: Too many: 2: must have at most 1 items"]),
        (
            {**STRING, "not": {"enum": ["x"]}},
            "x",
            ['<nil>: Invalid value: "": "a" must not validate the schema (not)'],
        ),
        (
            {"type": "object", "oneOf": [{"required": ["b"]}, {"required": ["c"]}]},
            {},
            [
                '<nil>: Invalid value: "": "a" must validate one and only one schema (oneOf). Found none valid',
                "a.b: Required value",
            ],
        ),
        (
            {"type": "object", "anyOf": [{"required": ["b"]}]},
            {},
            ['<nil>: Invalid value: "": "a" must validate at least one schema (anyOf)', "a.b: Required value"],
        ),
    ],
)
def test_values_are_judged_in_the_words_of_the_api(schema: Obj, value: Any, expected: list[str]) -> None:
    assert worded(validate_values(obj(a=schema), {"a": value})) == expected


def test_what_has_not_changed_may_stay_wrong() -> None:
    keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
    raw = obj(a={**STRING, "maxLength": 2}, b=STRING, l=array(obj(k=STRING, v={**STRING, "maxLength": 1}), **keys))
    old = {"a": "long", "b": "1", "l": [{"k": "1", "v": "wrong"}, {"k": "2", "v": "x"}]}

    moved = {**old, "b": "2", "l": [{"k": "2", "v": "bad"}, {"k": "1", "v": "wrong"}]}

    assert validate_values(raw, {**old, "b": "2"}, "", old) == []
    assert worded(validate_values(raw, moved, "", old)) == ["l[0].v: Too long: may not be more than 1 bytes"]
    assert len(validate_values(raw, {**old, "a": "longer"}, "", old)) == 1
    assert len(validate_values(obj(a=INTEGER), {"a": True}, "", {"a": 1})) == 1


def test_items_of_sets_and_keys_of_map_lists_are_unique() -> None:
    keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}
    schema = compiled(obj(s=array(STRING, **{"x-kubernetes-list-type": "set"}), m=array(obj(k=STRING), **keys)))

    assert worded(list_type_errors(schema, {"s": ["a", "b", "a"], "m": [{"k": "1"}, {"k": "1"}]})) == [
        's[2]: Duplicate value: "a"',
        'm[1]: Duplicate value: {"k":"1"}',
    ]


@pytest.mark.parametrize(
    ("format_", "good", "bad"),
    [
        ("date-time", "2024-02-29T10:00:00.123456789Z", "2024-02-30T10:00:00Z"),
        ("date", "2024-02-29", "2023-02-29"),
        ("ipv4", "10.0.0.1", "10.0.0.256"),
        ("ipv6", "::1", "10.0.0.1"),
        ("cidr", "10.0.0.0/8", "10.0.0.0"),
        ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
        ("uri", "https://example.com/x", "not a uri"),
        ("email", "a@b.c", "a"),
        ("hostname", "example.com", "-x-"),
        ("mac", "01:23:45:67:89:ab", "01:23"),
        ("byte", "aGk=", "a"),
        ("duration", "1h30m", "soon"),
        ("isbn10", "0-306-40615-2", "0-306-40615-3"),
        ("hexcolor", "#ff00aa", "#ff"),
    ],
)
def test_formats(format_: str, good: str, bad: str) -> None:
    assert has_format(format_, good)
    assert not has_format(format_, bad)
    assert has_format("something-else", bad)


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (-1, "-1"), (65535, "65535"), (1000000, "1e+06"), (2147483647, "2.147483647e+09"), (0.5, "0.5")],
)
def test_limits_are_shown_as_go_shows_floats(number: float, shown: str) -> None:
    assert go_float(number) == shown


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abxyz"), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON)
def test_pruning_and_defaulting_again_change_nothing(spec: Any) -> None:
    schema = compiled(DEFAULTED)
    once, _ = prune(schema, resource(spec=spec), CRON_TAB)
    once = deep_copy(once)
    set_defaults(schema, once)
    twice, unknown = prune(schema, once, CRON_TAB)

    assert not unknown
    assert twice is once
    assert not set_defaults(schema, twice)
