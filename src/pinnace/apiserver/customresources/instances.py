"""The objects of one custom resource: kept once, as they are stored, and shown in every version by a cache of its own.

Objects lie in the store in whatever version was the storage version when they were last written. A `VersionCache`
holds them in its version, pruned and defaulted by the schemas there are now, so that reads and watches are as fast as
those of built-in kinds. Where a webhook converts, a cache is filled when its version is first asked for, changes wait
in order for the webhook, and readers wait for the changes (`VersionCache.settle`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from pinnace.apiserver.cache import ResourceCache
from pinnace.apiserver.customresources.conversion import Converter
from pinnace.apiserver.customresources.kinds import Version
from pinnace.apiserver.storage import encode
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVK, Obj, parse_api_version
from pinnace.machinery.structural import prune
from pinnace.machinery.structural_defaults import set_defaults
from pinnace.store.contract import ROOT, Change, KeyValue

if TYPE_CHECKING:
    from pinnace.apis.kind import Kind

log = structlog.get_logger()

AT_ONCE, BYTES_AT_ONCE = 500, 4 << 20  # changes in one review, and no more of them than come to so much
RETRY_SECONDS = 2.0  # between tries of a webhook that fails, while someone watches


class Instances:
    """What is stored of one custom resource, and its views."""

    def __init__(self, group: str, plural: str) -> None:
        self.prefix = f"{ROOT}{group}/{plural}/"
        self.stored: dict[str, KeyValue] = {}  # by key, as in the store
        self.views: dict[str, VersionCache] = {}  # by version
        self.versions: dict[str, Version] = {}
        self.storage_version = ""
        self.converter: Converter | None = None  # None: strategy None
        self.revision = 0  # of the last change taken
        self.on_change: Callable[[], None] = lambda: None

    def arrange(self, versions: dict[str, Version], storage_version: str, converter: Converter | None) -> None:
        """Show the objects in these versions from now on; the caches of before are left to end."""
        for view in self.views.values():
            view.close()
        self.versions, self.storage_version, self.converter = versions, storage_version, converter
        self.views = {name: VersionCache(version.kind, self) for name, version in versions.items()}
        for view in self.views.values():
            if not view.by_webhook:
                view.fill()

    def load(self, found: list[KeyValue], revision: int) -> None:
        for item in found:
            known = self.stored.get(item.key)
            if known is None or known.mod_revision < item.mod_revision:
                self.stored[item.key] = item
        self.revision = max(self.revision, revision)
        for view in self.views.values():
            if view.filled or not view.by_webhook:
                view.fill()

    def apply(self, change: Change) -> None:
        self.revision = change.revision
        if change.value is None:
            self.stored.pop(change.key, None)
        else:
            self.stored[change.key] = KeyValue(change.key, change.value, 0, change.revision)
        for view in self.views.values():
            view.take(change)
        self.on_change()

    def prefer(self, obj: Obj, version: str) -> Obj:
        """`obj` as `version` names it and prunes it; the way of strategy None."""
        target = self.versions[version]
        renamed = {**obj, "apiVersion": target.kind.gvr.api_version}
        with contextlib.suppress(ApiError):  # metadata of old objects may be odd: it is shown as it is
            renamed, _ = prune(target.schema, renamed, target.kind.gvk)
        return renamed


class VersionCache(ResourceCache):
    """One version's view; also what stands between the writers of the version and the store."""

    def __init__(self, kind: Kind, instances: Instances) -> None:
        super().__init__(kind, instances.prefix)
        self._instances = instances
        self.by_webhook = instances.converter is not None and len(instances.versions) > 1
        self.filled = False
        self._waiting: deque[Change] = deque()
        self._error: ApiError | None = None  # of the last try to convert what waits
        self._pump: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()  # set, and replaced, whenever the pump has come further or failed
        self._closed = False
        if len(instances.versions) > 1:
            self.converter = self
        if self.by_webhook:
            kind.settle = self.settle

    # Filling.

    def fill(self) -> None:
        """Start with everything there is."""
        self.filled = True
        ready: list[KeyValue] = []
        for item in self._instances.stored.values():
            shown = self._show(item.value)
            if shown is None:
                self._waiting.append(Change(item.key, item.value, item.mod_revision))
            else:
                ready.append(item._replace(value=shown))
        self.objects.clear()
        self.load(ready, self._instances.revision)
        if self._waiting:
            self._start_pump()

    def take(self, change: Change) -> None:
        """One change of what is stored."""
        if not self.filled:
            return
        if self._waiting:
            self._waiting.append(change)
            self._start_pump()
            return
        if change.value is None or (id(change.value) in self.decoded_hint and change.value.startswith(self.head)):
            self.apply(change)  # gone, or just written in this version
            return
        shown = self._show(change.value)
        if shown is None:
            self._waiting.append(change)
            self._start_pump()
        else:
            self.decoded_hint.pop(id(change.value), None)
            self.apply(change._replace(value=shown))

    def _show(self, raw: bytes) -> bytes | None:
        """What is stored, in this version; None where a webhook must be asked."""
        obj: Obj = orjson.loads(raw)
        stored_in = self._instances.versions.get(parse_api_version(obj.get("apiVersion", ""))[1])
        changed = _normalize(obj, stored_in) if stored_in is not None else obj
        if stored_in is not None and stored_in.kind.version == self.kind.version:
            return raw if changed is obj and raw.startswith(self.head) else encode(self.kind, _settled(changed))
        if self._instances.converter is not None and stored_in is not None:
            return None
        return encode(self.kind, _settled(self._instances.prefer(changed, self.kind.version)))

    def close(self) -> None:
        self._closed = True
        self._waiting.clear()
        self._progress()
        if self._pump is not None:
            self._pump.cancel()

    # Conversion by a webhook: changes wait in their order.

    def _start_pump(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._convert_waiting())

    def _progress(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def _convert_waiting(self) -> None:
        while self._waiting and not self._closed:
            batch = self._next_batch()
            self._error = None
            try:
                shown = await self._convert_batch(batch)
            except Exception as error:
                self._fail(error)
                if not self.watcher_count:
                    return  # the next reader tries again
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if self._closed:
                return
            for change, value in zip(batch, shown, strict=True):
                self._waiting.popleft()
                self.apply(change._replace(value=value))
            self._progress()

    def _next_batch(self) -> list[Change]:
        batch: list[Change] = []
        size = 0
        for change in islice(self._waiting, AT_ONCE):
            batch.append(change)
            size += len(change.value or b"")
            if size > BYTES_AT_ONCE:
                break
        return batch

    def _fail(self, error: Exception) -> None:
        """Tell who waits: readers must not wait for what does not come."""
        if isinstance(error, ApiError):
            self._error = error
            log.warning("conversion failed", kind=self.kind.kind, version=self.kind.version, error=error.message)
        else:
            self._error = errors.internal("the object could not be converted")
            log.error("conversion failed", kind=self.kind.kind, version=self.kind.version, exc_info=error)
        self._progress()

    async def _convert_batch(self, batch: list[Change]) -> list[bytes | None]:
        shown = [self._show(change.value) if change.value is not None else b"" for change in batch]
        asked = [index for index, value in enumerate(shown) if value is None]
        objs = []
        for index in asked:
            value = batch[index].value
            assert value is not None
            obj: Obj = orjson.loads(value)
            stored_in = self._instances.versions[parse_api_version(obj["apiVersion"])[1]]
            objs.append(_normalize(obj, stored_in))
        if objs:
            assert self._instances.converter is not None
            converted = await self._instances.converter.convert(objs, self.kind.gvr.api_version)
            for index, new in zip(asked, converted, strict=True):
                shown[index] = encode(self.kind, _settled(self._instances.prefer(new, self.kind.version)))
        return [None if change.value is None else value for change, value in zip(batch, shown, strict=True)]

    def settle(self, key: str) -> Awaitable[None] | None:
        """What a reader waits for; `Kind.settle`."""
        if self.filled and not self._waiting:
            return None
        return self._settle(key)

    async def _settle(self, key: str) -> None:
        if not self.filled:
            self.fill()
        if not self._waiting:
            return
        if self._error is not None:  # ask again rather than repeat what was said
            if self._pump is not None:
                self._pump.cancel()
            self._pump, self._error = None, None
        last = self._waiting[-1].revision
        self._start_pump()
        while self._is_waiting(key, last):
            await self._moved.wait()
            if self._error is not None and self._is_waiting(key, last):
                raise self._error

    def _is_waiting(self, key: str, last: int) -> bool:
        """Whether a change up to `last` still waits: of one object, or of any."""
        full = self.prefix + key
        return any(change.revision <= last and (not key or change.key == full) for change in self._waiting)

    # For writers: `cache.Converter`.

    async def to_stored(self, obj: Obj) -> bytes:
        instances = self._instances
        target = instances.versions[instances.storage_version]
        if target.kind.version == self.kind.version:
            return encode(self.kind, obj)
        return encode(target.kind, await self.convert(obj, instances.storage_version))

    async def convert(self, obj: Obj, version: str) -> Obj:
        instances = self._instances
        if instances.converter is not None:
            obj = (await instances.converter.convert([obj], instances.versions[version].kind.gvr.api_version))[0]
        return _settled(instances.prefer(obj, version))

    async def shows(self, revision: int) -> None:
        while self._waiting and self._waiting[0].revision <= revision:
            await self._moved.wait()
            if self._error is not None and self._waiting and self._waiting[0].revision <= revision:
                raise self._error

    def is_stale(self, key: str) -> bool:
        item = self._instances.stored.get(self.prefix + key)
        return item is not None and not item.value.startswith(
            self._instances.views[self._instances.storage_version].head
        )


def _settled(obj: Obj) -> Obj:
    """An object whose metadata is an object, as the rest of the house takes for granted."""
    return obj if isinstance(obj.get("metadata"), dict) else {**obj, "metadata": {}}


def _normalize(obj: Obj, version: Version) -> Obj:
    """The object pruned and defaulted by the schema of the version it is stored in; itself where nothing changes."""
    pruned: Any = obj
    with contextlib.suppress(ApiError):
        pruned, _ = prune(version.schema, obj, GVK("", "", ""))
    if set_defaults(version.schema, pruned):
        return {**pruned}
    return pruned  # type: ignore[no-any-return]
