"""JSON bodies: what is read, and Go's words for what is not JSON."""

from __future__ import annotations

import json as stdlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery import json
from pinnace.machinery.errors import ApiError
from pinnace.machinery.json import JsonError

values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "unexpected end of JSON input"),
        ("  ", "unexpected end of JSON input"),
        ("{", "unexpected end of JSON input"),
        ('{"a"', "unexpected end of JSON input"),
        ('{"a":', "unexpected end of JSON input"),
        ('{"a":"b', "unexpected end of JSON input"),
        ("-", "unexpected end of JSON input"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("{x", "invalid character 'x' looking for beginning of object key string"),
        ("{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        ("[1 2]", "invalid character '2' after array element"),
        ("[1,]", "invalid character ']' looking for beginning of value"),
        ("{} x", "invalid character 'x' after top-level value"),
        ('{"a":01}', "invalid character '1' after object key:value pair"),
        ('{"a":1.}', "invalid character '}' after decimal point in numeric literal"),
        ('{"a":1e}', "invalid character '}' in exponent of numeric literal"),
        ('{"a":-x}', "invalid character 'x' in numeric literal"),
        ('{"a":trux}', "invalid character 'x' in literal true (expecting 'e')"),
        ('{"a":nil}', "invalid character 'i' in literal null (expecting 'u')"),
        ('"a\nb"', "invalid character '\\n' in string literal"),
        ('"\\x"', "invalid character 'x' in string escape code"),
        ('"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"),
        ("\ufeff{}", "invalid character 'ï' looking for beginning of value"),
        ("NaN", "invalid character 'N' looking for beginning of value"),
    ],
)
def test_what_is_no_json_is_refused_in_go_words(body: str, message: str) -> None:
    with pytest.raises(JsonError) as caught:
        json.loads(body.encode())

    assert str(caught.value) == message


def test_too_deep_a_document_is_refused() -> None:
    for depth in (300, 2_000, 20_000):
        with pytest.raises(JsonError, match="exceeded max depth"):
            json.loads(b"[" * depth + b"]" * depth)


def test_numbers_beyond_64_bits_become_floats() -> None:
    assert json.loads(b'{"a":123456789012345678901234567890}') == {"a": 123456789012345678901234567890.0}
    assert json.loads(b'{"a":123456789012345678901234567890,"b":"\xff"}')["a"] == 123456789012345678901234567890.0


def test_bytes_that_are_not_utf_8_and_lone_surrogates_are_replaced_as_go_does() -> None:
    assert json.loads(b'{"a":"\xff"}') == {"a": "\ufffd"}
    assert json.loads(b'{"a":"\\ud800"}') == {"a": "\ufffd"}
    assert json.loads(b'{"a":"\\ud83d\\ude00"}') == {"a": "😀"}


@given(values)
def test_json_round_trips(value: Any) -> None:
    assert json.loads(json.dumps(value)) == value
    assert json.syntax_error(json.dumps(value)) == ""


@given(st.text('{}[]",:0123.eE+-\\ntruefalsu \n', max_size=12))
def test_a_text_is_read_exactly_when_the_scanner_has_no_complaint(text: str) -> None:
    try:
        json.loads(text.encode())
        read = True
    except JsonError as problem:
        read = str(problem) == ""

    assert read == (json.syntax_error(text.encode()) == "")


@given(values)
def test_canonical_bytes_do_not_depend_on_order(value: Any) -> None:
    shuffled = stdlib.loads(stdlib.dumps(value), object_pairs_hook=lambda pairs: dict(reversed(pairs)))

    assert json.canonical(shuffled) == json.canonical(value)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"a":1,"b":{"a":1}}', []),
        (b'{"a":1,"a":2}', ['duplicate field "a"']),
        (b'{"spec":{"replicas":1,"replicas":1}}', ['duplicate field "spec.replicas"']),
        (b'{"a":[{"b":1},{"b":1,"b":2}]}', ['duplicate field "a[1].b"']),
        (b'{"a":1,"a":2,"a":3}', ['duplicate field "a"']),
        (b'{"a":"\\":","b":{"c":1,"c":1}}', ['duplicate field "b.c"']),
        (b'{"a":"\\u0022:","c":1,"c":1}', ['duplicate field "c"']),
        (b'{"a": 1, "b": "x\\":\\":"}', []),
    ],
)
def test_duplicate_fields_are_found_where_they_are(body: bytes, found: list[str]) -> None:
    assert json.duplicates(body, json.loads(body)) == found


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b"nonsense",
            (
                "couldn't get version/kind; json parse error: invalid character 'o' in literal null (expecting 'u') "
                "(6e6f6e73656e7365)"
            ),
        ),
        (b"", "couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)"),
        (
            b'{"kind":5,"metadata":{"name":"abcdefgh"}}',
            (
                "couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind "
                'of type string ({"kind":5,"metadata":{"name":" ...)'
            ),
        ),
        (
            b"[]",
            (
                "couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type "
                'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; '
                'Kind string "json:\\"kind,omitempty\\"" } (5b5d)'
            ),
        ),
    ],
)
def test_a_body_that_is_no_object_is_refused_as_unrecognized(body: bytes, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        json.load_object(body, "Pod")

    assert caught.value.message == f"the object provided is unrecognized (must be of type Pod): {message}"
    assert (caught.value.code, caught.value.reason) == (400, "BadRequest")
