"""JSONPath, as columns of custom resources use it."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.jsonpath import JsonPathError, compile_path

DOCUMENT = {
    "metadata": {"labels": {"app.kubernetes.io/name": "web"}},
    "status": {
        "conditions": [
            {"type": "Ready", "status": "True", "count": 1},
            {"type": "Synced", "status": "False", "count": 2},
        ],
        "map": {"a": {"x": 1}, "b": {"x": 2}},
    },
    "list": [0, 1, 2, 3],
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".status.conditions[0].type", ["Ready"]),
        ("{.status.conditions[0].type}", ["Ready"]),
        ("$.status.conditions[-1].type", ["Synced"]),
        ('.status.conditions[?(@.type=="Ready")].status', ["True"]),
        (".status.conditions[?(@.type=='Synced')].status", ["False"]),
        (".status.conditions[?(@.count > 1)].type", ["Synced"]),
        (".status.conditions[?(@.count)].type", ["Ready", "Synced"]),
        (".status.conditions[?(@.none)].type", []),
        (".status.conditions[*].count", [1, 2]),
        (".status.map.*.x", [1, 2]),
        ("..x", [1, 2]),
        (r".metadata.labels.app\.kubernetes\.io/name", ["web"]),
        (".metadata.labels['app.kubernetes.io/name']", ["web"]),
        (".list[1:3]", [1, 2]),
        (".list[0,3]", [0, 3]),
        (".list[9]", []),
        (".none.at.all", []),
        (".", [DOCUMENT]),
    ],
)
def test_values_are_found(path: str, expected: list[Any]) -> None:
    assert compile_path(path)(DOCUMENT) == expected


@pytest.mark.parametrize("path", [".a[", ".a[x]", ".a[?(b)]", ".a['b"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(JsonPathError):
        compile_path(path)
