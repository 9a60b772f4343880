"""Merge patch, JSON patch and strategic merge patch."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery import json_patch, merge_patch, strategic_merge
from pinnace.machinery.errors import ApiError
from pinnace.machinery.json_patch import JsonPatchError
from pinnace.machinery.meta import GVK
from pinnace.machinery.schema import Schema, Schemas

scalars = st.one_of(st.booleans(), st.integers(-9, 9), st.text("ab", max_size=2))
keys = st.text("abc~/", min_size=1, max_size=2)


def compounds(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3))


documents = st.recursive(scalars, compounds, max_leaves=8)
objects = st.dictionaries(keys, documents, max_size=3)
removals = st.dictionaries(keys, st.none(), max_size=2)
patches = st.dictionaries(keys, st.one_of(st.none(), documents, removals), max_size=3)


# Merge patch.


@pytest.mark.parametrize(
    ("original", "patch", "result"),  # the examples of RFC 7386, appendix A
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_follows_the_rfc(original: Any, patch: Any, result: Any) -> None:
    assert merge_patch.apply(original, patch) == result


@given(objects, patches)
def test_a_merge_patch_applied_twice_changes_nothing_more(original: Any, patch: Any) -> None:
    once = merge_patch.apply(original, patch)

    assert merge_patch.apply(once, patch) == once


@given(objects, objects)
def test_a_created_merge_patch_leads_from_one_to_the_other(original: Any, modified: Any) -> None:
    patched = merge_patch.apply(original, merge_patch.create(original, modified))

    assert json_patch.same(patched, modified)


@given(objects, patches)
def test_a_merge_patch_leaves_its_arguments_alone(original: Any, patch: Any) -> None:
    before = copy.deepcopy((original, patch))
    merge_patch.apply(original, patch)

    assert (original, patch) == before


# JSON patch.


def operation(op: str, path: str, **more: Any) -> dict[str, Any]:
    return {"op": op, "path": path, **more}


@pytest.mark.parametrize(
    ("document", "patch", "result"),
    [
        ({"a": 1}, [operation("add", "/b", value=2)], {"a": 1, "b": 2}),
        ({"a": [1, 3]}, [operation("add", "/a/1", value=2)], {"a": [1, 2, 3]}),
        ({"a": [1]}, [operation("add", "/a/-", value=2)], {"a": [1, 2]}),
        ({"a": [1]}, [operation("add", "/a/1", value=2)], {"a": [1, 2]}),
        ({"a": 1}, [operation("add", "", value={"b": 2})], {"b": 2}),
        ({"a": 1, "b": 2}, [operation("remove", "/a")], {"b": 2}),
        ({"a": [1, 2]}, [operation("remove", "/a/0")], {"a": [2]}),
        ({"a": [1, 2]}, [operation("remove", "/a/-1")], {"a": [1]}),
        ({"a": {"b": 1}}, [operation("replace", "/a/b", value=[])], {"a": {"b": []}}),
        ({"a": [1, 2]}, [operation("replace", "/a/1", value=3)], {"a": [1, 3]}),
        ({"a": {"b": 1}}, [{"op": "move", "from": "/a/b", "path": "/c"}], {"a": {}, "c": 1}),
        ({"a": [1, 2, 3]}, [{"op": "move", "from": "/a/0", "path": "/a/2"}], {"a": [2, 3, 1]}),
        ({"a": {"b": 1}}, [{"op": "copy", "from": "/a", "path": "/c"}], {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a": {"b": [1]}}, [operation("test", "/a", value={"b": [1]})], {"a": {"b": [1]}}),
        ({}, [operation("test", "/a", value=None)], {}),
        ({"a/b": 1, "m~n": 2}, [operation("remove", "/a~1b"), operation("replace", "/m~0n", value=3)], {"m~n": 3}),
        ({"": 1}, [operation("replace", "/", value=2)], {"": 2}),
    ],
)
def test_json_patch_operations(document: Any, patch: Any, result: Any) -> None:
    assert json_patch.apply(document, patch) == result


@pytest.mark.parametrize(
    ("patch", "cause"),
    [
        (operation("remove", "/x"), 'doc is missing path: "/x": missing value'),
        (operation("replace", "/x", value=1), 'doc is missing path: "/x": missing value'),
        (operation("add", "/x/y", value=1), 'doc is missing path: "/x": missing value'),
        (operation("add", "/a/9", value=1), "Unable to access invalid index: 9"),
        (operation("add", "/a/01", value=1), 'doc is missing path: "/a/01": missing value'),
        (operation("test", "/b", value=True), "testing value /b failed: test failed"),
        (operation("test", "/b", value=2), "testing value /b failed: test failed"),
        (operation("add", "/b"), "operation missing value field"),
        (operation("add", "b", value=1), "operation missing path field"),
        (operation("jump", "/b"), "Unexpected kind: jump"),
        ({}, "operation missing path field"),
        ({"op": "move", "from": "/a", "path": "/a/0"}, "a value cannot move into itself"),
    ],
)
def test_a_json_patch_that_does_not_apply_is_refused(patch: Any, cause: str) -> None:
    with pytest.raises(JsonPatchError) as caught:
        json_patch.apply({"a": [1], "b": 1}, [patch])

    assert caught.value.cause.removeprefix(f"{patch.get('op')} operation does not apply: ") == cause
    assert caught.value.code == 422
    assert caught.value.message == "the server rejected our request due to an error in our request"


def test_what_is_no_json_patch_is_a_bad_request() -> None:
    with pytest.raises(ApiError, match=r"json: cannot unmarshal object into Go value of type jsonpatch\.Patch"):
        json_patch.apply({}, {"op": "add"})
    with pytest.raises(ApiError, match="allowed maximum operations in a JSON patch is 10000, got 10001"):
        json_patch.apply({}, [operation("test", "")] * 10_001)


def test_copies_may_not_grow_a_document_without_end() -> None:
    patch = [{"op": "copy", "from": "/a", "path": f"/a/{n}"} for n in range(64)]

    with pytest.raises(JsonPatchError) as caught:
        json_patch.apply({"a": {"x": "y"}}, patch)

    assert "exceeding the limit 3145728" in caught.value.cause


def pointer(steps: list[str]) -> str:
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


pointers = st.lists(st.one_of(keys, st.sampled_from(["0", "1", "-"])), max_size=3).map(pointer)
operations = st.one_of(
    st.fixed_dictionaries(
        {"op": st.sampled_from(["add", "replace", "test"]), "path": pointers}, optional={"value": documents}
    ),
    st.fixed_dictionaries({"op": st.just("remove"), "path": pointers}),
    st.fixed_dictionaries({"op": st.sampled_from(["move", "copy"]), "path": pointers, "from": pointers}),
)


@given(objects, st.lists(operations, max_size=3))
def test_a_json_patch_applies_or_is_refused_and_leaves_its_arguments_alone(document: Any, patch: Any) -> None:
    before = copy.deepcopy((document, patch))
    try:
        json_patch.apply(document, patch)
    except JsonPatchError:
        pass

    assert (document, patch) == before


@given(objects, keys, documents)
def test_what_was_added_can_be_tested_and_removed(document: Any, key: str, value: Any) -> None:
    path = pointer([key])
    added = json_patch.apply(document, [operation("add", path, value=value), operation("test", path, value=value)])

    removed = json_patch.apply(added, [operation("remove", path)])

    assert removed == {name: item for name, item in document.items() if name != key}


# Strategic merge patch.


def schema_of(gvk: GVK) -> Schema:
    schema = Schemas.load().for_gvk(gvk)
    assert schema is not None
    return schema


POD = schema_of(GVK("", "v1", "Pod"))
DEPLOYMENT = schema_of(GVK("apps", "v1", "Deployment"))
SERVICE = schema_of(GVK("", "v1", "Service"))


def spec(original: Any, patch: Any, schema: Schema = POD) -> Any:
    return strategic_merge.apply({"spec": original}, {"spec": patch}, schema)["spec"]


def containers(*names: str) -> list[dict[str, Any]]:
    return [{"name": name} for name in names]


@pytest.mark.parametrize(
    ("original", "patch", "result"),
    [
        # items are merged on their key, new ones come after the old as the patch orders them
        (
            {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]},
            {"containers": [{"name": "a", "image": "y"}]},
            {"containers": [{"name": "a", "image": "y"}, {"name": "b"}]},
        ),
        ({"containers": containers("a")}, {"containers": containers("b")}, {"containers": containers("b", "a")}),
        # an item is deleted by its key, the whole list is replaced by a marker
        (
            {"containers": containers("a", "b")},
            {"containers": [{"name": "a", "$patch": "delete"}]},
            {"containers": containers("b")},
        ),
        (
            {"containers": containers("a", "b")},
            {"containers": [{"$patch": "replace"}, {"name": "c"}]},
            {"containers": containers("c")},
        ),
        # what replaces a list is taken as it is: a node has several addresses of one type
        (
            {"containers": containers("a", "b")},
            {"containers": [{"$patch": "replace"}, {"name": "c", "image": "1"}, {"name": "c", "image": "2"}]},
            {"containers": [{"name": "c", "image": "1"}, {"name": "c", "image": "2"}]},
        ),
        # null deletes, plain values replace
        ({"nodeName": "n", "hostname": "h"}, {"nodeName": None}, {"hostname": "h"}),
        ({"hostname": "h"}, {"nodeName": None}, {"hostname": "h"}),
        ({"hostname": "h"}, {"hostname": "i"}, {"hostname": "i"}),
        # maps merge, or are replaced when the patch says so
        (
            {"nodeSelector": {"a": "1", "b": "2"}},
            {"nodeSelector": {"a": None, "c": "3"}},
            {"nodeSelector": {"b": "2", "c": "3"}},
        ),
        ({"nodeSelector": {"a": "1"}}, {"nodeSelector": {"$patch": "replace", "c": "3"}}, {"nodeSelector": {"c": "3"}}),
        ({"nodeSelector": {"a": "1"}}, {"nodeSelector": {"$patch": "delete"}}, {"nodeSelector": {}}),
        # atomic lists are replaced
        (
            {"tolerations": [{"key": "a"}]},
            {"tolerations": [{"key": "b"}]},
            {"tolerations": [{"key": "b"}]},
        ),
        # nulls and directives in what is new have done their work
        (
            {},
            {"containers": [{"name": "a", "image": None, "env": [{"name": "x", "$patch": "delete"}, {"name": "y"}]}]},
            {"containers": [{"name": "a", "env": [{"name": "y"}]}]},
        ),
        # volumes keep only the source that the patch retains
        (
            {"volumes": [{"name": "v", "emptyDir": {}}]},
            {"volumes": [{"name": "v", "$retainKeys": ["name", "configMap"], "configMap": {"name": "c"}}]},
            {"volumes": [{"name": "v", "configMap": {"name": "c"}}]},
        ),
        # order can be asked for
        (
            {"containers": containers("a", "b", "c")},
            {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}]},
            {"containers": containers("b", "c", "a")},
        ),
        (
            {"containers": containers("a", "b")},
            {"$setElementOrder/containers": containers("b", "c", "a"), "containers": [{"name": "c", "image": "x"}]},
            {"containers": [{"name": "b"}, {"name": "c", "image": "x"}, {"name": "a"}]},
        ),
    ],
)
def test_strategic_merge(original: Any, patch: Any, result: Any) -> None:
    assert spec(original, patch) == result


def test_lists_of_primitives_merge_as_sets() -> None:
    def finalizers(original: list[str], patch: dict[str, Any]) -> Any:
        merged = strategic_merge.apply({"metadata": {"finalizers": original}}, {"metadata": patch}, POD)
        return merged["metadata"]["finalizers"]

    assert finalizers(["a", "b"], {"finalizers": ["b", "c"]}) == ["a", "b", "c"]
    assert finalizers(["a", "b"], {"$deleteFromPrimitiveList/finalizers": ["a"]}) == ["b"]
    assert finalizers(
        ["a", "b"],
        {
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["c", "b"],
            "finalizers": ["c"],
        },
    ) == ["c", "b"]


def test_a_deployment_strategy_keeps_only_what_is_retained() -> None:
    original = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}

    patched = spec(original, {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}, DEPLOYMENT)

    assert patched == {"strategy": {"type": "Recreate"}}


def test_service_ports_merge_on_their_port() -> None:
    original = {"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000}, {"port": 443}]}

    assert spec(original, {"ports": [{"port": 80, "targetPort": 8080}]}, SERVICE) == {
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30000, "targetPort": 8080}, {"port": 443}]
    }


@pytest.mark.parametrize(
    ("patch", "message", "code"),
    [
        ({"$patch": "explode"}, "unknown patch type: explode in map", 400),
        ({"containers": [{"name": "a", "$patch": "explode"}]}, "unknown patch type: explode in map", 400),
        ({"containers": [{"image": "x"}]}, "the server rejected our request due to an error in our request", 422),
        ({"containers": [5]}, "the server rejected our request due to an error in our request", 422),
        ({"$retainKeys": ["hostname"], "nodeName": "n"}, "invalid patch format of retainKeys", 400),
        ({"$retainKeys": "hostname"}, "invalid patch format of retainKeys", 400),
        ({"$setElementOrder/containers": "a"}, "invalid patch format of setElementOrder list", 400),
        (
            {"$setElementOrder/containers": containers("a"), "containers": containers("b")},
            "invalid patch format of setElementOrder list",
            400,
        ),
        ({"$deleteFromPrimitiveList/containers": "a"}, "invalid patch format of primitive list", 400),
    ],
)
def test_directives_of_a_wrong_form_are_refused(patch: Any, message: str, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        spec({"containers": containers("a")}, patch)

    assert caught.value.message.startswith(message)
    assert caught.value.code == code


def changes(names: list[str], values: list[dict[str, Any]]) -> dict[str, Any]:
    return {"containers": [{"name": name, **value} for name, value in zip(names, values, strict=False)]}


def environment(names: list[str]) -> dict[str, Any]:
    return {"env": containers(*names)}


container_names = st.lists(st.sampled_from("abcde"), unique=True, max_size=4)
container_changes = st.one_of(
    st.fixed_dictionaries({"image": st.sampled_from(["x", "y", None])}),
    st.just({"$patch": "delete"}),
    st.lists(st.sampled_from("pq"), unique=True).map(environment),
)
pod_patches = st.builds(
    lambda lists, rest: {**lists, **rest},
    st.builds(changes, container_names, st.lists(container_changes, min_size=4, max_size=4)),
    st.fixed_dictionaries(
        {},
        optional={
            "nodeSelector": st.dictionaries(keys, st.one_of(st.none(), st.text("ab"))),
            "hostname": st.sampled_from(["h", None]),
        },
    ),
)


@given(container_names, pod_patches)
def test_a_strategic_merge_applied_twice_changes_nothing_more(names: list[str], patch: Any) -> None:
    original = {"containers": containers(*names), "hostname": "o", "nodeSelector": {"a": "z"}}
    before = copy.deepcopy((original, patch))

    once = spec(original, patch)

    assert spec(once, patch) == once
    assert (original, patch) == before


@given(container_names, container_names)
def test_an_ordered_merge_ends_in_the_order_asked_for(names: list[str], wanted: list[str]) -> None:
    patch = {"$setElementOrder/containers": containers(*wanted), "containers": containers(*wanted)}

    merged = [item["name"] for item in spec({"containers": containers(*names)}, patch).get("containers", [])]

    assert [name for name in merged if name in wanted] == wanted
    assert set(merged) == {*names, *wanted}
