"""What an informer knows: objects by key, and by whatever else their users look them up with.

Objects are shared and read-only. Indexes are kept as objects come and go, so a look-up costs no scan. It is the
counterpart of client-go's thread-safe store; one event loop owns it, so there is no locking.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, KeysView

from pinnace.machinery.meta import Obj, controller_of, key_of, namespace_of

IndexFn = Callable[[Obj], Iterable[str]]
"""The values under which an object is found."""


def by_namespace(obj: Obj) -> Iterable[str]:
    """Index function: the namespace."""
    return (namespace_of(obj),)


def by_controller(obj: Obj) -> Iterable[str]:
    """Index function: the uid of the controlling owner."""
    owner = controller_of(obj)
    return (owner["uid"],) if owner else ()


class _Index:
    """Values of one index function, each with the objects found under it."""

    def __init__(self, fn: IndexFn) -> None:
        self.fn = fn
        self.found: dict[str, dict[str, Obj]] = {}

    def replace(self, key: str, old: Obj | None, new: Obj | None) -> None:
        before = set(self.fn(old)) if old is not None else set()
        after = set(self.fn(new)) if new is not None else set()
        for value in before - after:
            bucket = self.found.get(value)
            if bucket is not None:
                bucket.pop(key, None)
                if not bucket:
                    del self.found[value]
        if new is not None:
            for value in after:
                self.found.setdefault(value, {})[key] = new


class ObjectStore:
    """Objects of one resource, by key and by index."""

    def __init__(self) -> None:
        self._objects: dict[str, Obj] = {}
        self._indexes: dict[str, _Index] = {}

    # Looking up.

    def get(self, key: str) -> Obj | None:
        return self._objects.get(key)

    def list(self) -> list[Obj]:
        return list(self._objects.values())

    def keys(self) -> KeysView[str]:
        return self._objects.keys()

    def by_index(self, name: str, value: str) -> builtins.list[Obj]:
        """The objects whose index function returned `value`; KeyError for an index nobody added."""
        bucket = self._indexes[name].found.get(value)
        return list(bucket.values()) if bucket else []

    def count(self, name: str, value: str) -> int:
        """How many objects `by_index` would return."""
        return len(self._indexes[name].found.get(value, ()))

    def __len__(self) -> int:
        return len(self._objects)

    def __contains__(self, key: str) -> bool:
        return key in self._objects

    # Changing: the informer alone.

    def add_index(self, name: str, fn: IndexFn) -> None:
        """Keep an index; adding one again under its name does nothing. Raises ValueError for another's name."""
        if name in self._indexes:
            if self._indexes[name].fn != fn:
                raise ValueError(f"there is another index named {name}")
            return
        index = self._indexes[name] = _Index(fn)
        for key, obj in self._objects.items():
            index.replace(key, None, obj)

    def put(self, obj: Obj) -> Obj | None:
        """Remember `obj`; returns what it replaced."""
        key = key_of(obj)
        old = self._objects.get(key)
        self._objects[key] = obj
        for index in self._indexes.values():
            index.replace(key, old, obj)
        return old

    def remove(self, key: str) -> Obj | None:
        """Forget the object of that key; returns it."""
        old = self._objects.pop(key, None)
        if old is not None:
            for index in self._indexes.values():
                index.replace(key, old, None)
        return old
