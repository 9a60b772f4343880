"""Operators: arithmetic with CEL's limits, comparison, membership, indexing, logic.

The logical ones, `==`, `in` and indexing are evaluated by `evaluate`; here they have their signatures.
https://github.com/google/cel-spec/blob/master/doc/langdef.md#list-of-standard-definitions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from pinnace.machinery.cel.ast import UInt
from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.values import (
    INT_MAX,
    INT_MIN,
    MOST_ELEMENTS,
    UINT_MAX,
    CelError,
    Duration,
    Timestamp,
    within,
)

function = Functions()


def _evaluated_elsewhere(*_: Any) -> Any:
    raise AssertionError("the evaluator has its own form of this operator")


function(
    "_&&_(bool, bool): bool",
    "_||_(bool, bool): bool",
    "!_(bool): bool",
    "@not_strictly_false(bool): bool",
    "_?_:_(bool, T, T): T",
    "_==_(T, T): bool",
    "_!=_(T, T): bool",
    "@in(T, list(T)): bool",
    "@in(T, map(T, V)): bool",
    "_[_](list(T), int): T",
    "_[_](map(K, V), K): V",
    "_[_](optional(list(T)), int): optional(T)",
    "_[_](optional(map(K, V)), K): optional(V)",
    "_[?_](list(T), int): optional(T)",
    "_[?_](optional(list(T)), int): optional(T)",
    "_[?_](map(K, V), K): optional(V)",
    "_[?_](optional(map(K, V)), K): optional(V)",
    "type(T): type(T)",
)(_evaluated_elsewhere)


def checked_int(value: int) -> int:
    if INT_MIN <= value <= INT_MAX:
        return value
    raise CelError("integer overflow")


def checked_uint(value: int) -> UInt:
    if 0 <= value <= UINT_MAX:
        return UInt(value)
    raise CelError("unsigned integer overflow")


def _arithmetic(name: str, compute: Callable[[Any, Any], Any]) -> None:
    function(f"{name}(int, int): int")(lambda left, right: checked_int(compute(left, right)))
    function(f"{name}(uint, uint): uint")(lambda left, right: checked_uint(compute(int(left), int(right))))


_arithmetic("_+_", operator.add)
_arithmetic("_-_", operator.sub)
_arithmetic("_*_", operator.mul)


@function("_/_(int, int): int")
def _divide(left: int, right: int) -> int:
    if not right:
        raise CelError("division by zero")
    return checked_int(abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1))


@function("_/_(uint, uint): uint")
def _divide_unsigned(left: UInt, right: UInt) -> UInt:
    if not right:
        raise CelError("division by zero")
    return UInt(left // right)


@function("_%_(int, int): int")
def _remainder(left: int, right: int) -> int:
    if not right:
        raise CelError("modulus by zero")
    return int(math.copysign(1, left)) * (abs(left) % abs(right))


@function("_%_(uint, uint): uint")
def _remainder_unsigned(left: UInt, right: UInt) -> UInt:
    if not right:
        raise CelError("modulus by zero")
    return UInt(left % right)


@function("_/_(double, double): double")
def _divide_doubles(left: float, right: float) -> float:
    if right:
        return left / right
    return math.nan if left == 0 or left != left else math.copysign(math.inf, left) * math.copysign(1, right)


function("_+_(double, double): double")(operator.add)


@function("_+_(string, string): string", "_+_(bytes, bytes): bytes")
def _concatenate(left: Any, right: Any) -> Any:
    within(len(left) + len(right))
    return left + right


@function("_+_(list(T), list(T)): list(T)")
def _append(left: list[Any], right: list[Any]) -> list[Any]:
    within(len(left) + len(right), MOST_ELEMENTS)
    return left + right


function("_-_(double, double): double")(operator.sub)
function("_*_(double, double): double")(operator.mul)
function("-_(int): int")(lambda value: checked_int(-value))
function("-_(double): double")(operator.neg)


@function("_+_(duration, duration): duration")
def _add_durations(left: Duration, right: Duration) -> Duration:
    return Duration.make(left.nanoseconds + right.nanoseconds)


@function("_+_(timestamp, duration): timestamp", "_+_(duration, timestamp): timestamp")
def _add_time(left: Timestamp | Duration, right: Timestamp | Duration) -> Timestamp:
    return Timestamp.make(left.nanoseconds + right.nanoseconds)


@function("_-_(timestamp, timestamp): duration", "_-_(duration, duration): duration")
def _between(left: Timestamp | Duration, right: Timestamp | Duration) -> Duration:
    return Duration.make(left.nanoseconds - right.nanoseconds)


@function("_-_(timestamp, duration): timestamp")
def _before(left: Timestamp, right: Duration) -> Timestamp:
    return Timestamp.make(left.nanoseconds - right.nanoseconds)


_NUMBERS = ("int", "uint", "double")
for _name, _compare in (("_<_", operator.lt), ("_<=_", operator.le), ("_>_", operator.gt), ("_>=_", operator.ge)):
    for _one in ("bool", "string", "bytes", "timestamp", "duration"):
        function(f"{_name}({_one}, {_one}): bool")(_compare)
    for _one in _NUMBERS:
        for _other in _NUMBERS:
            function(f"{_name}({_one}, {_other}): bool")(_compare)
