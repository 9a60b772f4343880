"""What the API server asks of its state: etcd's contract, cut to what Kubernetes uses.

Every successful write takes the next revision. A write says which revision of its key it replaces and fails if
another came first (compare-and-swap). Changes are delivered in revision order, none missing, none twice, and a write
returns only after every subscriber has been handed it: who reads a cache after a write has returned sees that write.
A write that has returned is on stable storage. Specified by https://etcd.io/docs/latest/learning/api/.

A backend may be shared with other servers, whose writes arrive a moment after they were acknowledged there: who must
see them asks it to `catch_up` first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

ROOT = "/registry/"  # every key is below it


class KeyValue(NamedTuple):
    """One key as it stands at some revision."""

    key: str
    value: bytes
    create_revision: int  # of the write that made the key
    mod_revision: int  # of the write that gave it this value


class Write(NamedTuple):
    """One key to be written, as part of a write of several."""

    key: str
    value: bytes | None  # None: the key is to be deleted
    expected: int  # the key's current `mod_revision`, 0 for a new key


class Change(NamedTuple):
    """One write, as watchers see it."""

    key: str
    value: bytes | None  # None: the key was deleted
    revision: int


Subscriber = Callable[[Sequence[Change]], None]
"""Takes consecutive changes, oldest first; called in the event loop, must not block and must not raise."""


Gap = Callable[[int], None]
"""Told that changes up to a revision were lost for good: what is handed over next leads to the state at that revision,
but lacks what came and went before it."""


def no_gap(revision: int) -> None:
    """For a subscriber that only wants to know how things stand."""


class StoreError(Exception):
    """The backend could not do it (disk full, read-only, connection lost); nothing was written, as far as one can tell:
    a shared backend may have been cut off in between."""


class RevisionConflict(StoreError):
    """The key's revision is not the expected one; `found` is what it is now (0: no such key)."""

    def __init__(self, key: str, expected: int, found: int) -> None:
        super().__init__(f"{key}: expected revision {expected}, found {found}")
        self.key = key
        self.found = found


class Compacted(StoreError):
    """History before `oldest` is gone: the reader must list again."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"revision {asked} has been compacted, the oldest kept is {oldest}")
        self.oldest = oldest


class Store(Protocol):
    """A revisioned key-value store; one instance belongs to one event loop."""

    is_shared: bool
    """Whether others write to the same keys."""

    @property
    def revision(self) -> int:
        """The revision of the newest write that subscribers have been handed; only grows, also over restarts."""

    @property
    def size(self) -> int | None:
        """Bytes on this machine's disk; None for a backend elsewhere."""

    @property
    def oldest(self) -> int:
        """The revision that a subscription must at least start after."""

    async def catch_up(self) -> None:
        """Return when subscribers have been handed every write that anyone was acknowledged before this call."""

    async def reach(self, revision: int) -> None:
        """Return when subscribers have been handed every write up to `revision`, which may lie in the future."""

    async def get(self, key: str) -> KeyValue | None:
        """The key as it stands now."""

    async def range(self, prefix: str) -> tuple[list[KeyValue], int]:
        """Every key below `prefix` in key order, and the revision at which that was true."""

    async def put(self, key: str, value: bytes, expected: int) -> int:
        """Write and return the new revision; `expected` is the key's current `mod_revision`, 0 for a new key.

        Raises RevisionConflict, or StoreError when the write could not be made durable.
        """

    async def delete(self, key: str, expected: int) -> int:
        """Delete and return the revision of the deletion. Raises as `put` does; a missing key is a conflict."""

    async def write(self, writes: Sequence[Write]) -> list[int]:
        """Make all of the writes, of different keys, or none of them; returns the revision of each, in their order.

        Subscribers are handed all of them at once. Raises as `put` does; a conflict names the key that it is about.
        """

    def subscribe(self, prefix: str, after: int, subscriber: Subscriber, gap: Gap = no_gap) -> Callable[[], None]:
        """Hand `subscriber` every change below `prefix` with a revision greater than `after`; returns the way out.

        Changes already made are handed over before this returns. Raises Compacted when `after` is below `oldest`.
        """

    async def check(self) -> None:
        """Ask the backend itself for an answer; raises StoreError where there is none."""

    async def compact(self, revision: int) -> None:
        """Forget superseded values and deletions up to `revision`; the newest value of each key stays."""

    async def close(self) -> None:
        """Finish what was accepted and release the backend. Writes after this raise StoreError."""
