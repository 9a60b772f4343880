"""What objects have in common, kept once: most pods of a cluster are made from few templates.

An informer keeps every object decoded: a pod of 5 kB takes 10 then, and nearly all of it is equal to what its siblings
have: containers, tolerations, annotations. Objects that informers hold are read-only, so equal parts can be one part.
Parts are compared as JSON; a bounded number of those met last is remembered.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any

import orjson

from pinnace.machinery.meta import Obj

GENERATION_BYTES = 512 << 10  # that the parts of a generation may take up, about; there are two generations
ENTRY_BYTES = 300  # of those, what it takes to remember any part
PART_BYTES = 16 << 10  # a longer part is likely to be the only one of its kind
RECENT = 256  # objects whose lean form is remembered, for the next informer that is told of the same change
DEPTH = 3  # of a part within a section: a field of the spec, an element of it, an element of that

_SECTIONS = frozenset({"spec", "status"})


class Parts:
    """Parts of objects by their JSON: of those met in this generation, and of those met in the one before."""

    def __init__(self, room: int = GENERATION_BYTES) -> None:
        self._room = self._left = room
        self._young: dict[bytes, Any] = {}
        self._old: dict[bytes, Any] = {}

    def one(self, part: Any, depth: int = DEPTH) -> Any:
        """The part that is kept of all that are equal to this one."""
        if type(part) is not dict and type(part) is not list:
            return part
        try:
            text = orjson.dumps(part)
        except TypeError:  # not of a server: let it be
            return part
        if len(text) > PART_BYTES:
            return part
        found = self._young.get(text)
        if found is None:
            found = self._old.get(text)
            if found is None:
                found = part if depth == 0 else self._of_parts(part, depth - 1)
            self._remember(text, found)
        return found

    def _of_parts(self, part: Any, depth: int) -> Any:
        if type(part) is list:
            return [self.one(item, depth) for item in part]
        return {name: self.one(item, depth) for name, item in part.items()}

    def _remember(self, text: bytes, part: Any) -> None:
        self._left -= ENTRY_BYTES + len(text)
        if self._left < 0:
            self._left = self._room
            self._old, self._young = self._young, {}
        self._young[text] = part


class Lean:
    """Objects as informers keep them: without `managedFields`, which take as much room as the rest and which nobody
    reads there, and with equal parts shared."""

    def __init__(self) -> None:
        self._parts = Parts()
        self._made: dict[int, tuple[Obj, Obj]] = {}  # by id, what came and what was made of it
        self._order: deque[int] = deque()

    def of(self, obj: Obj) -> Obj:
        """`obj`, lean. Neither is to be changed from now on."""
        made = self._made.get(id(obj))
        if made is not None:
            return made[1]
        lean = self._make(obj)
        self._made[id(obj)] = obj, lean  # `obj` is held, so that no other gets its id
        self._order.append(id(obj))
        if len(self._order) > RECENT:
            del self._made[self._order.popleft()]
        return lean

    def _make(self, obj: Obj) -> Obj:
        one = self._parts.one
        lean: Obj = {}
        for name, value in obj.items():
            if name == "metadata":
                lean[name] = {key: one(item) for key, item in value.items() if key != "managedFields"}
            elif name in _SECTIONS:
                lean[name] = one(value)
            elif type(value) is str:
                lean[name] = sys.intern(value)  # kind and apiVersion
            else:
                lean[name] = value
        return lean


lean = Lean()  # of every informer of this process
