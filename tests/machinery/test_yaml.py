"""YAML as kubectl reads it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery import yaml
from pinnace.machinery.yaml import YamlError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", True),
        ("on", True),
        ("y", True),
        ("NO", False),
        ("n", False),
        ("off", False),
        ("True", True),
        ("0755", 493),
        ("0o755", 493),
        ("1_000", 1000),
        ("0b101", 5),
        ("0x1F", 31),
        ("1e3", 1000),
        ("1.5", 1.5),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        (".5", 0.5),
        ("12:30:45", "12:30:45"),
        ("2020-01-01", "2020-01-01"),
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00Z"),
        ("1.2.3", "1.2.3"),
        ("0.1.0", "0.1.0"),
        ("089", 89),
        ("~", None),
        ("null", None),
        ("", None),
        ('"yes"', "yes"),
        ("'0755'", "0755"),
        ("!!binary aGk=", "hi"),
        ("!!str 5", "5"),
        ("1Gi", "1Gi"),
        ("100m", "100m"),
        ("nope", "nope"),
        ("-", [None]),
    ],
)
def test_plain_words_are_resolved_as_go_yaml_does(text: str, value: Any) -> None:
    document = yaml.load(f"a: {text}") if text != "-" else {"a": yaml.load("-")}

    assert document == {"a": value}
    assert type(document["a"]) is type(value)


def test_keys_become_text() -> None:
    assert yaml.load("{1: a, y: b, 1.5: c, null: d}") == {"1": "a", "true": "b", "1.5": "c", "null": "d"}


def test_a_stream_has_many_documents_and_empty_ones_do_not_count() -> None:
    assert yaml.load_all("---\na: 1\n---\n---\n# nothing\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]
    assert yaml.load("") is None


def test_anchors_and_merge_keys_work() -> None:
    assert yaml.load("x: &x {a: 1, b: 2}\nz: {<<: *x, b: 3}") == {"x": {"a": 1, "b": 2}, "z": {"a": 1, "b": 3}}


def test_a_key_given_twice_is_refused_when_strict() -> None:
    assert yaml.load("a: 1\na: 2") == {"a": 2}
    with pytest.raises(YamlError, match=r'line 2: key "a" already set in map'):
        yaml.load("a: 1\na: 2", strict=True)


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\t- a", "a: !!python/object:os.system x", "{[1]: 2}", "a: .inf"])
def test_what_is_no_yaml_is_refused(text: str) -> None:
    with pytest.raises(YamlError, match="error converting YAML to JSON: yaml: "):
        yaml.load(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000 + "]" * 100_000,
        "{a: " * 100_000 + "}" * 100_000,
        "- " * 100_000 + "a",
        "? " * 100_000 + "a",
        "".join(" " * depth + "a:\n" for depth in range(300)),
        "[" * 100_000,
    ],
)
@pytest.mark.parametrize("encoding", [None, "utf-8", "utf-16"])
def test_a_document_nested_without_end_is_refused(text: str, encoding: str | None) -> None:
    with pytest.raises(YamlError, match="exceeded max depth"):
        yaml.load(text.encode(encoding) if encoding else text)


def test_a_document_far_to_the_right_is_still_read() -> None:
    assert yaml.load("a:\n" + " " * 200 + "b: c\n") == {"a": {"b": "c"}}
    assert yaml.load("a: |\n  x\n" + " " * 200 + "[y\n") == {"a": "x\n" + " " * 198 + "[y\n"}


def test_a_billion_laughs_are_refused() -> None:
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    with pytest.raises(YamlError, match="excessive aliasing"):
        yaml.load("\n".join(lines))


values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**40), 2**40),
        st.text(max_size=6),
        st.sampled_from(["yes", "0755", "1e3", "~", "", "0o7", "y", "<<", "2020-01-01", "1:30", "a\nb\n", " a\n"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=3), values, min_size=1, max_size=3))
def test_what_is_written_is_read_back(value: Any) -> None:
    assert yaml.load(yaml.dump(value)) == value
