"""Sets of fields: their algebra, and the two ways in which they are written."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery import fieldset
from pinnace.machinery.fieldset import Fields, FieldsError, Path

_NAMES = st.sampled_from(["a", "b", "c", ".", "", "metadata"])
_SCALARS = st.one_of(st.sampled_from(["x", 'q"uote', "ü", ""]), st.integers(-3, 3), st.booleans())
_ELEMENTS = st.one_of(
    _NAMES.map(fieldset.field),
    st.dictionaries(st.sampled_from(["name", "port"]), _SCALARS, min_size=1).map(fieldset.key),
    _SCALARS.map(fieldset.value),
    st.integers(0, 3).map("i:{}".format),
)
_PATHS = st.lists(_ELEMENTS, min_size=1, max_size=4).map(tuple)
_SETS = st.lists(_PATHS, max_size=12).map(lambda paths: fieldset.of(*paths))


def members(fields: Fields) -> set[Path]:
    return set(fieldset.paths(fields))


@given(st.lists(_PATHS, max_size=12))
def test_a_set_holds_what_it_was_made_of(paths: list[Path]) -> None:
    fields = fieldset.of(*paths)
    assert members(fields) == set(paths)
    assert all(fieldset.has(fields, path) for path in paths)


@given(_SETS, _SETS)
def test_the_algebra_is_that_of_sets_of_paths(left: Fields, right: Fields) -> None:
    before = orjson.dumps([left, right])
    assert members(fieldset.union(left, right)) == members(left) | members(right)
    assert members(fieldset.intersection(left, right)) == members(left) & members(right)
    assert members(fieldset.difference(left, right)) == members(left) - members(right)
    assert orjson.dumps([left, right]) == before


@given(_SETS, _SETS)
def test_a_member_takes_what_is_below_it_along(left: Fields, right: Fields) -> None:
    roots = members(right)

    def below(path: Path) -> bool:
        return any(path[:length] in roots for length in range(1, len(path) + 1))

    assert members(fieldset.recursive_difference(left, right)) == {path for path in members(left) if not below(path)}
    assert members(fieldset.within(left, right)) == {path for path in members(left) if below(path)}


@given(_SETS, _SETS, _SETS)
def test_the_laws_of_sets_hold(a: Fields, b: Fields, c: Fields) -> None:
    union, intersection, difference = fieldset.union, fieldset.intersection, fieldset.difference
    same = fieldset.ordered
    assert same(union(a, b)) == same(union(b, a))
    assert same(union(a, union(b, c))) == same(union(union(a, b), c))
    assert same(intersection(a, union(b, c))) == same(union(intersection(a, b), intersection(a, c)))
    assert same(difference(a, union(b, c))) == same(difference(difference(a, b), c))
    assert same(union(difference(a, b), intersection(a, b))) == same(a)
    assert difference(a, a) == {}


@given(_SETS, _SETS)
def test_a_set_in_order_grows_in_order(left: Fields, right: Fields) -> None:
    found = fieldset.grown(fieldset.ordered(left), right)
    wanted = fieldset.ordered(fieldset.union(left, right))
    assert orjson.dumps(found) == orjson.dumps(wanted)


@given(_SETS)
def test_what_is_written_is_read_back(fields: Fields) -> None:
    written = orjson.loads(orjson.dumps(fieldset.ordered(fields)))
    assert fieldset.parse(written) == fields


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("f:spec", "f:replicas"), ".spec.replicas"),
        (("f:spec", 'k:{"name":"web"}', "f:image"), '.spec[name="web"].image'),
        (('k:{"containerPort":80,"protocol":"TCP"}',), '[containerPort=80,protocol="TCP"]'),
        (("f:metadata", "f:finalizers", 'v:"a/b"'), '.metadata.finalizers[="a/b"]'),
        (("f:metadata", "f:labels", "f:app.kubernetes.io/name"), ".metadata.labels.app.kubernetes.io/name"),
        (("f:list", "i:3"), ".list[3]"),
        (("v:true",), "[=true]"),
        (('k:{"n":null}',), "[n=null]"),
    ],
)
def test_paths_are_shown_as_conflicts_show_them(path: Path, text: str) -> None:
    assert fieldset.path_text(path) == text


def test_elements_of_any_spelling_are_read_as_one() -> None:
    assert fieldset.parse({'k:{"protocol": "TCP","containerPort":80}': {".": {}}, 'v: "x"': {}}) == {
        'k:{"containerPort":80,"protocol":"TCP"}': {},
        'v:"x"': {},
    }


@pytest.mark.parametrize("tree", [[], "f:a", {"a": {}}, {"z:a": {}}, {"k:[]": {}}, {"v:": {}}, {"i:x": {}}, {"f:a": 1}])
def test_what_is_no_set_is_refused(tree: Any) -> None:
    with pytest.raises(FieldsError):
        fieldset.parse(tree)
