"""Label and field selectors: what they match, how they are written, and the words for what is not one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import (
    EVERYTHING,
    NOTHING,
    FieldRequirement,
    FieldSelector,
    LabelRequirement,
    LabelSelector,
    SelectorError,
    go_text,
    label_selector_errors,
    parse_fields,
    parse_labels,
)

LABELS = {"app": "web", "tier": "front", "size": "5", "empty": ""}

BINARY = "in, notin, =, ==, !=, gt, lt"
QUALIFIED = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', "
    "regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', "
    "regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app=db", False),
        ("app!=db", True),
        ("app!=web", False),
        ("missing!=x", True),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db,cache)", True),
        ("missing notin (x)", True),
        ("app", True),
        ("missing", False),
        ("!missing", True),
        ("!app", False),
        ("! missing", True),
        ("size>4", True),
        ("size<4", False),
        ("app>4", False),
        ("empty=", True),
        ("empty", True),
        ("app=web,tier=front", True),
        ("app=web,tier=back", False),
        ("app in (,web)", True),
        ("in=x", False),
        ("app\t=\nweb", True),
    ],
)
def test_label_selectors_match(text: str, matches: bool) -> None:
    assert parse_labels(text).matches(LABELS) is matches


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("a=b,", "found '', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("!a=b", "found '=', expected: ',' or 'end of string'"),
        ("a b", f"unable to parse requirement: found 'b', expected: {BINARY}"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        (
            "a in ()",
            (
                "unable to parse requirement: values: Invalid value: []: "
                "for 'in', 'notin' operators, values set can't be empty"
            ),
        ),
        ("a==!", "unable to parse requirement: found '!', expected: identifier"),
        (
            "a>z",
            (
                'unable to parse requirement: values[0]: Invalid value: "z": '
                "for 'Gt', 'Lt' operators, the value must be an integer"
            ),
        ),
        ("-a=b", f'unable to parse requirement: <nil>: Invalid value: "-a": name part {QUALIFIED}'),
        ("a=-x", f'unable to parse requirement: values[0][a]: Invalid value: "-x": {VALUE}'),
    ],
)
def test_what_is_no_label_selector_is_refused(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_labels(text)

    assert str(caught.value) == message


names = st.from_regex(r"[a-z][a-z0-9]{0,6}", fullmatch=True)
values = st.from_regex(r"([a-z0-9]{1,5})?", fullmatch=True)
requirements = st.one_of(
    st.builds(LabelRequirement, names, st.sampled_from(["exists", "!"])),
    st.builds(lambda k, o, v: LabelRequirement(k, o, (v,)), names, st.sampled_from(["=", "==", "!="]), values),
    st.builds(
        lambda k, o, v: LabelRequirement(k, o, tuple(sorted(v))),
        names,
        st.sampled_from(["in", "notin"]),
        st.sets(values, min_size=2, max_size=4),
    ),
    st.builds(
        lambda k, o, v: LabelRequirement(k, o, (str(v),)), names, st.sampled_from(["gt", "lt"]), st.integers(0, 99)
    ),
)
selectors = st.lists(requirements, max_size=4).map(
    lambda found: LabelSelector(tuple(sorted(found, key=lambda requirement: requirement.key)))
)


@given(selectors)
def test_a_label_selector_reads_back_from_its_text(selector: LabelSelector) -> None:
    assert parse_labels(str(selector)) == selector


@given(selectors, st.dictionaries(names, values, max_size=4))
def test_a_selector_matches_what_all_its_requirements_match(selector: LabelSelector, labels: dict[str, str]) -> None:
    each = [LabelSelector((requirement,)).matches(labels) for requirement in selector.requirements]

    assert selector.matches(labels) == all(each)


@given(st.text("ab=!(),<> in\\not", max_size=14))
def test_any_text_is_a_label_selector_or_is_refused(text: str) -> None:
    try:
        parse_labels(text)
    except SelectorError:
        return


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (None, False),
        ({}, True),
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "db"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "Exists"}]}, False),
    ],
)
def test_selector_objects_match(selector: dict[str, Any] | None, matches: bool) -> None:
    assert LabelSelector.from_json(selector).matches(LABELS) is matches


def test_an_absent_selector_and_an_empty_one_are_opposites() -> None:
    assert LabelSelector.from_json(None) == NOTHING
    assert LabelSelector.from_json({}) == EVERYTHING == LabelSelector.from_labels(None)


def test_an_unknown_operator_is_refused() -> None:
    with pytest.raises(SelectorError, match='"Like" is not a valid label selector operator'):
        LabelSelector.from_json({"matchExpressions": [{"key": "a", "operator": "Like"}]})


def test_selector_objects_are_validated_field_by_field() -> None:
    selector = {
        "matchLabels": {"a": "-"},
        "matchExpressions": [
            {"key": "a", "operator": "In"},
            {"key": "a", "operator": "Exists", "values": ["b"]},
            {"key": "", "operator": "Like"},
        ],
    }

    found = [f"{cause.field}: {cause.message}" for cause in label_selector_errors(selector, "spec.selector")]

    assert found == [
        f'spec.selector.matchLabels: Invalid value: "-": {VALUE}',
        (
            "spec.selector.matchExpressions[0].values: Required value: "
            "must be specified when `operator` is 'In' or 'NotIn'"
        ),
        (
            "spec.selector.matchExpressions[1].values: Forbidden: "
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        ),
        'spec.selector.matchExpressions[2].operator: Invalid value: "Like": not a valid selector operator',
        'spec.selector.matchExpressions[2].key: Invalid value: "": name part must be non-empty',
        f'spec.selector.matchExpressions[2].key: Invalid value: "": name part {QUALIFIED}',
    ]


FIELDS = {"metadata.name": "web", "status.phase": "Running", "spec.nodeName": ""}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("metadata.name=web", True),
        ("metadata.name==web", True),
        ("metadata.name!=web", False),
        ("status.phase!=Failed,metadata.name=web", True),
        ("spec.nodeName=", True),
        ("spec.nodeName!=", False),
        (",,", True),
    ],
)
def test_field_selectors_match(text: str, matches: bool) -> None:
    assert parse_fields(text).matches(FIELDS) is matches


def test_a_field_selector_tells_the_value_it_demands() -> None:
    selector = parse_fields("metadata.name=web,status.phase!=Failed")

    assert selector.exact("metadata.name") == "web"
    assert selector.exact("status.phase") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("a=b,c", "invalid selector: 'a=b,c'; can't understand 'c'"),
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ("a=\\x", "invalid field selector: invalid escape sequence: \\x"),
    ],
)
def test_what_is_no_field_selector_is_refused(text: str, message: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse_fields(text)

    assert str(caught.value) == message


field_requirements = st.builds( FieldRequirement, st.from_regex(r"[a-z]{1,4}\.[a-z]{1,4}", fullmatch=True),
st.sampled_from(["=", "!="]), st.text("ab\\,=!", max_size=6) )  # fmt: skip


@given(st.lists(field_requirements, max_size=3))
def test_a_field_selector_reads_back_from_its_text(found: list[FieldRequirement]) -> None:
    selector = FieldSelector(tuple(found))

    assert sorted(map(str, parse_fields(str(selector)).requirements)) == sorted(map(str, found))


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        (None, "nil"),
        ({}, "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{},}"),
        (
            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "y"]}]},
            (
                "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{"
                "LabelSelectorRequirement{Key:a,Operator:In,Values:[x y],},},}"
            ),
        ),
    ],
)
def test_selectors_as_go_prints_them(selector: Obj | None, text: str) -> None:
    assert go_text(selector) == text
