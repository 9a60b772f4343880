"""Two states of an object compared: which fields came, which went, which have another value.

A field that came or went takes everything below it along. Lists and maps with parts are compared part by part, whatever
their order; a list item that stands there twice is compared as one lump.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pinnace.machinery import fieldset
from pinnace.machinery.fieldset import EMPTY, LEAF, Fields
from pinnace.machinery.typed import DEDUCED, ItemError, Node, created, item_element


class Comparison(NamedTuple):
    added: Fields
    modified: Fields
    removed: Fields

    @property
    def is_same(self) -> bool:
        return not (self.added or self.modified or self.removed)

    @property
    def changed(self) -> Fields:
        """What the new state has that the old had not, or had otherwise."""
        return fieldset.union(self.modified, self.added)

    def without(self, ignored: Fields) -> Comparison:
        """The comparison less what is in or below `ignored`."""
        if not ignored:
            return self
        return Comparison(*(fieldset.recursive_difference(each, ignored) for each in self))


def compare(node: Node, old: Any, new: Any) -> Comparison:
    """What distinguishes two values of one node."""
    walk = _Walk()
    walk.values(node, old, new)
    return Comparison(walk.added, walk.modified, walk.removed)


class _Walk:
    """What was found below one element."""

    __slots__ = ("added", "modified", "removed")

    def __init__(self) -> None:
        self.added: Fields = EMPTY
        self.modified: Fields = EMPTY
        self.removed: Fields = EMPTY

    def values(self, node: Node, old: Any, new: Any) -> bool:
        """Compare what is below; whether the value itself is another one."""
        shape = node.shape
        if shape in ("struct", "map"):
            return self._maps(node, old, new)
        if shape in ("keyed", "set"):
            return self._lists(node, old, new)
        if shape == "deduced" and (type(old) is dict or type(new) is dict):
            self._maps(node, old, new)
            return type(old) is not type(new)
        return not node.equal(old, new)

    def _maps(self, node: Node, old: Any, new: Any) -> bool:
        if not old and not new and type(old) is not type(new):
            return True  # null is not the empty map
        before = old if type(old) is dict else {}
        after = new if type(new) is dict else {}
        for name, item in after.items():
            if name not in before:
                self._came(node.field(name) or DEDUCED, "f:" + name, item)
                continue
            was = before[name]
            if was is item:
                continue
            child = node.field(name) or DEDUCED
            if not child.equal(was, item):
                self._both(child, "f:" + name, was, item)
        for name, item in before.items():
            if name not in after:
                self._went(node.field(name) or DEDUCED, "f:" + name, item)
        return False

    def _lists(self, node: Node, old: Any, new: Any) -> bool:
        if not old and not new and type(old) is not type(new):
            return True
        before, after = _by_element(node, old), _by_element(node, new)
        child = node.element or DEDUCED
        for element in {**before, **after}:
            self._items(child, element, before.get(element, ()), after.get(element, ()))
        return False

    def _items(self, node: Node, element: str, old: Any, new: Any) -> None:
        if len(old) <= 1 and len(new) <= 1:
            if not new:
                self._went(node, element, old[0])
            elif not old:
                self._came(node, element, new[0])
            elif not node.equal(old[0], new[0]):
                self._both(node, element, old[0], new[0])
        elif len(old) >= 2 and len(new) >= 2:
            if not node.equal(old, new):
                self.modified = {**self.modified, element: LEAF}
        elif len(old) >= 2:
            if new:
                self._came(node, element, new[0])
            self.removed = fieldset.union(self.removed, {element: LEAF})
        else:
            if old:
                self._went(node, element, old[0])
            self.added = fieldset.union(self.added, {element: LEAF})

    def _came(self, node: Node, element: str, item: Any) -> None:
        self.added = fieldset.union(self.added, {element: created(node)(item)})

    def _went(self, node: Node, element: str, item: Any) -> None:
        self.removed = fieldset.union(self.removed, {element: created(node)(item)})

    def _both(self, node: Node, element: str, old: Any, new: Any) -> None:
        below = _Walk()
        changed = below.values(node, old, new)
        if below.added:
            self.added = {**self.added, element: below.added}
        if below.removed:
            self.removed = {**self.removed, element: below.removed}
        if changed or below.modified:
            modified = dict(self.modified)
            fieldset.put(modified, element, below.modified, changed)
            self.modified = modified


def _by_element(node: Node, items: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for item in items if type(items) is list else ():
        try:
            found.setdefault(item_element(node, item), []).append(item)
        except ItemError:
            continue
    return found
