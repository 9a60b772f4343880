"""The watch cache: every stored object as bytes with a small index, the recent changes, and who watches them.

Reads and watches are served from here and never touch the store. One `ResourceCache` belongs to one stored resource and
lives in the event loop; it is fed by the store's subscription, so after a write has returned the cache shows it. The
behaviour of lists and watches is https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes.
"""

from __future__ import annotations

import bisect
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import orjson
import structlog

from pinnace.apis.kind import Kind
from pinnace.apiserver.packing import Dictionary, packing
from pinnace.machinery.meta import Obj
from pinnace.store.contract import Change, KeyValue

log = structlog.get_logger()

RING = 4096  # changes of a resource that a watch can start from
RING_BYTES = 24 << 20  # and no more than this much of superseded objects
DECODED = 1024  # objects that are kept decoded at a time, over all resources

MANY = 1000  # objects of a resource from which on old ones are packed
WHOLE_BYTES = 8 << 20  # of a resource's whole list that is kept as it was last sent

_NO_LABELS: dict[str, str] = {}


class CachedObject:
    """One object at one revision; immutable. Its bytes lack `resourceVersion`, which is put in where they are read."""

    __slots__ = ("_fields", "_labels", "_obj", "_packed", "_raw", "_trigger", "cache", "key", "revision")

    def __init__(self, cache: ResourceCache, key: str, raw: bytes, revision: int) -> None:
        self.cache = cache
        self.key = key  # `namespace/name`, or `name`
        self._raw: bytes | None = raw
        self._packed: bytes | None = None  # made once, when it has been long since somebody asked; then `_raw` may go
        self.revision = revision
        self._obj: Obj | None = None
        self._labels: Mapping[str, str] | None = None
        self._fields: Mapping[str, str] | None = None
        self._trigger: str | None = None

    @property
    def raw(self) -> bytes:
        """The stored bytes."""
        raw = self._raw
        if raw is None:
            assert self._packed is not None
            assert self.cache.dictionary is not None
            return self.cache.dictionary.unpack(self._packed)
        return raw

    def pack(self) -> None:
        """Keep the stored bytes compressed alone from now on, unless that does not pay."""
        if self._raw is not None:
            if self._packed is None:
                self._packed = self.cache.pack(self._raw)
            if self._packed is not self._raw:
                self._raw = None

    @property
    def size(self) -> int:
        """How many bytes are held."""
        return len(self._raw if self._raw is not None else self._packed or b"")

    @property
    def namespace(self) -> str:
        return self.key.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    def body(self) -> bytes:
        """The object as JSON, resourceVersion included."""
        raw = self._raw
        if raw is None:  # who reads one object may read it again
            raw = self._raw = self.raw
            packing.add(self)
        cut = self.cache.cut
        return b'%b"resourceVersion":"%d",%b' % (raw[:cut], self.revision, raw[cut:])

    def obj(self) -> Obj:
        """The object decoded: shared and read-only."""
        found = self._obj
        if found is None:
            found = self.fresh()
            self.keep(found)
        return found

    def fresh(self) -> Obj:
        """The object decoded anew: the caller's own to change, but for the entries of managedFields."""
        known = self._obj
        if known is not None and "managedFields" in known["metadata"]:
            return _copied(known)
        found: Obj = orjson.loads(self.raw)
        found["metadata"]["resourceVersion"] = str(self.revision)
        return found

    def keep(self, obj: Obj) -> None:
        """Remember a decoded form for a while. It has its resourceVersion already."""
        self._obj = obj
        _decoded.append(self)
        if len(_decoded) > DECODED:
            _decoded.popleft()._obj = None

    @property
    def labels(self) -> Mapping[str, str]:
        if self._labels is None:
            self._labels = self.obj()["metadata"].get("labels") or _NO_LABELS
        return self._labels

    @property
    def fields(self) -> Mapping[str, str]:
        """What field selectors see."""
        if self._fields is None:
            fields = {"metadata.name": self.name, "metadata.namespace": self.namespace}
            for path, read in self.cache.kind.selectable_fields.items():
                fields[path] = read(self.obj())
            self._fields = fields
        return self._fields

    @property
    def trigger(self) -> str:
        """The value of the field by which watchers of the resource are indexed: what `fields` says, for far less."""
        if self._trigger is None:
            read = self.cache.kind.selectable_fields.get(self.cache.trigger_field)
            self._trigger = sys.intern(read(self.obj())) if read is not None else ""
        return self._trigger

    def at(self, revision: int) -> CachedObject:
        """The same content said to be of another revision: how a deletion shows what it deleted."""
        return CachedObject(self.cache, self.key, self.raw, revision)


