"""The store on one SQLite file: an append-only log of writes, every key's revision in memory, one thread that commits.

A write is decided (compare-and-swap, revision) in the event loop the moment it is asked for, in that order; the thread
commits whatever has gathered since its last commit as one transaction (group commit), and one call back into the loop
hands the batch to subscribers, then to the writers. Exactly one connection of one thread of one process touches the
file (a lock file sees to it), which SQLite before 3.51.3 needs to be safe in WAL mode. https://sqlite.org/wal.html
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future as ThreadFuture
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from pinnace.store.contract import (
    ROOT,
    Change,
    Compacted,
    Gap,
    KeyValue,
    RevisionConflict,
    StoreError,
    Subscriber,
    Write,
    no_gap,
)

MAX_BATCH = 512  # writes in one transaction
ROWS_PER_STATEMENT = 64  # one INSERT of many rows leaves and takes the interpreter lock once, not once a row
COMPACT_BATCH = 1000  # rows a compaction deletes before it lets writes through again
CHECKPOINT_IDLE = 1.0  # seconds without a write before the log file is folded into the database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (
    rev INTEGER PRIMARY KEY, key TEXT NOT NULL, create_rev INTEGER NOT NULL, deleted INTEGER NOT NULL, value BLOB
);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""


class _Write:
    """One accepted write on its way to the disk; `value` is None for a deletion."""

    __slots__ = ("create_revision", "epoch", "future", "key", "replaces", "revision", "value")

    def __init__(
        self,
        key: str,
        value: bytes | None,
        replaces: int,
        create_revision: int,
        revision: int,
        epoch: int,
        future: asyncio.Future[int],
    ) -> None:
        self.key = key
        self.value = value
        self.replaces = replaces  # revision of the value it replaces, 0 for none
        self.create_revision = create_revision
        self.revision = revision
        self.epoch = epoch  # writes accepted on top of one that failed fail with it
        self.future = future


class _Job:
    """Work for the thread besides writes."""

    __slots__ = ("done", "run")

    def __init__(self, run: Callable[[], Any]) -> None:
        self.run = run
        self.done: ThreadFuture[Any] = ThreadFuture()


class SqliteStore:
    """`pinnace.store.contract.Store` on the SQLite file at `path`; made by `SqliteStore.open` in a running loop."""

    is_shared = False

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._path = path
        self._loop = loop
        self._lock_fd = _lock(path)
        # What has been committed and handed to subscribers. Owned by the event loop.
        self._current: dict[str, tuple[int, int]] = {}  # of every key, the revisions that created and last wrote it
        self._initial: list[KeyValue] | None = None  # what was found at the start, for the first who asks
        self._revision = 0
        self._compacted = 0
        self._subscribers: dict[int, tuple[str, Subscriber]] = {}
        self._next_subscriber = 0
        # What has been accepted but not committed. Owned by the event loop.
        self._pending: dict[str, _Write] = {}  # the newest accepted write of a key
        self._unsettled: deque[_Write] = deque()
        self._last_accepted = 0
        self._epoch = 1
        self._closing = False
        # Owned by the thread once it runs.
        self._superseded: deque[tuple[int, int]] = deque()  # (revision that made it so, revision no longer needed)
        self._failed_epoch = 0
        self._queue: SimpleQueue[_Write | list[_Write] | _Job | None] = SimpleQueue()
        try:
            self._connection = _connect(path)
            self._load()
        except sqlite3.Error as error:
            os.close(self._lock_fd)
            raise StoreError(f"{path}: {error}") from error
        self._thread = threading.Thread(target=self._run, name="pinnace-store", daemon=True)
        self._thread.start()

    @classmethod
    def open(cls, path: Path) -> SqliteStore:
        """Open or make the file. Raises StoreError when it is damaged, not writable, or open in another process."""
        return cls(path, asyncio.get_running_loop())

    # The contract: reads, from memory.

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def size(self) -> int:
        files = (self._path, self._path.with_name(f"{self._path.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    @property
    def oldest(self) -> int:
        return self._compacted

    async def catch_up(self) -> None:
        """Nobody else writes."""

    async def reach(self, revision: int) -> None:
        if revision > self._revision:
            await self._loop.create_future()  # for ever: whatever is written, it is not what was asked for

    async def get(self, key: str) -> KeyValue | None:
        found = await self._values([key] if key in self._current else [])
        return found[0] if found else None

    async def range(self, prefix: str) -> tuple[list[KeyValue], int]:
        initial, self._initial = self._initial, None
        if initial is None or prefix != ROOT:
            keys = sorted(key for key in self._current if key.startswith(prefix))
            revision = self._revision
            return await self._values(keys), revision
        return initial, self._revision

    async def _values(self, keys: list[str]) -> list[KeyValue]:
        """The keys, which are there, as they stand now. Compaction leaves the rows alone that are current now."""
        if not keys:
            return []
        wanted = [(key, *self._current[key]) for key in keys]
        found: list[KeyValue] = await self._in_thread(lambda: self._read(wanted))
        return found

    # The contract: writes.

    async def put(self, key: str, value: bytes, expected: int) -> int:
        return await self._write(key, value, expected)

    async def delete(self, key: str, expected: int) -> int:
        return await self._write(key, None, expected)

    async def _write(self, key: str, value: bytes | None, expected: int) -> int:
        while (blocker := self._blocker(key, value, expected)) is not None:
            await asyncio.wait([blocker])
        write = self._accept(key, value, self._loop.create_future())
        self._queue.put(write)
        return await write.future

    async def write(self, writes: Sequence[Write]) -> list[int]:
        while True:
            blockers = [blocker for write in writes if (blocker := self._blocker(*write)) is not None]
            if not blockers:
                break
            await asyncio.wait(blockers)
        settled: asyncio.Future[int] = self._loop.create_future()  # one for all: they are committed together
        accepted = [self._accept(write.key, write.value, settled) for write in writes]
        self._queue.put(accepted)
        await settled
        return [write.revision for write in accepted]

    def _blocker(self, key: str, value: bytes | None, expected: int) -> asyncio.Future[int] | None:
        """What must be settled before a write of the key can be judged; None if it may be made. Raises StoreError."""
        if self._closing:
            raise StoreError(f"{self._path}: the store is closed")
        pending = self._pending.get(key)
        if pending is None:
            current = self._current.get(key)
            found = current[1] if current else 0
        else:
            found = pending.revision if pending.value is not None else 0
        if found == expected and (value is not None or found):
            return None
        if pending is None:
            raise RevisionConflict(key, expected, found)
        return pending.future  # lost against a write that is not on disk yet: say so only once it is, for it may fail

    def _accept(self, key: str, value: bytes | None, future: asyncio.Future[int]) -> _Write:
        revision = self._last_accepted = self._last_accepted + 1
        replaces, created = 0, revision
        pending = self._pending.get(key)
        if pending is not None:
            if pending.value is not None:
                replaces, created = pending.revision, pending.create_revision
        elif (current := self._current.get(key)) is not None:
            created, replaces = current
        write = _Write(key, value, replaces, created, revision, self._epoch, future)
        self._pending[key] = write
        self._unsettled.append(write)
        return write

    def _committed(self, count: int) -> None:
        """In the loop: the next `count` accepted writes are on disk."""
        writes = [self._unsettled.popleft() for _ in range(count)]
        self._initial = None
        changes: list[Change] = []
        for write in writes:
            self._apply(write)
            changes.append(Change(write.key, write.value, write.revision))
        self._revision = changes[-1].revision
        for prefix, subscriber in list(self._subscribers.values()):
            matching = [change for change in changes if change.key.startswith(prefix)]
            if matching:
                subscriber(matching)
        for write in writes:
            if not write.future.done():
                write.future.set_result(write.revision)

    def _apply(self, write: _Write) -> None:
        key = write.key
        if self._pending.get(key) is write:
            del self._pending[key]
        if write.value is None:
            del self._current[key]
        else:
            self._current[key] = (write.create_revision, write.revision)

    def _failed(self, epoch: int, reason: str) -> None:
        """In the loop: a commit failed; so does everything accepted on top of it."""
        if epoch != self._epoch:
            return
        self._epoch += 1
        writes = list(self._unsettled)
        self._unsettled.clear()
        self._pending.clear()
        self._last_accepted = self._revision
        for write in writes:
            if not write.future.done():
                write.future.set_exception(StoreError(f"{self._path}: {reason}"))

    # The contract: subscriptions.

    def subscribe(self, prefix: str, after: int, subscriber: Subscriber, gap: Gap = no_gap) -> Callable[[], None]:  # noqa: ARG002 - nothing is ever lost
        if after < self._compacted:
            raise Compacted(after, self._compacted)
        if after < self._revision:
            matching = [change for change in self._read_back(after) if change.key.startswith(prefix)]
            if matching:
                subscriber(matching)
        number = self._next_subscriber = self._next_subscriber + 1
        self._subscribers[number] = (prefix, subscriber)
        return lambda: self._subscribers.pop(number, None) and None

    def _read_back(self, after: int) -> list[Change]:
        """The changes after `after` from the file. Blocks the loop, so it is for a subscriber's late start only."""
        upto = self._revision
        job = _Job(lambda: self._changes_between(after, upto))
        self._queue.put(job)
        changes: list[Change] = job.done.result()
        return changes

    # The contract: compaction and closing.

    async def check(self) -> None:
        if self._closing:
            raise StoreError(f"{self._path}: the store is closed")
        await self._in_thread(lambda: self._execute("SELECT 1"))

    async def compact(self, revision: int) -> None:
        if revision > self._revision:
            raise StoreError(f"cannot compact to revision {revision}, which is after the newest, {self._revision}")
        if self._closing:
            raise StoreError(f"{self._path}: the store is closed")
        if revision <= self._compacted:
            return
        await self._in_thread(lambda: self._execute("INSERT OR REPLACE INTO meta VALUES ('compacted', ?)", (revision,)))
        self._compacted = max(self._compacted, revision)
        while await self._in_thread(lambda: self._forget_some(revision)):
            pass

    async def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await self._loop.run_in_executor(None, self._thread.join)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    async def _in_thread(self, run: Callable[[], Any]) -> Any:
        job = _Job(run)
        self._queue.put(job)
        try:
            return await asyncio.wrap_future(job.done)
        except sqlite3.Error as error:
            raise StoreError(f"{self._path}: {error}") from error

    # The thread.

    def _run(self) -> None:
        dirty = False
        while True:
            try:
                item = self._queue.get(timeout=CHECKPOINT_IDLE if dirty else None)
            except Empty:
                dirty = False
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                continue
            while isinstance(item, _Write | list):
                batch, item = self._gather(item)
                self._commit(batch)
                dirty = True
            if isinstance(item, _Job) and item is not _NOTHING:
                self._do(item)
                dirty = True
            elif item is None:
                break
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def _gather(self, first: _Write | list[_Write]) -> tuple[list[_Write], _Write | list[_Write] | _Job | None]:
        """Writes that wait already, and the first thing after them that is no write (`_NOTHING`: the queue ran dry)."""
        batch = [first] if isinstance(first, _Write) else list(first)
        while len(batch) < MAX_BATCH:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return batch, _NOTHING
            if isinstance(item, _Write):
                batch.append(item)
            elif isinstance(item, list):
                batch += item
            else:
                return batch, item
        return batch, _NOTHING

    def _commit(self, batch: list[_Write]) -> None:
        batch = [write for write in batch if write.epoch > self._failed_epoch]
        if not batch:
            return
        try:
            self._insert(batch)
        except Exception as error:
            self._failed_epoch = batch[-1].epoch
            self._call_loop(self._failed, self._failed_epoch, str(error))
            return
        for write in batch:
            if write.replaces:
                self._superseded.append((write.revision, write.replaces))
            if write.value is None:
                self._superseded.append((write.revision, write.revision))
        self._call_loop(self._committed, len(batch))

    def _insert(self, batch: Sequence[_Write]) -> None:
        if len(batch) <= ROWS_PER_STATEMENT:
            self._execute(_insert_of(len(batch)), _parameters(batch))  # its own transaction
            return
        self._execute("BEGIN IMMEDIATE")
        try:
            for start in range(0, len(batch), ROWS_PER_STATEMENT):
                part = batch[start : start + ROWS_PER_STATEMENT]
                self._execute(_insert_of(len(part)), _parameters(part))
            self._execute("COMMIT")
        except Exception:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise

    def _execute(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        self._connection.execute(sql, parameters)

    def _do(self, job: _Job) -> None:
        try:
            job.done.set_result(job.run())
        except Exception as error:
            job.done.set_exception(error)

    def _call_loop(self, callback: Callable[..., None], *arguments: Any) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    def _forget_some(self, revision: int) -> bool:
        """Delete some rows that `revision` and later do not need; whether there may be more."""
        doomed: list[tuple[int]] = []
        for by, old in self._superseded:
            if by > revision or len(doomed) == COMPACT_BATCH:
                break
            doomed.append((old,))
        if not doomed:
            return False
        self._execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany("DELETE FROM log WHERE rev = ?", doomed)
            self._execute("COMMIT")
        except Exception:
            if self._connection.in_transaction:
                self._execute("ROLLBACK")
            raise
        for _ in doomed:
            self._superseded.popleft()
        return len(doomed) == COMPACT_BATCH

    def _read(self, wanted: list[tuple[str, int, int]]) -> list[KeyValue]:
        query = "SELECT value FROM log WHERE rev = ?"
        return [
            KeyValue(key, self._connection.execute(query, (revision,)).fetchone()[0], created, revision)
            for key, created, revision in wanted
        ]

    def _changes_between(self, after: int, upto: int) -> list[Change]:
        """Every change with `after` < revision <= `upto`."""
        rows = self._connection.execute(
            "SELECT rev, key, deleted, value FROM log WHERE rev > ? AND rev <= ? ORDER BY rev", (after, upto)
        )
        return [Change(key, None if deleted else value, rev) for rev, key, deleted, value in rows]

    def _load(self) -> None:
        """Read the log into memory. Runs before the thread does."""
        for name, value in self._connection.execute("SELECT name, value FROM meta"):
            if name == "compacted":
                self._compacted = value
        revision = self._compacted
        current: dict[str, KeyValue] = {}
        for rev, key, created, deleted, value in self._connection.execute(
            "SELECT rev, key, create_rev, deleted, value FROM log ORDER BY rev"
        ):
            replaced = current.get(key)
            if replaced is not None:
                self._superseded.append((rev, replaced.mod_revision))
            if deleted:
                current.pop(key, None)
                self._superseded.append((rev, rev))
            else:
                current[key] = KeyValue(key, value, created, rev)
            revision = rev
        self._current = {key: (item.create_revision, item.mod_revision) for key, item in current.items()}
        self._initial = [current[key] for key in sorted(current) if key.startswith(ROOT)]
        self._revision = self._last_accepted = max(revision, self._compacted)


_NOTHING = _Job(lambda: None)  # what `_gather` returns when the queue has run dry


def _insert_of(rows: int) -> str:
    return "INSERT INTO log VALUES " + ",".join(["(?,?,?,?,?)"] * rows)


def _parameters(batch: Iterable[_Write]) -> list[Any]:
    values: list[Any] = []
    for write in batch:
        values += (write.revision, write.key, write.create_revision, write.value is None, write.value)
    return values


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=ROWS_PER_STATEMENT + 16, timeout=1
    )
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # no shared-memory file: a full disk has no room for one
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA wal_autocheckpoint=4000")
    connection.executescript(_SCHEMA)
    return connection


