"""Objects in the store: which key each has, how it is encoded there, and the loops that write it.

Every stored kind is one `ResourceCache` below `/registry/`. What is stored is the object's JSON with `kind`,
`apiVersion` and `metadata` first and without `metadata.resourceVersion`, so that the cache can put the revision in at
a fixed place. A write that loses against another is tried again on what won, unless the client said which version it
meant.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import orjson

from pinnace.apis.kind import Kind
from pinnace.apis.prerelease import restored
from pinnace.apiserver.cache import CachedObject, ResourceCache
from pinnace.apiserver.storage_measures import Measures
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj
from pinnace.store.contract import ROOT, Change, KeyValue, RevisionConflict, Store, StoreError, Write

RETRIES = 100  # an update whose author named no version wins before that, or the key is in a storm

_TRIGGER_FIELDS = {("", "pods"): "spec.nodeName"}


class Kept(Protocol):
    """What holds the objects below one prefix of the store: a cache, or the instances of a custom resource."""

    @property
    def prefix(self) -> str:
        """Of the store's keys, slash at the end."""

    def load(self, found: list[KeyValue], revision: int) -> None:
        """Start with what the store holds at `revision`."""

    def apply(self, change: Change) -> None:
        """Take one change from the store."""


class Storage:
    """The caches of every stored resource over one store."""

    def __init__(self, store: Store, kinds: Iterable[Kind]) -> None:
        self.store = store
        self.measures = Measures()
        self.writing: set[asyncio.Task[Any]] = set()  # whose write the store has: not to be cancelled before it answers
        self._caches: dict[GVR, ResourceCache] = {}
        self._by_prefix: dict[str, Kept] = {}
        for kind in kinds:
            if kind.is_stored and kind.storage == kind.gvr:
                self.add(kind)
        self._leave: Callable[[], None] = lambda: None

    def add(self, kind: Kind) -> ResourceCache:
        """Make room for one stored kind. Before `start` only."""
        below = f"{kind.group}/{kind.plural}" if kind.group else kind.plural
        cache = ResourceCache(kind, f"{ROOT}{below}/", _TRIGGER_FIELDS.get((kind.group, kind.plural), ""))
        self._caches[kind.gvr] = self._by_prefix[below] = cache
        return cache

    def cache(self, resource: GVR) -> ResourceCache:
        """The cache of a stored resource; KeyError for one that is not."""
        return self._caches[resource]

    @property
    def caches(self) -> dict[GVR, ResourceCache]:
        return self._caches

    @property
    def revision(self) -> int:
        return self.store.revision

    async def start(self, extend: Callable[[], None] = lambda: None) -> None:
        """Fill the caches and follow the store; `extend` is called when the built-in kinds can be read, to add more."""
        began = time.perf_counter()
        found, revision = await self.store.range(ROOT)
        self.measures.calls.observe(time.perf_counter() - began, "", "list", "")  # of all kinds at once
        found = self._load(found, revision, list(self._by_prefix.values()))
        known = set(self._by_prefix)
        extend()
        self._load(found, revision, [kept for below, kept in self._by_prefix.items() if below not in known])
        self._leave = self.store.subscribe(ROOT, revision, self._apply, self._skip)

    def _load(self, found: list[KeyValue], revision: int, holders: list[Kept]) -> list[KeyValue]:
        """Give every holder its objects; returns those that are nobody's."""
        sorted_out: dict[str, list[KeyValue]] = {}
        rest: list[KeyValue] = []
        for item in found:
            kept = self._route(item.key)
            mine = rest if kept is None else sorted_out.setdefault(kept.prefix, [])
            mine.append(item)
        for kept in holders:
            mine = sorted_out.get(kept.prefix, [])
            kept.load([_current(kept, item) for item in mine] if isinstance(kept, ResourceCache) else mine, revision)
        return rest

    def stop(self) -> None:
        self._leave()

    # Resources that come and go.

    def adopt(self, kept: Kept) -> None:
        """Hand `kept` the changes below its prefix from now on; who calls this after `start` loads it, too."""
        self._by_prefix[kept.prefix[len(ROOT) : -1]] = kept

    def abandon(self, kept: Kept) -> None:
        if self._by_prefix.get(kept.prefix[len(ROOT) : -1]) is kept:
            del self._by_prefix[kept.prefix[len(ROOT) : -1]]

    def show(self, cache: ResourceCache) -> None:
        """Serve reads of the cache's own resource from it."""
        self._caches[cache.kind.gvr] = cache

    def hide(self, cache: ResourceCache) -> None:
        """Undo `show`, and end the watches."""
        if self._caches.get(cache.kind.gvr) is cache:
            del self._caches[cache.kind.gvr]
        cache.end_watches()

    def _route(self, key: str) -> Kept | None:
        first = key.find("/", len(ROOT))
        found = self._by_prefix.get(key[len(ROOT) : first])
        if found is None:
            second = key.find("/", first + 1)
            found = self._by_prefix.get(key[len(ROOT) : second])
        return found

    def _apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            cache = self._route(change.key)
            if cache is not None:
                cache.apply(change)

    def _skip(self, revision: int) -> None:
        """Changes up to `revision` will never be seen one by one: watches must start anew from how things stand."""
        for cache in self._caches.values():
            cache.forget(revision)

    # Writing.

    async def create(self, cache: ResourceCache, key: str, obj: Obj, also: Sequence[Write] = ()) -> CachedObject:
        """Write a new object; AlreadyExists when the key is taken. `obj` belongs to the cache from here on.

        `also` is written with it or not at all; raises RevisionConflict where that cannot be.
        """
        raw = encode(cache.kind, obj) if cache.converter is None else await cache.converter.to_stored(obj)
        try:
            return await self._put(cache, key, raw, obj, 0, also)
        except RevisionConflict as conflict:
            if conflict.key != cache.prefix + key:
                raise
            raise errors.already_exists(cache.kind.plural, key.rpartition("/")[2], cache.kind.group) from None

    async def replace(
        self, cache: ResourceCache, old: CachedObject, obj: Obj, also: Sequence[Write] = ()
    ) -> CachedObject:
        """Write `obj` over `old`, and `also` with it, or nothing when they say the same. Raises RevisionConflict."""
        if cache.converter is not None:
            raw = await cache.converter.to_stored(obj)
        else:
            raw = encode(cache.kind, obj)
            if raw == old.raw and not also:
                return old
        return await self._put(cache, old.key, raw, obj, old.revision, also)

    async def remove(self, cache: ResourceCache, old: CachedObject, also: Sequence[Write] = ()) -> int:
        """Delete `old`, write `also` with it, and return the revision of the deletion. Raises RevisionConflict."""
        return await self._write(cache, Write(cache.prefix + old.key, None, old.revision), also)

    async def _write(self, cache: ResourceCache, own: Write, also: Sequence[Write]) -> int:
        """The revision of `own`. What it needs comes before it, what it leaves goes after it."""
        task = asyncio.current_task()
        assert task is not None
        self.writing.add(task)
        operation = "delete" if own.value is None else "update" if own.expected else "create"
        labels = cache.kind.group, operation, cache.kind.plural
        began = time.perf_counter()
        try:
            if also:
                before = [write for write in also if write.value is not None]
                after = [write for write in also if write.value is None]
                return (await self.store.write([*before, own, *after]))[len(before)]
            if own.value is None:
                return await self.store.delete(own.key, own.expected)
            return await self.store.put(own.key, own.value, own.expected)
        except RevisionConflict:
            raise
        except StoreError as error:
            self.measures.failures.inc(*labels)
            raise storage_failure(error) from error
        finally:
            self.measures.calls.observe(time.perf_counter() - began, *labels)
            self.writing.discard(task)

    async def _put(
        self, cache: ResourceCache, key: str, raw: bytes, obj: Obj, expected: int, also: Sequence[Write]
    ) -> CachedObject:
        cache.decoded_hint[id(raw)] = obj
        try:
            revision = await self._write(cache, Write(cache.prefix + key, raw, expected), also)
        finally:
            cache.decoded_hint.pop(id(raw), None)
        if cache.converter is not None:
            await cache.converter.shows(revision)
        written = cache.get(key)
        if written is None or written.revision != revision:  # another write of this batch came after it
            written = CachedObject(cache, key, raw if cache.converter is None else encode(cache.kind, obj), revision)
        return written


def _current(cache: ResourceCache, item: KeyValue) -> KeyValue:
    """The item in the version that its resource is stored in now; another minor may have written it."""
    if item.value.startswith(cache.head):
        return item
    return item._replace(value=encode(cache.kind, restored(orjson.loads(item.value), cache.kind.gvk)))


def storage_failure(error: StoreError) -> ApiError:
    """What a client sees when the disk is full or gone: an error to try again on, not the client's fault."""
    return errors.internal(str(error))


def encode(kind: Kind, obj: Obj) -> bytes:
    """The bytes that are stored. `obj` is of the stored version; its `resourceVersion` is not among them."""
    meta = obj["metadata"]
    if "resourceVersion" in meta:
        meta = {name: value for name, value in meta.items() if name != "resourceVersion"}
    ordered = {"kind": kind.kind, "apiVersion": kind.gvr.api_version, "metadata": meta}
    for name, value in obj.items():
        if name not in ordered:
            ordered[name] = value
    # orjson's bytes keep the room they grew in, several times their length: what is kept for long is copied to size.
    return bytes(memoryview(orjson.dumps(ordered)))
