"""A configuration merged into an object, and fields taken out of one: the two steps of an apply.

Neither changes what it is given; results share what stayed as it was.
https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy.
"""

from __future__ import annotations

from typing import Any

from pinnace.machinery import fieldset
from pinnace.machinery.fieldset import LEAF, SELF, Fields
from pinnace.machinery.typed import DEDUCED, ItemError, Node, is_leaf, item_element

_ABSENT: Any = object()


def merge(node: Node, live: Any, config: Any) -> Any:
    """`live` with everything that `config` says; what `config` leaves out stays."""
    if is_leaf(node, config) or (not live and not config):
        return config
    if node.shape in ("keyed", "set"):
        if type(config) is not list:
            return live  # null says nothing of a list
        return _merge_lists(node, live if type(live) is list else [], config)
    if type(config) is not dict:
        return live
    return _merge_maps(node, live if type(live) is dict else {}, config)


def _merge_maps(node: Node, live: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    merged = dict(live)
    for name, item in config.items():
        before = live.get(name, _ABSENT)
        child = node.field(name) or DEDUCED
        merged[name] = item if before is _ABSENT else merge(child, before, item)
    return merged


def _merge_lists(node: Node, live: list[Any], config: list[Any]) -> list[Any]:
    """The items of both: those of `config` in its order, those of `live` alone between them where they were."""
    ours = [(item_element(node, item), item) for item in config]
    theirs = [(_element(node, item, index), item) for index, item in enumerate(live)]
    wanted = {element for element, _ in ours}
    found: dict[str, Any] = {}
    for element, item in theirs:
        found[element] = _ABSENT if element in found else item  # what stands there twice is replaced
    shared = iter([element for element, _ in ours if element in found])
    next_shared = next(shared, None)
    merged: list[Any] = []
    taken: set[str] = set()

    def take(element: str, item: Any) -> None:
        before = found.get(element, _ABSENT)
        child = node.element or DEDUCED
        merged.append(item if before is _ABSENT else merge(child, before, item))
        taken.add(element)

    left = right = 0
    while left < len(theirs) or right < len(ours):
        if left < len(theirs):
            element, item = theirs[left]
            both = right < len(ours)
            if both and element == ours[right][0]:
                take(*ours[right])
                left, right, next_shared = left + 1, right + 1, next(shared, None)
                continue
            if element not in wanted:
                merged.append(item)
                left += 1
                continue
            if both and next_shared is not None and element != next_shared:
                left += 1  # its turn comes where `config` has it
                continue
            if element in taken:
                left += 1
        if right < len(ours):
            element = ours[right][0]
            take(*ours[right])
            right += 1
            if element == next_shared:
                next_shared = next(shared, None)
    return merged


def _element(node: Node, item: Any, index: int) -> str:
    """The element of a live item; one without keys is like no other."""
    try:
        return item_element(node, item)
    except ItemError:
        return f"?:{index}"


def remove(node: Node, value: Any, fields: Fields) -> Any:
    """`value` without the members of `fields`; maps and lists that lose everything stay, empty."""
    if not fields or not value or is_leaf(node, value):
        return value
    if node.shape in ("keyed", "set"):
        return _remove_items(node, value, fields) if type(value) is list else value
    if type(value) is not dict:
        return value
    kept: dict[str, Any] = {}
    for name, item in value.items():
        below = fields.get("f:" + name)
        if below is None:
            kept[name] = item
        elif not fieldset.is_member(below):
            kept[name] = remove(node.field(name) or DEDUCED, item, below)
    return kept


def _remove_items(node: Node, items: list[Any], fields: Fields) -> list[Any]:
    kept = []
    for item in items:
        try:
            below = fields.get(item_element(node, item))
        except ItemError:
            below = None
        if below is None:
            kept.append(item)
        elif not fieldset.is_member(below):
            kept.append(remove(node.element or DEDUCED, item, below))
    return kept


def extract(node: Node, value: Any, fields: Fields) -> Any:
    """The part of `value` that the members of `fields` are: the configuration that would apply them."""
    return _extract(node, value, fields) if fields else {}


def _extract(node: Node, value: Any, fields: Fields) -> Any:
    if not fields or is_leaf(node, value):
        return value
    if node.shape in ("keyed", "set"):
        parts = []
        for item in value or ():
            below = fields.get(item_element(node, item))
            if below is not None:
                parts.append(_extract(node.element or DEDUCED, item, _with_keys(node, below)))
        return parts
    found: dict[str, Any] = {}
    for name, item in (value or {}).items():
        below = fields.get("f:" + name)
        if below is not None:
            found[name] = _extract(node.field(name) or DEDUCED, item, below)
    return found


def _with_keys(node: Node, below: Fields) -> Fields:
    """An item is nothing without its keys, whoever owns them."""
    return fieldset.union(below, {"f:" + name: LEAF for name in node.keys}) if below else below


def with_named_fields(node: Node, fields: Fields) -> Fields:
    """`fields` and every declared field on the way to one: a struct goes when all that is in it goes."""
    found: Fields = {}
    for element, below in fields.items():
        if element == SELF or not below:
            found[element] = below
            continue
        child = _below(node, element)
        inner = with_named_fields(child, below)
        named = element.startswith("f:") and node.names(element[2:])
        found[element] = {SELF: LEAF, **inner} if named and SELF not in inner else inner
    return found


def _below(node: Node, element: str) -> Node:
    if element.startswith("f:"):
        return node.field(element[2:]) or DEDUCED
    return node.element or DEDUCED
