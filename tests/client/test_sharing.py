"""Objects as informers keep them: equal to what came, but for managedFields, with equal parts shared."""

from __future__ import annotations

import copy
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.client.sharing import PART_BYTES, RECENT, Lean, Parts
from pinnace.machinery.meta import Obj

CONTAINER = {"name": "c", "image": "registry.example/app:1", "env": [{"name": "A", "value": "1"}]}


def pod(name: str, **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "a"}, "managedFields": [{"manager": "m"}]},
        "spec": {"containers": [copy.deepcopy(CONTAINER)], **spec},
        "status": {"phase": "Pending"},
    }


def without_managed_fields(obj: Obj) -> Obj:
    return {**obj, "metadata": {key: value for key, value in obj["metadata"].items() if key != "managedFields"}}


def test_siblings_share_what_is_equal_at_any_depth() -> None:
    lean = Lean()
    first, second = lean.of(pod("a")), lean.of(pod("b"))
    assert first["spec"] is second["spec"]
    assert first["status"] is second["status"]
    assert first["metadata"]["labels"] is second["metadata"]["labels"]
    placed = lean.of(pod("c", nodeName="n1"))
    assert placed["spec"]["containers"] is first["spec"]["containers"]
    with_sidecar = pod("d")
    with_sidecar["spec"]["containers"].append({"name": "sidecar"})
    assert lean.of(with_sidecar)["spec"]["containers"][0] is first["spec"]["containers"][0]


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0, False), ("1", 1)])
def test_what_json_tells_apart_stays_apart(one: object, other: object) -> None:
    parts = Parts()
    assert type(parts.one({"value": one})["value"]) is type(one)
    assert type(parts.one({"value": other})["value"]) is type(other)


def test_an_object_told_twice_is_made_lean_once() -> None:
    lean = Lean()
    came = pod("a")
    made = lean.of(came)
    assert lean.of(came) is made
    for number in range(RECENT):
        lean.of(pod(f"other-{number}"))
    again = lean.of(came)
    assert again is not made
    assert again == made


def test_what_was_met_long_ago_is_forgotten() -> None:
    parts = Parts(room=10_000)
    first = parts.one({"n": 0})
    for number in range(1, 100):
        parts.one({"n": number})
    assert parts.one({"n": 0}) is not first


def test_what_is_met_again_and_again_is_not_forgotten() -> None:
    parts = Parts(room=10_000)
    first = parts.one({"n": 0})
    for number in range(1, 1000):
        parts.one({"n": number})
        assert parts.one({"n": 0}) is first


def test_long_parts_are_left_alone() -> None:
    parts = Parts()
    assert parts.one({"text": "x" * PART_BYTES}) is not parts.one({"text": "x" * PART_BYTES})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=12,
)
SECTION = st.dictionaries(st.sampled_from("abc"), JSON, max_size=3)


@given(st.lists(st.tuples(SECTION, SECTION), max_size=8))
def test_sharing_changes_nothing_but_managed_fields(sections: list[tuple[Obj, Obj]]) -> None:
    lean = Lean()
    came = []
    for spec, status in sections:
        came.append({**pod("a"), "spec": spec, "status": status})
    before = copy.deepcopy(came)
    made = [lean.of(obj) for obj in came]
    assert came == before
    assert [orjson.dumps(obj) for obj in made] == [orjson.dumps(without_managed_fields(obj)) for obj in before]