def _copied(obj: Obj) -> Obj:
    """A copy that shares managedFields, half of many an object, which are replaced and never changed."""
    meta = obj["metadata"]
    rest = {name: value for name, value in meta.items() if name != "managedFields"}
    found: Obj = orjson.loads(orjson.dumps({**obj, "metadata": rest}))
    found["metadata"]["managedFields"] = meta["managedFields"]
    return found


def join_bodies(items: Iterable[CachedObject]) -> bytes:
    """The objects as JSON, commas between: every object's stored bytes with its revision put in."""
    pieces: list[bytes] = []
    for item in items:
        cut = item.cache.cut
        raw = item._raw
        if raw is None:
            raw = item.raw
        pieces.append(b'%b"resourceVersion":"%d",%b' % (raw[:cut], item.revision, raw[cut:]))
    return b",".join(pieces)


_decoded: deque[CachedObject] = deque()


class Line:
    """What has been sent of a change, framed, and to how many; `size` is its length without the frame."""

    __slots__ = ("chunk", "size", "watchers")

    def __init__(self, chunk: bytes, size: int) -> None:
        self.chunk = chunk
        self.size = size
        self.watchers = 0


class Sent:
    """How many events clients were sent, and how large: the sum of bytes, then how many lay between two bounds."""

    __slots__ = ("figures",)

    bounds = tuple(1024 << power for power in range(8))

    def __init__(self) -> None:
        self.figures = [0.0] * (len(self.bounds) + 2)

    def add(self, size: int, watchers: int = 1) -> None:
        """An event of so many bytes went to so many."""
        figures = self.figures
        figures[0] += size * watchers
        figures[1 if size <= 1024 else 1 + bisect.bisect_left(self.bounds, size)] += watchers


class Event:
    """One change; `lines` memoizes what has been sent for it, so that it is serialized once for all watchers."""

    __slots__ = ("_gone", "lines", "new", "old", "revision", "size")

    def __init__(self, new: CachedObject | None, old: CachedObject | None, revision: int) -> None:
        self.new = new  # None: deleted
        self.old = old  # None: created
        self.revision = revision
        self.lines: dict[tuple[str, Any], Line] = {}
        self.size = old.size if old is not None else 0  # of what is held for this event alone
        self._gone: CachedObject | None = None

    @property
    def gone(self) -> CachedObject:
        """What a DELETED event shows: the last state, at the revision of this change."""
        if self._gone is None:
            assert self.old is not None
            self._gone = self.old.at(self.revision)
        return self._gone


class Selector(Protocol):
    def matches(self, values: Mapping[str, str], /) -> bool: ...


class Filter:
    """Which objects a list or a watch is about. `name` and `trigger` are exact values that field selectors ask for."""

    __slots__ = ("fields", "labels", "name", "namespace", "trigger")

    def __init__(
        self,
        namespace: str = "",
        name: str = "",
        labels: Selector | None = None,
        fields: Selector | None = None,
        trigger: str | None = None,
    ) -> None:
        self.namespace = namespace
        self.name = name
        self.labels = labels
        self.fields = fields
        self.trigger = trigger  # the value asked of the cache's `trigger_field`

    @property
    def is_everything(self) -> bool:
        """Whether namespace and name say it all."""
        return self.labels is None and self.fields is None

    def matches(self, obj: CachedObject) -> bool:
        """Beyond namespace and name, which the caller has looked at."""
        return (self.labels is None or self.labels.matches(obj.labels)) and (
            self.fields is None or self.fields.matches(obj.fields)
        )

    def includes(self, obj: CachedObject) -> bool:
        if self.namespace and obj.namespace != self.namespace:
            return False
        if self.name and obj.name != self.name:
            return False
        return self.matches(obj)


Deliver = Callable[[str, CachedObject, Event], None]
"""Takes the type of an event, the object to show, and the change it comes from (for its memo). Must not block."""


def _go_on() -> None:
    """For a watcher that has no client: it only follows how things stand."""


class Watcher:
    """One registered watch."""

    __slots__ = ("broken", "deliver", "end", "filter")

    def __init__(self, which: Filter, deliver: Deliver, end: Callable[[], None] = _go_on) -> None:
        self.filter = which
        self.deliver = deliver
        self.end = end
        self.broken = False  # an event was lost: better none after it than a gap

    def handle(self, event: Event) -> None:
        """`tell`, or end the watch: one that cannot be served must not hold up the others, nor the write."""
        try:
            self.tell(event)
        except Exception as error:
            self.broken = True
            self.end()
            log.error("a watch could not be told of a change", exc_info=error)

    def cut(self) -> None:
        """End the watch of a client, before it is told something that does not follow on what it was told last."""
        if self.end is not _go_on:
            self.broken = True
            self.end()

    def tell(self, event: Event) -> None:
        """Deliver what `event` is to this watch: a change into, within or out of what it selects."""
        if self.broken:
            return
        new, old, which = event.new, event.old, self.filter
        if which.is_everything:
            had, has = old is not None, new is not None
        else:
            had = old is not None and which.matches(old)
            has = new is not None and which.matches(new)
        if has:
            assert new is not None
            self.deliver("MODIFIED" if had else "ADDED", new, event)
        elif had:
            self.deliver("DELETED", event.gone, event)


