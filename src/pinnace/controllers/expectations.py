"""What a controller has just done and its informer has not shown it yet.

Without this, a controller that creates three pods and looks again before they appear would create three more. A key
whose changes have all been seen is satisfied; changes not seen in five minutes are taken as lost.
"""

from __future__ import annotations

import time

from pinnace.client.informer import Informer
from pinnace.machinery.meta import Obj, is_deleting, key_of, uid_of

_PATIENCE_SECONDS = 300.0


class Expectations:
    """Creations and deletions of one resource, by the key of the owner that did them."""

    def __init__(self, informer: Informer) -> None:
        self._store = informer.store
        self._creations: dict[str, dict[str, float]] = {}  # owner key -> uid -> when
        self._deletions: dict[str, dict[str, float]] = {}
        self._created_by: dict[str, str] = {}  # uid -> owner key
        self._deleted_by: dict[str, str] = {}
        informer.add_handler(self._see, lambda _, new: self._see(new), self._see_gone)

    def created(self, key: str, obj: Obj) -> None:
        """The owner `key` made `obj`, as the server answered."""
        known = self._store.get(key_of(obj))
        if known is None or uid_of(known) != uid_of(obj):
            self._creations.setdefault(key, {})[uid_of(obj)] = time.monotonic()
            self._created_by[uid_of(obj)] = key

    def deleted(self, key: str, obj: Obj) -> None:
        """The owner `key` deleted `obj`."""
        known = self._store.get(key_of(obj))
        if known is not None and uid_of(known) == uid_of(obj) and not is_deleting(known):
            self._deletions.setdefault(key, {})[uid_of(obj)] = time.monotonic()
            self._deleted_by[uid_of(obj)] = key

    def satisfied(self, key: str) -> bool:
        """Whether the informer shows everything that the owner did."""
        oldest = time.monotonic() - _PATIENCE_SECONDS
        for table in (self._creations, self._deletions):
            if any(when > oldest for when in table.get(key, {}).values()):
                return False
        self.forget(key)
        return True

    def forget(self, key: str) -> None:
        """The owner is gone."""
        for table, owners in ((self._creations, self._created_by), (self._deletions, self._deleted_by)):
            for uid in table.pop(key, {}):
                owners.pop(uid, None)

    def _see(self, obj: Obj) -> None:
        self._observe(self._creations, self._created_by, uid_of(obj))
        if is_deleting(obj):
            self._observe(self._deletions, self._deleted_by, uid_of(obj))

    def _see_gone(self, obj: Obj) -> None:
        self._observe(self._creations, self._created_by, uid_of(obj))
        self._observe(self._deletions, self._deleted_by, uid_of(obj))

    @staticmethod
    def _observe(table: dict[str, dict[str, float]], owners: dict[str, str], uid: str) -> None:
        key = owners.pop(uid, None)
        if key is not None:
            expected = table.get(key, {})
            expected.pop(uid, None)
            if not expected:
                table.pop(key, None)
