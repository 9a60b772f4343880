"""Kubernetes' functions for lists, and those of cel-go's extension that came with 1.34's lists version 3.

https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-list-library.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from pinnace.machinery.cel.ast import UInt
from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.library.operators import checked_int, checked_uint
from pinnace.machinery.cel.values import MOST_ELEMENTS, CelError, Duration, equal, type_of, within

function = Functions()
_COMPARABLE = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")


def _is_sorted(values: list[Any]) -> bool:
    return all(first <= second for first, second in pairwise(values))


def _smallest(values: list[Any]) -> Any:
    if not values:
        raise CelError("min called on empty list")
    return min(values)


def _largest(values: list[Any]) -> Any:
    if not values:
        raise CelError("max called on empty list")
    return max(values)


for _one in _COMPARABLE:
    function(f"(list({_one})).isSorted(): bool")(_is_sorted)
    function(f"(list({_one})).min(): {_one}")(_smallest)
    function(f"(list({_one})).max(): {_one}")(_largest)


@function("(list(int)).sum(): int")
def _sum(values: list[int]) -> int:
    total = 0
    for each in values:
        total = checked_int(total + each)
    return total


@function("(list(uint)).sum(): uint")
def _sum_unsigned(values: list[UInt]) -> UInt:
    return checked_uint(sum(values))


@function("(list(double)).sum(): double")
def _sum_doubles(values: list[float]) -> float:
    return sum(values, 0.0)


@function("(list(duration)).sum(): duration")
def _sum_durations(values: list[Duration]) -> Duration:
    return Duration.make(sum(each.nanoseconds for each in values))


@function("(list(T)).indexOf(T): int")
def _index_of(values: list[Any], wanted: Any) -> int:
    return next((index for index, each in enumerate(values) if equal(each, wanted)), -1)


@function("(list(T)).lastIndexOf(T): int")
def _last_index_of(values: list[Any], wanted: Any) -> int:
    found = [index for index, each in enumerate(values) if equal(each, wanted)]
    return found[-1] if found else -1


# cel-go's extension.


@function("(list(T)).slice(int, int): list(T)", since=34)
def _slice(values: list[Any], start: int, end: int) -> list[Any]:
    if start < 0 or end < 0:
        raise CelError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(values):
        raise CelError(f"cannot slice({start}, {end}), list is length {len(values)}")
    return values[start:end]


@function("(list(list(T))).flatten(): list(T)", since=34)
def _flatten(values: list[list[Any]]) -> list[Any]:
    return [each for part in values for each in (part if isinstance(part, list) else [part])]


@function("(list(dyn)).flatten(int): list(dyn)", since=34)
def _flatten_deep(values: list[Any], depth: int) -> list[Any]:
    if depth < 0:
        raise CelError("level must be non-negative")
    for _ in range(depth):
        if not any(isinstance(each, list) for each in values):
            break
        values = _flatten(values)
    return values


@function("lists.range(int): list(int)", since=34)
def _range(count: int) -> list[int]:
    within(count, MOST_ELEMENTS)
    return list(range(count))


@function("(list(T)).reverse(): list(T)", since=34)
def _reverse(values: list[Any]) -> list[Any]:
    return values[::-1]


@function("(list(T)).distinct(): list(T)", since=34)
def _distinct(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for each in values:
        if not any(equal(each, one) for one in found):
            found.append(each)
    return found


def _sort(values: list[Any]) -> list[Any]:
    if len({type_of(each).kind for each in values}) > 1:
        raise CelError("list elements must have the same type")
    return sorted(values)


for _one in _COMPARABLE:
    function(f"(list({_one})).sort(): list({_one})", since=34)(_sort)
