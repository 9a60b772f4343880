"""Values that may be absent: `optional.of`, `?.`, `orValue`. https://github.com/google/cel-spec/wiki/proposal-246."""

from __future__ import annotations

from typing import Any

from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.values import NONE, CelError, Maybe

function = Functions()


@function("optional.of(T): optional(T)")
def _of(value: Any) -> Maybe:
    return Maybe(True, value)


_ZEROS: tuple[Any, ...] = (None, False, 0, 0.0, "", b"", [], {})


@function("optional.ofNonZeroValue(T): optional(T)")
def _of_non_zero(value: Any) -> Maybe:
    return NONE if value in _ZEROS or getattr(value, "nanoseconds", 1) == 0 else Maybe(True, value)


@function("optional.none(): optional(T)")
def _none() -> Maybe:
    return NONE


@function("(optional(T)).hasValue(): bool")
def _has_value(optional: Maybe) -> bool:
    return optional.present


@function("(optional(T)).value(): T")
def _value(optional: Maybe) -> Any:
    if not optional.present:
        raise CelError("optional.none() dereference")
    return optional.value


@function("(optional(T)).or(optional(T)): optional(T)")
def _or(first: Maybe, second: Maybe) -> Maybe:
    return first if first.present else second


@function("(optional(T)).orValue(T): T")
def _or_value(optional: Maybe, other: Any) -> Any:
    return optional.value if optional.present else other
