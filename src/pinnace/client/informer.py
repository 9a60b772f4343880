"""Keeps a copy of a resource in step with the API server, and says what changed.

An informer lists once, then watches from the list's resourceVersion. A watch that ends is resumed where it stopped; one
that the server cannot resume (410) is replaced by a new list, and handlers are told the difference. Handlers are called
in the event loop, must be quick and must not raise. Specified by
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from sys import intern
from typing import NamedTuple

import structlog

from pinnace.client.client import Client
from pinnace.client.sharing import lean
from pinnace.client.store import IndexFn, ObjectStore
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, key_of, uid_of
from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()

_BACKOFF_FIRST = 0.1  # seconds
_BACKOFF_LAST = 30.0
_WATCH_SECONDS = (300, 600)  # a watch is asked to end after a random time between these, as client-go asks

Transform = Callable[[Obj], Obj]
"""Cuts an object down to what its users need, before it is stored."""


@dataclass(frozen=True, slots=True)
class _Handler:
    added: Callable[[Obj], None] | None
    updated: Callable[[Obj, Obj], None] | None
    deleted: Callable[[Obj], None] | None


class Backoff:
    """Growing pauses between attempts: each twice the last, up to half again as long by chance."""

    def __init__(self, first: float = _BACKOFF_FIRST, last: float = _BACKOFF_LAST) -> None:
        self._first = first
        self._last = last
        self._next = first

    def next(self) -> float:
        """Seconds to wait now."""
        pause = self._next
        self._next = min(self._next * 2, self._last)
        return pause * (1 + random.random() / 2)

    def reset(self) -> None:
        self._next = self._first


class Informer:
    """One resource, or the part of it that selectors pick, kept in `store`."""

    def __init__(
        self,
        client: Client,
        resource: GVR,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        transform: Transform | None = None,
    ) -> None:
        self.resource = resource
        self.store = ObjectStore()
        self._client = client
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._transform = transform
        self._handlers: list[_Handler] = []
        self._synced = asyncio.Event()
        self._version = ""  # the resourceVersion that `store` is known to reflect; "" asks for a new list

    def add_index(self, name: str, fn: IndexFn) -> None:
        """Keep `store.by_index(name, value)`; the same name twice is one index."""
        self.store.add_index(name, fn)

    def add_handler(
        self,
        added: Callable[[Obj], None] | None = None,
        updated: Callable[[Obj, Obj], None] | None = None,
        deleted: Callable[[Obj], None] | None = None,
    ) -> None:
        """Call back on changes: `added(new)`, `updated(old, new)`, `deleted(last known state)`.

        What is already known is handed to `added` at once. An object that was deleted and made again unseen is
        reported as both.
        """
        handler = _Handler(added, updated, deleted)
        self._handlers.append(handler)
        if added is not None:
            for obj in self.store.list():
                self._call(added, obj)

    @property
    def synced(self) -> bool:
        """Whether the first list has been taken in."""
        return self._synced.is_set()

    async def wait_synced(self) -> None:
        await self._synced.wait()

    async def run(self) -> None:
        """List and watch until cancelled."""
        backoff = Backoff()
        while True:
            try:
                if not self._version:
                    await self._list()
                    backoff.reset()
                if await self._watch():
                    backoff.reset()
                    continue
            except ApiError as error:
                if error.is_expired:
                    self._version = ""
                    _log.debug("watch expired, listing again", resource=self.resource.resource)
                else:
                    _log.debug("cannot list or watch", resource=self.resource.resource, error=error.message)
            except Exception:
                self._version = ""
                _log.exception("list or watch failed", resource=self.resource.resource)
            await asyncio.sleep(backoff.next())

    async def _list(self) -> None:
        listed = await self._client.list(
            self.resource,
            self._namespace,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
        )
        kind = str(listed.get("kind", "")).removesuffix("List")
        api_version = listed.get("apiVersion", "")
        items = [_typed(item, api_version, kind) for item in listed.get("items") or ()]
        self._replace(items)
        self._version = listed["metadata"].get("resourceVersion", "") or "0"
        self._synced.set()

    async def _watch(self) -> bool:
        """Follow one watch to its end; whether it did anything."""
        active = False
        events = self._client.watch(
            self.resource,
            self._namespace,
            resource_version=self._version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            timeout_seconds=random.randint(*_WATCH_SECONDS),
        )
        try:
            async for event in events:
                active = True
                self._take(event)
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()
        return active

    # Taking in what the server said.

    def _take(self, event: Obj) -> None:
        kind, obj = event["type"], event["object"]
        if kind == "ERROR":
            raise ApiError.from_status(obj)
        if kind == "DELETED":
            self._forget(obj)
        elif kind in ("ADDED", "MODIFIED"):
            self._remember(obj)
        self._version = obj["metadata"]["resourceVersion"]

    def _replace(self, items: list[Obj]) -> None:
        """Make the store what a list says, and report the difference."""
        listed = {key_of(item) for item in items}
        for key in self.store.keys() - listed:
            self._forget_key(key)
        for item in items:
            self._remember(item)

    def _remember(self, obj: Obj) -> None:
        obj = lean.of(obj) if self._transform is None else self._transform(obj)
        old = self.store.get(key_of(obj))
        if old is not None:
            if old["metadata"].get("resourceVersion") == obj["metadata"].get("resourceVersion"):
                return
            if uid_of(old) != uid_of(obj):
                self._forget_key(key_of(obj))
                old = None
        self.store.put(obj)
        for handler in self._handlers:
            if old is None:
                self._call(handler.added, obj)
            else:
                self._call(handler.updated, old, obj)

    def _forget(self, obj: Obj) -> None:
        """A DELETED event carries the object's last state: it is what handlers are given."""
        if self._transform is not None:
            obj = self._transform(obj)
        self.store.remove(key_of(obj))
        for handler in self._handlers:
            self._call(handler.deleted, obj)

    def _forget_key(self, key: str) -> None:
        """The deletion itself was missed: handlers are given the last state seen."""
        obj = self.store.remove(key)
        if obj is not None:
            for handler in self._handlers:
                self._call(handler.deleted, obj)

    def _call(self, callback: Callable[..., None] | None, *args: Obj) -> None:
        if callback is None:
            return
        try:
            callback(*args)
        except Exception:  # one handler's mistake must not starve the others of events
            _log.exception("event handler failed", resource=self.resource.resource)