class Converter(Protocol):
    """Stands between a cache and the store where objects may be kept in another version than the cache shows."""

    async def to_stored(self, obj: Obj) -> bytes:
        """What is stored of an object in the cache's version. Raises ApiError."""

    async def convert(self, obj: Obj, version: str) -> Obj:
        """An object of one of the versions in another. Raises ApiError."""

    async def shows(self, revision: int) -> None:
        """Return when the cache shows the write of that revision. Raises ApiError where it cannot be shown."""

    def is_stale(self, key: str) -> bool:
        """Whether what is stored differs from what is shown, so that writing it again changes it."""


_Bucket = tuple[str, str]


class ResourceCache:
    """All objects of one stored resource."""

    def __init__(self, kind: Kind, prefix: str, trigger_field: str = "") -> None:
        self.kind = kind
        self.prefix = prefix  # of the store's keys, slash at the end
        self.trigger_field = trigger_field  # a field so often watched by value that its watchers are indexed
        head = b'{"kind":"%b","apiVersion":"%b","metadata":{' % (kind.kind.encode(), kind.gvr.api_version.encode())
        self.head = head
        self.cut = len(head)  # where resourceVersion goes
        self.objects: dict[str, CachedObject] = {}
        self.keys: list[str] = []  # of `objects`, sorted
        self.changed = 0  # revision of the last change of this resource
        self._whole: tuple[tuple[str, int, bytes] | None, bytes] = (None, b"")  # the last whole list, as it was sent
        self._ring: deque[Event] = deque()
        self._ring_bytes = 0
        self._floor = 0  # every change after this revision is in the ring
        self._watchers: dict[_Bucket, dict[Watcher, None]] = {}
        self._triggered: dict[str, dict[Watcher, None]] = {}
        self.dictionary: Dictionary | None = None  # of packed objects, when there are such
        self.decoded_hint: dict[int, Obj] = {}  # id of value bytes on their way through the store -> decoded form
        self.converter: Converter | None = None
        # What is told of it.
        self.initializations = 0
        self.loaded = 0  # objects, in all of them
        self.received = 0  # changes
        self.sent = Sent()

    # Filling.

    def load(self, found: list[KeyValue], revision: int) -> None:
        """Start with what the store holds at `revision`."""
        start = len(self.prefix)
        for item in found:
            key = item.key[start:]
            self.objects[key] = CachedObject(self, key, item.value, item.mod_revision)
            self.changed = max(self.changed, item.mod_revision)
        self.keys = sorted(self.objects)
        self._floor = revision
        self.initializations += 1
        self.loaded += len(found)

        if len(self.keys) > MANY:
            packing.extend(self.objects.values())

    def pack(self, raw: bytes) -> bytes:
        """Stored bytes in their packed form, or as they are."""
        if self.dictionary is None:
            # One from the middle: where there are many, it is likely to be like most.
            self.dictionary = Dictionary(self.objects[self.keys[len(self.keys) // 2]].raw if self.keys else raw)
        return self.dictionary.pack(raw)

    def apply(self, change: Change) -> None:
        """Take one change from the store and tell watchers."""
        self.received += 1
        key = change.key[len(self.prefix) :]
        old = self.objects.get(key)
        new: CachedObject | None = None
        if change.value is None:
            if old is None:
                return
            del self.objects[key]
            del self.keys[bisect.bisect_left(self.keys, key)]
        else:
            new = self.objects[key] = CachedObject(self, key, change.value, change.revision)
            hint = self.decoded_hint.pop(id(change.value), None)
            if hint is not None:
                hint["metadata"]["resourceVersion"] = str(change.revision)
                new.keep(hint)
            if old is None:
                bisect.insort(self.keys, key)
            if len(self.keys) > MANY:
                packing.add(new)
        self.changed = change.revision
        event = Event(new, old, change.revision)
        self._remember(event)
        self._dispatch(event, key)

    def _remember(self, event: Event) -> None:
        self._ring.append(event)
        self._ring_bytes += event.size
        while len(self._ring) > RING or self._ring_bytes > RING_BYTES:
            oldest = self._ring.popleft()
            self._ring_bytes -= oldest.size
            self._floor = oldest.revision

    def _dispatch(self, event: Event, key: str) -> None:
        watchers = self._watchers
        if watchers:
            namespace, _, name = key.rpartition("/")
            for bucket in dict.fromkeys((("", ""), (namespace, ""), ("", name), (namespace, name))):
                found = watchers.get(bucket)
                if found:
                    for watcher in tuple(found):
                        watcher.handle(event)
        if self._triggered:
            values = {obj.trigger for obj in (event.old, event.new) if obj is not None}
            for value in values:
                for watcher in tuple(self._triggered.get(value, ())):
                    if not watcher.filter.namespace or watcher.filter.namespace == key.rpartition("/")[0]:
                        watcher.handle(event)
        if event.lines:
            for line in event.lines.values():
                self.sent.add(line.size, line.watchers)
            event.lines.clear()  # who watches from history later has them made again

    # Reading.

    def get(self, key: str) -> CachedObject | None:
        return self.objects.get(key)

    def select(self, which: Filter, after: str = "") -> Iterator[CachedObject]:
        """The objects that `which` includes, in key order, from beyond the key `after`."""
        objects = self.objects
        if which.name and (which.namespace or not self.kind.namespaced):
            key = f"{which.namespace}/{which.name}" if which.namespace else which.name
            found = objects.get(key)
            if found is not None and key > after and which.matches(found):
                yield found
            return
        start, stop = self._span(which.namespace)
        if after:
            start = max(start, bisect.bisect_right(self.keys, after))
        keys = self.keys[start:stop]
        if which.is_everything and not which.name:
            for key in keys:
                yield objects[key]
            return
        for key in keys:
            found = objects[key]
            if (not which.name or found.name == which.name) and which.matches(found):
                yield found

    def whole_list(self, namespace: str, head: bytes) -> bytes:
        """`head`, every object of `namespace` (all when empty) as JSON, and the list's end. Kept until it changes."""
        key = (namespace, self.changed, head)
        if self._whole[0] == key:
            return self._whole[1]
        start, stop = self._span(namespace)
        bodies = join_bodies(map(self.objects.__getitem__, self.keys[start:stop]))
        body = b"".join((head, bodies, b"]}"))
        self._whole = (key, body) if len(body) <= WHOLE_BYTES else (None, b"")
        return body

    def count(self, namespace: str, after: str) -> int:
        """How many keys of `namespace` (all when empty) come after the key `after`."""
        start, stop = self._span(namespace)
        return max(0, stop - max(start, bisect.bisect_right(self.keys, after)))

    def _span(self, namespace: str) -> tuple[int, int]:
        if not namespace:
            return 0, len(self.keys)
        return bisect.bisect_left(self.keys, namespace + "/"), bisect.bisect_left(self.keys, namespace + "0")

    def select_at(self, revision: int, which: Filter, after: str = "") -> list[CachedObject] | None:
        """As `select`, of the state at an older revision; None when changes since then have been forgotten."""
        if revision < self._floor:
            return None
        undone: dict[str, CachedObject | None] = {}
        for event in reversed(self._ring):
            if event.revision <= revision:
                break
            changed = event.new or event.old
            assert changed is not None
            undone[changed.key] = event.old
        if not undone:
            return list(self.select(which, after))
        found = {obj.key: obj for obj in self.select(which, after)}
        for key, before in undone.items():
            found.pop(key, None)
            if before is not None and key > after and which.includes(before):
                found[key] = before
        return [found[key] for key in sorted(found)]

    def forget(self, revision: int) -> None:
        """Begin history at `revision`, for there is a gap before: watches and lists cannot reach back beyond it."""
        self._ring.clear()
        self._ring_bytes = 0
        self._floor = revision
        for home in (self._watchers, self._triggered):
            for watchers in list(home.values()):
                for watcher in tuple(watchers):
                    watcher.cut()

    # Watching.

    @property
    def oldest(self) -> int:
        """The oldest revision that a watch can start from."""
        return self._floor

    def since(self, revision: int) -> list[Event]:
        """The changes after `revision`, which is not below `oldest`."""
        found: list[Event] = []
        for event in reversed(self._ring):
            if event.revision <= revision:
                break
            found.append(event)
        found.reverse()
        return found

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Deliver every change from now on; returns the way out."""
        which = watcher.filter
        if which.trigger is not None and not which.name:
            home: dict[Any, dict[Watcher, None]] = self._triggered
            place: Any = which.trigger
        else:
            home, place = self._watchers, (which.namespace, which.name)
        home.setdefault(place, {})[watcher] = None

        def leave() -> None:
            found = home.get(place)
            if found is not None:
                found.pop(watcher, None)
                if not found:
                    del home[place]

        return leave

    def end_watches(self) -> None:
        """End every watch: the resource is not served as it was any more."""
        for home in (self._watchers, self._triggered):
            for watchers in list(home.values()):
                for watcher in tuple(watchers):
                    watcher.cut()

    @property
    def watcher_count(self) -> int:
        return sum(map(len, self._watchers.values())) + sum(map(len, self._triggered.values()))
