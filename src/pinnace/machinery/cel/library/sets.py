"""cel-go's extension for sets: lists of which only membership counts."""

from __future__ import annotations

from typing import Any

from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.values import equal

function = Functions(since=30)


@function("sets.contains(list(T), list(T)): bool")
def _contains(whole: list[Any], part: list[Any]) -> bool:
    return all(any(equal(each, one) for one in whole) for each in part)


@function("sets.equivalent(list(T), list(T)): bool")
def _equivalent(left: list[Any], right: list[Any]) -> bool:
    return _contains(left, right) and _contains(right, left)


@function("sets.intersects(list(T), list(T)): bool")
def _intersects(left: list[Any], right: list[Any]) -> bool:
    return any(equal(each, one) for one in left for each in right)
