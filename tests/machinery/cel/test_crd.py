"""Validation rules of custom resources: what they refuse, in which words, and which rules a definition may not have."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.cel.crd import compile_rules
from pinnace.machinery.cel.schema_types import escape
from pinnace.machinery.meta import Obj

PATH = "spec.validation.openAPIV3Schema"
INTEGER: Obj = {"type": "integer"}
TEXT: Obj = {"type": "string", "maxLength": 20}


def ruled(schema: Obj, *rules: Any) -> Obj:
    """The schema with rules; a text is a rule without anything else."""
    return {**schema, "x-kubernetes-validations": [{"rule": one} if isinstance(one, str) else one for one in rules]}


def obj(**properties: Obj) -> Obj:
    return {"type": "object", "properties": properties}


def check(schema: Obj, new: Any, old: Any = None) -> list[str]:
    """What is wrong with `spec`, which the schema describes."""
    rules, causes = compile_rules(obj(spec=schema), PATH)
    assert causes == []
    if rules is None:
        return []
    found = rules.validate({"spec": new}, None if old is None else {"spec": old})
    return [f"{cause.field}: {cause.message}" for cause in found]


def problems(schema: Obj, old: Obj | None = None) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in compile_rules(schema, PATH, old)[1]]


SCALE = ruled(obj(min=INTEGER, max=INTEGER, replicas=INTEGER), "self.min <= self.replicas && self.replicas <= self.max")


def test_a_rule_refuses_with_its_text() -> None:
    assert check(SCALE, {"min": 0, "max": 9, "replicas": 3}) == []
    assert check(SCALE, {"min": 0, "max": 1, "replicas": 3}) == [
        'spec: Invalid value: "object": failed rule: self.min <= self.replicas && self.replicas <= self.max'
    ]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"message": "too many"}, 'spec: Invalid value: "object": too many'),
        ({"messageExpression": "'at most ' + string(self.max)"}, 'spec: Invalid value: "object": at most 1'),
        ({"messageExpression": "self.nope", "message": "x"}, None),
        ({"messageExpression": "string(1 / 0)", "message": "too many"}, 'spec: Invalid value: "object": too many'),
        ({"messageExpression": "''", "message": "too many"}, 'spec: Invalid value: "object": too many'),
        ({"reason": "FieldValueForbidden", "message": "no"}, "spec: Forbidden: no"),
        ({"reason": "FieldValueRequired", "message": "no"}, "spec: Required value: no"),
        ({"reason": "FieldValueDuplicate", "message": "no"}, 'spec: Duplicate value: "object"'),
        ({"fieldPath": ".replicas", "message": "no"}, 'spec.replicas: Invalid value: "object": no'),
    ],
)
def test_what_is_said_of_a_broken_rule(more: Obj, told: str | None) -> None:
    schema = ruled(obj(max=INTEGER, replicas=INTEGER), {"rule": "self.replicas <= self.max", **more})
    if told is None:
        assert "undefined field 'nope'" in problems(obj(spec=schema))[0]
    else:
        assert check(schema, {"max": 1, "replicas": 3}) == [told]


def test_rules_stand_on_every_kind_of_value() -> None:
    schema = obj(
        list={"type": "array", "maxItems": 5, "items": ruled(INTEGER, "self > 0")},
        map={"type": "object", "maxProperties": 5, "additionalProperties": ruled(TEXT, "self != 'no'")},
    )
    assert check(schema, {"list": [1, 0], "map": {"a": "no", "b": "yes"}}) == [
        'spec.list[1]: Invalid value: "integer": failed rule: self > 0',
        "spec.map[a]: Invalid value: \"string\": failed rule: self != 'no'",
    ]


def test_a_rule_on_the_whole_object_sees_its_name() -> None:
    rules, causes = compile_rules(ruled(obj(), "self.metadata.name.startsWith('a') && self.kind == 'K'"), PATH)
    assert causes == []
    assert rules is not None
    assert rules.validate({"kind": "K", "metadata": {"name": "ab"}}, None) == []
    [cause] = rules.validate({"kind": "K", "metadata": {"name": "b"}}, None)
    assert cause.field == "<nil>"


@pytest.mark.parametrize(
    ("schema", "rule", "value"),
    [
        (obj(when={"type": "string", "format": "date-time"}), "self.when > timestamp('2020-01-01T00:00:00Z')",
         {"when": "2021-01-01T00:00:00Z"}),
        (obj(day={"type": "string", "format": "date"}), "self.day.getFullYear() == 2021", {"day": "2021-05-06"}),
        (obj(long={"type": "string", "format": "duration"}), "self.long < duration('1h')", {"long": "5m"}),
        (obj(raw={"type": "string", "format": "byte"}), "self.raw == b'hi'", {"raw": "aGk="}),
        (obj(number={"type": "number"}), "self.number + 0.5 == 2.5", {"number": 2}),
        (obj(either={"x-kubernetes-int-or-string": True}), ("type(self.either) == string ? self.either == '5%' : "
         "self.either == 5"), {"either": 5}),
        (obj(**{"a-b": INTEGER, "a.b": INTEGER, "namespace": TEXT, "a__b": INTEGER}),
         "self.a__dash__b + self.a__dot__b + self.a__underscores__b == 6 && self.__namespace__ == 'x'",
         {"a-b": 1, "a.b": 2, "a__b": 3, "namespace": "x"}),
        (obj(list={"type": "array", "items": {"type": "number"}}), "self.list.sum() == 3.0", {"list": [1, 2]}),
        (obj(maybe=INTEGER), "!has(self.maybe) || self.maybe > 0", {}),
        (obj(maybe=INTEGER), "self.?maybe.orValue(1) == 1", {}),
    ],
)  # fmt: skip
def test_values_have_the_types_their_schema_says(schema: Obj, rule: str, value: Obj) -> None:
    assert check(ruled(schema, rule), value) == []


def test_sets_and_maps_know_no_order() -> None:
    ports = {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": obj(name=TEXT, port=INTEGER),
    }
    schema = ruled(
        obj(names={"type": "array", "x-kubernetes-list-type": "set", "items": TEXT}, ports=ports),
        "self.names == oldSelf.names",
        "self.ports == oldSelf.ports",
        "self.names + oldSelf.names == oldSelf.names",
    )
    one, two = {"name": "a", "port": 1}, {"name": "b", "port": 2}
    new: Obj = {"names": ["b", "a"], "ports": [two, one]}
    assert check(schema, new, {"names": ["a", "b"], "ports": [one, two]}) == []
    assert len(check(schema, new, {"names": ["c"], "ports": [one]})) == 3


IMMUTABLE = ruled(obj(name=ruled(TEXT, {"rule": "self == oldSelf", "message": "immutable"})))


@pytest.mark.parametrize(
    ("new", "old", "refused"),
    [
        ({"name": "a"}, None, False),
        ({"name": "a"}, {}, False),
        ({}, {"name": "a"}, False),
        ({"name": "a"}, {"name": "a"}, False),
        ({"name": "b"}, {"name": "a"}, True),
    ],
)
def test_transition_rules_compare_old_and_new(new: Obj, old: Obj | None, refused: bool) -> None:
    assert bool(check(IMMUTABLE, new, old)) is refused


def test_elements_of_maps_are_told_apart_by_their_keys() -> None:
    schema = obj(
        list={
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": ruled(obj(name=TEXT, size=INTEGER), "self.size >= oldSelf.size"),
        }
    )
    old = {"list": [{"name": "a", "size": 5}, {"name": "b", "size": 1}]}
    assert check(schema, {"list": [{"name": "b", "size": 1}, {"name": "a", "size": 5}]}, old) == []
    assert check(schema, {"list": [{"name": "b", "size": 9}, {"name": "a", "size": 4}]}, old) == [
        'spec.list[1]: Invalid value: "object": failed rule: self.size >= oldSelf.size'
    ]


def test_an_optional_old_self_is_asked_on_create_too() -> None:
    rule = {"rule": "oldSelf.hasValue() || self == 1", "optionalOldSelf": True}
    schema = obj(n=ruled(INTEGER, rule))
    assert check(schema, {"n": 1}) == []
    assert len(check(schema, {"n": 2})) == 1
    assert check(schema, {"n": 3}, {"n": 1}) == []


def test_what_did_not_change_is_not_refused() -> None:
    bad = {"min": 5, "max": 1, "replicas": 3}
    assert check(SCALE, bad, bad) == []
    assert len(check(SCALE, {**bad, "replicas": 4}, bad)) == 1
    outer = ruled(obj(inner=SCALE, other=INTEGER), "self.other > 0")
    assert check(outer, {"inner": bad, "other": 1}, {"inner": bad, "other": 2}) == []


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("1 / self.n == 1", 'spec: Invalid value: "object": division by zero evaluating rule: 1 / self.n == 1'),
        (
            "self.either + 1 == 2",
            (
                "spec: Invalid value: \"object\": 'no such overload': call arguments did not match a supported "
                "operator, function or macro signature for rule: self.either + 1 == 2"
            ),
        ),
        ("self.missing == 1", 'spec: Invalid value: "object": no such key: missing evaluating rule: self.missing == 1'),
    ],
)
def test_a_rule_that_fails_refuses(rule: str, told: str) -> None:
    schema = ruled(obj(n=INTEGER, missing=INTEGER, either={"x-kubernetes-int-or-string": True}), rule)
    assert check(schema, {"n": 0, "either": "x"}) == [told]


def shown(rule: str) -> str:
    return (
        f'Invalid value: {{"Rule":"{rule}","Message":"","MessageExpression":"","Reason":null,"FieldPath":"",'
        '"OptionalOldSelf":null}: '
    )


WHERE = f"{PATH}.properties[spec].x-kubernetes-validations[0]"


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        (
            ruled(obj(replicas=INTEGER), "self.replics > 1"),
            (
                f"{WHERE}.rule: {shown('self.replics > 1')}compilation failed: ERROR: <input>:1:5: undefined field "
                "'replics'\n | self.replics > 1\n | ....^"
            ),
        ),
        (
            ruled(obj(n=INTEGER), "self.n"),
            f"{WHERE}.rule: {shown('self.n')}cel expression must evaluate to a bool",
        ),
        (
            ruled(obj(n=INTEGER), "self.n = 1"),
            (
                f"{WHERE}.rule: {shown('self.n = 1')}compilation failed: ERROR: <input>:1:8: Syntax error: token "
                "recognition error at: '= '\n | self.n = 1\n | .......^"
            ),
        ),
        (ruled(obj(), " "), f"{WHERE}.rule: Required value: rule is not specified"),
        (
            ruled(obj(), {"rule": "true", "reason": "Odd"}),
            (
                f'{WHERE}.reason: Unsupported value: "Odd": supported values: "FieldValueDuplicate", '
                '"FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"'
            ),
        ),
        (
            ruled(obj(), {"rule": "true", "message": "a\nb"}),
            f'{WHERE}.message: Invalid value: "a\\nb": message must not contain line breaks',
        ),
        (
            ruled(obj(), {"rule": "true", "fieldPath": ".x"}),
            f'{WHERE}.fieldPath: Invalid value: ".x": fieldPath must be a valid path: does not refer to a valid field',
        ),
        (
            ruled(obj(), {"rule": "true", "optionalOldSelf": True}),
            f"{WHERE}.optionalOldSelf: Invalid value: true: may not be set if oldSelf is not used in rule",
        ),
    ],
)
def test_definitions_with_bad_rules_are_refused(schema: Obj, told: str) -> None:
    assert told in problems(obj(spec=schema))[0]


def test_defaults_are_held_to_the_rules() -> None:
    schema = obj(n={**ruled(INTEGER, "self > 3"), "default": 2})
    assert problems(schema) == [
        f'{PATH}.properties[n].default: Invalid value: "integer": failed rule: self > 3',
    ]
    assert problems(obj(n={**ruled(INTEGER, "self > 3"), "default": 4})) == []


def test_transition_rules_need_elements_with_keys() -> None:
    schema = obj(list={"type": "array", "maxItems": 3, "items": ruled(INTEGER, "self == oldSelf")})
    assert problems(schema) == [
        (
            f'{PATH}.properties[list].items.x-kubernetes-validations[0].rule: Invalid value: "self == oldSelf": '
            f"oldSelf cannot be used on the uncorrelatable portion of the schema within {PATH}.properties[list]"
        )
    ]


def test_rules_that_cost_too_much_are_refused_unless_they_were_there() -> None:
    dear = ruled({"type": "array", "items": {"type": "string"}}, "self.all(x, self.all(y, x == y))")
    advice = (
        "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings "
        "are declared)"
    )
    found = problems(obj(list=dear))
    where = f"{PATH}.properties[list].x-kubernetes-validations[0].rule"
    assert found[0] == f"{where}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {advice}"
    assert found[1] == (
        f"{where}: Forbidden: contributed to estimated rule & messageExpression cost total exceeding cost limit for "
        "entire OpenAPIv3 schema"
    )
    assert problems(obj(list=dear), obj(list=dear)) == []
    bounded = {"type": "array", "maxItems": 10, "items": TEXT}
    assert problems(obj(list=ruled(bounded, "self.all(x, self.all(y, x == y))"))) == []


def test_a_write_may_not_ask_for_endless_work() -> None:
    schema = {"type": "array", "maxItems": 2000, "items": INTEGER}
    raw = obj(list=ruled(schema, "self.all(x, self.all(y, self.all(z, x + y + z > 0)))"))
    rules, _ = compile_rules(raw, PATH, raw)
    assert rules is not None
    [cause] = rules.validate({"list": [1] * 1000}, None)
    assert "no further validation rules will be run due to call cost exceeds limit for rule" in cause.message


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("plain", "plain"),
        ("a-b", "a__dash__b"),
        ("a.b", "a__dot__b"),
        ("a/b", "a__slash__b"),
        ("a__b", "a__underscores__b"),
        ("namespace", "__namespace__"),
        ("$ref", ""),
        ("1st", ""),
    ],
)
def test_names_are_escaped(name: str, escaped: str) -> None:
    assert escape(name) == escaped