def _lock(path: Path) -> int:
    """Take the lock file beside the database. The database itself cannot carry the lock: closing any descriptor of it
    would drop SQLite's own."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise StoreError(f"{path} is in use by another process") from None
    return fd


# Files that nobody has open as a store.


class FileLock:
    """Holds the file as an open store does; raises StoreError on entry when it is in use."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        self._fd = _lock(self._path)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def newest_revision(path: Path) -> tuple[int, bool]:
    """The newest revision in the file, and whether it holds nothing. Under its lock; raises StoreError."""
    if not path.exists():
        return 0, True
    try:
        with contextlib.closing(_connect(path)) as connection:
            newest = connection.execute("SELECT max(rev) FROM log").fetchone()[0]
            compacted = connection.execute("SELECT max(value) FROM meta WHERE name = 'compacted'").fetchone()[0]
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
    return max(newest or 0, compacted or 0), newest is None


def write_new_file(path: Path, items: Sequence[tuple[str, bytes]], base: int) -> int:
    """Make a file that holds `items`, written in that order after revision `base`, on disk when this returns.

    Returns its newest revision. Raises StoreError.
    """
    rows = ((base + number, key, base + number, 0, value) for number, (key, value) in enumerate(items, 1))
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN")
            connection.execute("INSERT INTO meta VALUES ('compacted', ?)", (base,))
            connection.executemany(_insert_of(1), rows)
            connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
    return base + len(items)
