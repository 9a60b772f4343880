"""Sets of fields: which parts of an object somebody owns, with the algebra that server-side apply needs.

A set is kept as `FieldsV1` writes it, a tree of path elements: `f:<name>` of a struct or a map, `k:<keys>` of a keyed
list, `v:<value>` of a set, `i:<index>`. An element that holds nothing or `.` is a member; one that holds other elements
is the way to them. Sets are shared and never changed: every operation makes a new one and takes over what it can.
https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management.

    team = parse({"f:spec": {"f:replicas": {}}})
    paths(team)                                   # [('f:spec', 'f:replicas')]
    path_text(('f:spec', 'k:{"name":"web"}'))     # .spec[name="web"]
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson

Fields = dict[str, Any]
"""A set, or below an element the part of one: element -> what is below it."""

Path = tuple[str, ...]

SELF = "."
LEAF: Fields = {}  # below a member without anything else
EMPTY: Fields = {}  # the set of nothing


class FieldsError(ValueError):
    """What was read is no set of fields."""


# Elements.


def field(name: str) -> str:
    """The element of a struct's field or a map's entry."""
    return "f:" + name


def key(fields: dict[str, Any]) -> str:
    """The element of an item of a keyed list, from the values of its keys."""
    return "k:" + orjson.dumps(fields, option=orjson.OPT_SORT_KEYS).decode()


def value(item: Any) -> str:
    """The element of an item of a set."""
    return "v:" + orjson.dumps(item).decode()


def path_text(path: Path) -> str:
    """A path as conflicts name it: `.spec.containers[name="web"].image`."""
    return "".join(map(element_text, path))


def element_text(element: str) -> str:
    """One element of a path, as it is shown: `.spec`, `[name="web"]`, `[="finalizer"]`, `[0]`."""
    kind, _, rest = element.partition(":")
    if kind == "f":
        return "." + rest
    if kind == "k":
        keys = orjson.loads(rest)
        return "[" + ",".join(f"{name}={_value_text(keys[name])}" for name in sorted(keys)) + "]"
    return f"[={_value_text(orjson.loads(rest))}]" if kind == "v" else f"[{rest}]"


def _value_text(item: Any) -> str:
    if isinstance(item, bool | str):
        return json.dumps(item, ensure_ascii=False)
    return "null" if item is None else str(item)


# Reading and writing.


def parse(tree: Any) -> Fields:
    """The set that a `fieldsV1` of unknown origin holds, its elements in canonical form. Raises FieldsError."""
    if not isinstance(tree, dict):
        raise FieldsError("expected a map of fields")
    found: Fields = {}
    for text, below in tree.items():
        if text == SELF:
            found[SELF] = LEAF
        else:
            found[_canonical(text)] = _member_only(parse(below))
    return found


def _member_only(below: Fields) -> Fields:
    return LEAF if below.keys() == {SELF} else below


def _canonical(text: str) -> str:
    kind, colon, rest = text.partition(":")
    if not colon:
        raise FieldsError("missing colon")
    try:
        if kind == "f":
            return text
        if kind == "v":
            return value(orjson.loads(rest))
        if kind == "k":
            keys = orjson.loads(rest)
            if isinstance(keys, dict):
                return key(keys)
        if kind == "i":
            return f"i:{int(rest)}"
    except ValueError:
        pass
    raise FieldsError(f"invalid path element {text}")


def ordered(fields: Fields) -> Fields:
    """The same set with its elements in the order in which they are written."""
    if not fields:
        return fields
    return {element: ordered(fields[element]) for element in sorted(fields)}


def paths(fields: Fields) -> list[Path]:
    """Every member, those above before those below."""
    return list(_paths(fields, ()))


def _paths(fields: Fields, above: Path) -> Iterator[Path]:
    elements = [element for element in sorted(fields) if element != SELF]
    for element in elements:
        if is_member(fields[element]):
            yield (*above, element)
    for element in elements:
        if fields[element]:
            yield from _paths(fields[element], (*above, element))


def of(*members: Path) -> Fields:
    """The set of these members."""
    found = EMPTY
    for path in members:
        found = union(found, _one(path))
    return found


def _one(path: Path) -> Fields:
    below = LEAF
    for element in reversed(path):
        below = {element: below}
    return below


# Asking.


def is_member(below: Fields) -> bool:
    """Whether an element with `below` under it is itself in the set."""
    return not below or SELF in below


def has(fields: Fields, path: Path) -> bool:
    """Whether `path` is a member."""
    below = at(fields, *path)
    return below is not None and is_member(below)


def at(fields: Fields, *path: str) -> Fields | None:
    """What is below `path`; None where the set has neither it nor anything under it."""
    found: Fields | None = fields
    for element in path:
        if found is None:
            return None
        found = found.get(element)
    return found


# Algebra.


def union(left: Fields, right: Fields) -> Fields:
    """The members of either."""
    if not right or left is right:
        return left
    if not left:
        return right
    found = dict(left)
    for element, below in right.items():
        before = found.get(element)
        if before is None:
            found[element] = below
        elif element != SELF:
            found[element] = _join(before, below)
    return found


def _join(left: Fields, right: Fields) -> Fields:
    if left is right or (not left and not right):
        return left
    joined = union(left, right)
    return joined if SELF in joined or (left and right) else {SELF: LEAF, **joined}


def grown(left: Fields, right: Fields) -> Fields:
    """The members of either, in the order in which they are written if those of `left` are."""
    if not right or left is right:
        return left
    if not left:
        return ordered(right)
    found = dict(left)
    for element, below in right.items():
        before = found.get(element)
        if before is None:
            found[element] = ordered(below)
        elif element != SELF and (before or below):
            joined = grown(before, below)
            found[element] = joined if SELF in joined or (before and below) else {SELF: LEAF, **joined}
    return found if len(found) == len(left) else dict(sorted(found.items()))


def difference(left: Fields, right: Fields) -> Fields:
    """The members of `left` that are not in `right`; what is below a member of both stays."""
    if not left or not right:
        return left
    found: Fields = {}
    for element, below in left.items():
        other = right.get(element)
        if other is None:
            found[element] = below
        elif element != SELF:
            rest = difference(_below(below), _below(other))
            put(found, element, rest, is_member(below) and not is_member(other))
    return found


def recursive_difference(left: Fields, right: Fields) -> Fields:
    """The members of `left` that neither are in `right` nor below a member of it."""
    if not left or not right:
        return left
    found: Fields = {}
    for element, below in left.items():
        other = right.get(element)
        if other is None:
            found[element] = below
        elif not is_member(other):
            put(found, element, recursive_difference(_below(below), other), is_member(below))
    return found


def intersection(left: Fields, right: Fields) -> Fields:
    """The members of both."""
    found: Fields = {}
    if len(left) > len(right):
        left, right = right, left
    for element, below in left.items():
        other = right.get(element)
        if other is not None and element != SELF:
            put(found, element, intersection(below, other), is_member(below) and is_member(other))
    return found


def within(fields: Fields, prefixes: Fields) -> Fields:
    """The members of `fields` that are members of `prefixes` or below one."""
    found: Fields = {}
    for element, below in fields.items():
        other = prefixes.get(element)
        if other is None:
            continue
        if is_member(other):
            found[element] = below
        else:
            put(found, element, within(_below(below), other), False)
    return found


def _below(fields: Fields) -> Fields:
    """The members under an element, without the element itself."""
    return {name: below for name, below in fields.items() if name != SELF} if SELF in fields else fields


def put(found: Fields, element: str, below: Fields, member: bool) -> None:
    """Set an element in place from what is under it and whether it is a member itself."""
    if member:
        found[element] = {SELF: LEAF, **below} if below else LEAF
    elif below:
        found[element] = below
