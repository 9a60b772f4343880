"""All keys of a store at one revision as one file, and the way back into an empty store of either backend.

A file is a line that names the format, a line of JSON (version, revision, how many keys, when it was taken), the keys
and values compressed, and the SHA-256 of all that. What is restored gets new revisions above the snapshot's, so that no
client takes what it knew for current: every watch has to list again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import struct
import zlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from pinnace.store.contract import ROOT, KeyValue, Store, StoreError
from pinnace.store.location import Location

SERVED_AT = "/pinnace/snapshot"  # by an API server, of its own store, to who may read everything
VERSION = 1
GAP = 1_000_000_000  # revisions left out by a restore: more than were written since the snapshot was taken
_MAGIC = b"pinnace snapshot\n"
_RECORD = struct.Struct(">IQ")  # lengths of a key and a value, in front of both
_DIGEST_BYTES = 32
_AT_ONCE = 100  # writes under way while an etcd is filled


class SnapshotError(Exception):
    """The file or the target is not what is needed; says why, for people."""


class Snapshot(NamedTuple):
    """What a file holds; the items in the order in which they were written."""

    revision: int
    taken: str  # RFC 3339
    items: list[tuple[str, bytes]]


def encode(found: Sequence[KeyValue], revision: int, taken: datetime) -> bytes:
    """The file's content, from what `Store.range` returned."""
    head = {"version": VERSION, "revision": revision, "keys": len(found), "taken": taken.isoformat(timespec="seconds")}
    compressor = zlib.compressobj(1)
    parts = [_MAGIC, json.dumps(head).encode(), b"\n"]
    for item in sorted(found, key=lambda item: item.mod_revision):
        key = item.key.encode()
        parts.append(compressor.compress(_RECORD.pack(len(key), len(item.value)) + key + item.value))
    parts.append(compressor.flush())
    content = b"".join(parts)
    return content + hashlib.sha256(content).digest()


def decode(data: bytes) -> Snapshot:
    """Raises SnapshotError for anything but a whole file of a version that is known."""
    if not data.startswith(_MAGIC):
        raise SnapshotError("this is not a snapshot")
    line, _, rest = data[len(_MAGIC) :].partition(b"\n")
    try:
        head = json.loads(line)
        version, revision, count, taken = head["version"], int(head["revision"]), int(head["keys"]), str(head["taken"])
    except (ValueError, KeyError, TypeError):
        raise SnapshotError("the snapshot is damaged: its head cannot be read") from None
    if version != VERSION:
        raise SnapshotError(f"the snapshot is of version {version}, and only {VERSION} can be read")
    if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
        raise SnapshotError("the snapshot is damaged: its checksum does not match")
    items = _records(zlib.decompress(rest[:-_DIGEST_BYTES]))
    if len(items) != count:
        raise SnapshotError(f"the snapshot is damaged: it has {len(items)} of {count} keys")
    return Snapshot(revision, taken, items)


def _records(body: bytes) -> list[tuple[str, bytes]]:
    items = []
    place = 0
    while place < len(body):
        key_length, length = _RECORD.unpack_from(body, place)
        place += _RECORD.size
        key = body[place : place + key_length].decode()
        place += key_length
        items.append((key, body[place : place + length]))
        place += length
    return items


def write_file(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all, whatever happens meanwhile; for its owner alone, as it holds secrets.

    Raises SnapshotError.
    """
    temporary = path.with_name(path.name + ".part")
    try:
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SnapshotError(f"{path}: {error.strerror}") from error


def read_file(path: Path) -> Snapshot:
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise SnapshotError(f"{path}: {error.strerror}") from error
    except SnapshotError as error:
        raise SnapshotError(f"{path}: {error}") from None


def sync_directory(directory: Path) -> None:
    """Make renames in it last."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


async def take(store: Store, now: datetime) -> bytes:
    """A snapshot of a store that is open, as a file's content. Raises StoreError."""
    found, revision = await store.range(ROOT)
    return await asyncio.to_thread(encode, found, revision, now)


async def save(location: Location, now: datetime) -> bytes:
    """A snapshot of a store that nobody has open, or that is shared. Raises StoreError, SnapshotError."""
    if location.file is not None and not location.file.exists():
        raise SnapshotError(f"{location.file}: no such file")
    store = await location.open()
    try:
        return await take(store, now)
    finally:
        await store.close()


async def restore(location: Location, snapshot: Snapshot, *, replace: bool = False) -> int:
    """Fill an empty store, or with `replace` a SQLite file whatever it holds; the revision it has then.

    Raises SnapshotError for one that holds something, StoreError for one that is in use or cannot be written.
    """
    if location.file is not None:
        from pinnace.store.sqlite import FileLock

        with FileLock(location.file):
            return await asyncio.to_thread(_restore_file, location.file, snapshot, replace)
    store = await location.open()
    try:
        return await _restore_etcd(location, store, snapshot)
    finally:
        await store.close()


def _restore_file(path: Path, snapshot: Snapshot, replace: bool) -> int:
    from pinnace.store.sqlite import newest_revision, write_new_file

    before, is_empty = newest_revision(path)
    if not is_empty and not replace:
        raise SnapshotError(f"{path} is not empty")
    base = max(snapshot.revision, before) + GAP
    temporary = path.with_name(path.name + ".restore")
    temporary.unlink(missing_ok=True)
    try:
        revision = write_new_file(temporary, snapshot.items, base)
        for leftover in ("-wal", "-shm"):  # of the file that goes: they must not be taken for the new one's
            path.with_name(path.name + leftover).unlink(missing_ok=True)
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return revision


async def _restore_etcd(location: Location, store: Store, snapshot: Snapshot) -> int:
    """etcd counts its revisions itself: it is made to count beyond the snapshot's."""
    found, _ = await store.range(ROOT)
    if found:
        raise SnapshotError(f"{location} is not empty: it holds {len(found)} keys below {location.prefix}")
    await asyncio.gather(*(_raise(store, f"{ROOT}pinnace-restore/{n}", snapshot.revision) for n in range(_AT_ONCE)))
    for start in range(0, len(snapshot.items), _AT_ONCE):
        part = snapshot.items[start : start + _AT_ONCE]
        await asyncio.gather(*(store.put(key, value, 0) for key, value in part))
    return store.revision


async def _raise(store: Store, key: str, revision: int) -> None:
    """Write a key again and again, until the store has come to `revision`."""
    last = 0
    while store.revision < revision:
        last = await store.put(key, b"{}", last)
    if last:
        await store.delete(key, last)