def _typed(item: Obj, api_version: str, kind: str) -> Obj:
    """Items of a typed list may lack apiVersion and kind; give them what the list says."""
    if "kind" in item and "apiVersion" in item:
        return item
    return {"apiVersion": api_version, "kind": kind, **item}


_KEPT_METADATA = (
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "deletionTimestamp",
    "ownerReferences",
    "finalizers",
)


def only_metadata(obj: Obj) -> Obj:
    """Transform: what the garbage collector needs of an object, and nothing else."""
    metadata = obj["metadata"]
    kept = {name: metadata[name] for name in _KEPT_METADATA if name in metadata}
    if "namespace" in kept:
        kept["namespace"] = intern(kept["namespace"])
    return {"apiVersion": intern(obj["apiVersion"]), "kind": intern(obj["kind"]), "metadata": kept}


class _Scope(NamedTuple):
    """What makes two informers the same."""

    resource: GVR
    namespace: str
    label_selector: str
    field_selector: str
    metadata_only: bool


class InformerFactory:
    """The informers of a process: whoever asks for the same thing gets the same informer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._informers: dict[_Scope, Informer] = {}
        self._tasks: dict[_Scope, asyncio.Task[None]] = {}
        self._started = False

    def informer(
        self, resource: GVR, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> Informer:
        """The informer of that part of a resource; once the factory has started, it runs at once."""
        return self._informer(_Scope(resource, namespace, label_selector, field_selector, False))

    def metadata_informer(self, resource: GVR) -> Informer:
        """An informer for metadata alone: the full one if somebody has it, else one that keeps `only_metadata`."""
        full = _Scope(resource, "", "", "", False)
        return self._informer(full if full in self._informers else full._replace(metadata_only=True))

    def _informer(self, scope: _Scope) -> Informer:
        informer = self._informers.get(scope)
        if informer is None:
            informer = Informer(
                self._client,
                scope.resource,
                namespace=scope.namespace,
                label_selector=scope.label_selector,
                field_selector=scope.field_selector,
                transform=only_metadata if scope.metadata_only else None,
            )
            self._informers[scope] = informer
            if self._started:
                self._run(scope)
        return informer

    def drop_metadata_informer(self, resource: GVR) -> None:
        """Stop what `metadata_informer` started, when a resource is no longer served."""
        scope = _Scope(resource, "", "", "", True)
        self._informers.pop(scope, None)
        task = self._tasks.pop(scope, None)
        if task is not None:
            task.cancel()

    @property
    def started(self) -> bool:
        """Whether informers asked for run at once."""
        return self._started

    def start(self) -> None:
        """Run every informer asked for, now and from now on."""
        self._started = True
        for scope in self._informers:
            self._run(scope)

    def _run(self, scope: _Scope) -> None:
        if scope not in self._tasks:
            name = f"informer {scope.resource.resource}"
            self._tasks[scope] = asyncio.create_task(self._informers[scope].run(), name=name)

    async def wait_synced(self) -> None:
        """Wait until every informer has taken in its first list."""
        await asyncio.gather(*(informer.wait_synced() for informer in list(self._informers.values())))

    async def stop(self) -> None:
        self._started = False
        tasks = list(self._tasks.values())
        self._tasks.clear()
        await end_tasks(tasks)
