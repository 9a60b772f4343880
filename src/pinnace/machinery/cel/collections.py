"""Lists that are sets or maps: their `==` knows no order, and their `+` merges.

https://kubernetes.io/docs/reference/using-api/cel/#cel-type-checking names both: elements of a list of type `set`, and
those of a `map` by their keys, are the same wherever they stand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pinnace.machinery.cel.types import Type
from pinnace.machinery.cel.values import equal

Same = Callable[[Any, Any], bool]


def comparator(left: Type, right: Type) -> Same:
    """What `==` means between values of two types."""
    return _same(left) or _same(right) or equal


def _same(of: Type, depth: int = 0) -> Same | None:
    """What `==` means for a type, where it is not what it means for JSON values."""
    if depth > 12:  # a schema that holds itself
        return None
    if of.kind == "list":
        element = _same(of.element, depth + 1) or equal
        if of.list_type == "set":
            return lambda left, right: _as_sets(left, right, element)
        if of.list_type == "map":
            return lambda left, right: _as_maps(left, right, of.list_keys, element)
        return None if element is equal else lambda left, right: _in_order(left, right, element)
    if of.kind == "map":
        value = _same(of.element, depth + 1)
        return None if value is None else lambda left, right: _by_key(left, right, {}, value)
    if of.kind == "object" and of.fields is not None:
        special = {field.key: _same(field.type, depth + 1) for field in of.fields().values()}
        known = {key: same for key, same in special.items() if same is not None}
        return (lambda left, right: _by_key(left, right, known, equal)) if known else None
    return None


def _in_order(left: Any, right: Any, same: Same) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


def _by_key(left: Any, right: Any, known: dict[str, Same], other: Same) -> bool:
    if not (isinstance(left, dict) and isinstance(right, dict)):
        return equal(left, right)
    return left.keys() == right.keys() and all(known.get(key, other)(value, right[key]) for key, value in left.items())


def _as_sets(left: Any, right: Any, same: Same) -> bool:
    if not (isinstance(left, list) and isinstance(right, list)):
        return equal(left, right)
    return len(left) == len(right) and all(any(same(one, other) for other in right) for one in left)


def _key(element: Any, keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(element.get(key) for key in keys) if isinstance(element, dict) else (element,)


def _as_maps(left: Any, right: Any, keys: tuple[str, ...], same: Same) -> bool:
    if not (isinstance(left, list) and isinstance(right, list)):
        return equal(left, right)
    found = {_key(each, keys): each for each in right}
    return len(left) == len(right) and all(
        _key(each, keys) in found and same(each, found[_key(each, keys)]) for each in left
    )


def adder(of: Type) -> Callable[[list[Any], list[Any]], list[Any]]:
    """What `+` means for lists of a type: a set's union, a map's entries with the second's winning."""
    if of.list_type == "set":
        return _union
    return lambda left, right: _merged(left, right, of.list_keys)


def _union(left: list[Any], right: list[Any]) -> list[Any]:
    return left + [each for each in right if not any(equal(each, one) for one in left)]


def _merged(left: list[Any], right: list[Any], keys: tuple[str, ...]) -> list[Any]:
    newer = {_key(each, keys): each for each in right}
    kept = [newer.pop(_key(each, keys), each) for each in left]
    return kept + [each for each in right if _key(each, keys) in newer]
