"""The controllers of CustomResourceDefinitions inside the API server: names, conditions, serving, cleaning up.

The cache of definitions drives everything, so what another API server writes to the same store counts as well. Kinds
are served the moment a definition is seen to be Established, in the same turn of the event loop in which watchers hear
of it. One task writes status and removes the objects of deleted definitions, going through definitions by name.
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import structlog

from pinnace.apis.definitions import CLEANUP_FINALIZER, condition_is, is_served, set_condition
from pinnace.apis.kind import Kind
from pinnace.apis.resources import CUSTOM_RESOURCE_DEFINITIONS
from pinnace.apiserver.authn import loopback_user
from pinnace.apiserver.cache import CachedObject, Event, Filter, ResourceCache, Watcher
from pinnace.apiserver.call import Call
from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery.errors import ApiError, Cause
from pinnace.machinery.meta import Obj, format_time, utc_now
from pinnace.store.contract import RevisionConflict, StoreError
from pinnace.wire.tasks import end_tasks

if TYPE_CHECKING:
    from pinnace.apiserver.api import Api
    from pinnace.apiserver.registered_webhooks import RegisteredWebhooks

log = structlog.get_logger()
_T = TypeVar("_T")

AT_ONCE = 100  # objects that are deleted at a time with their definition
RETRY_SECONDS = 1.0  # until something that failed is tried again


class CustomResources:
    """Serves what the definitions in the store define; `begin` when the caches are filled, `stop` at the end."""

    def __init__(self, api: Api, client: RegisteredWebhooks) -> None:
        self._api = api
        self._client = client
        self._served: dict[str, _Served] = {}  # by the name of the definition
        self._queue: dict[str, None] = {}  # names of definitions whose status is to be looked at, in order
        self._judged: dict[str, tuple[object, list[Cause]]] = {}  # violations by name, and what they are of
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._leave: Callable[[], None] = lambda: None
        self._started = False

    @property
    def _definitions(self) -> ResourceCache:
        return self._api.storage.cache(CUSTOM_RESOURCE_DEFINITIONS)

    def begin(self) -> None:
        """Serve what is established already, and follow the rest."""
        cache = self._definitions
        for cached in list(cache.objects.values()):
            self._follow(cached.name, cached)
        self._leave = cache.watch(Watcher(Filter(), self._changed))
        self._started = True

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        self._leave()
        for served in self._served.values():
            served.close()
        if self._task is not None:
            await end_tasks([self._task])

    # Serving.

    def _changed(self, _: str, obj: CachedObject, event: Event) -> None:
        self._follow(obj.name, event.new)

    def _follow(self, name: str, cached: CachedObject | None) -> None:
        """Serve what the definition says now."""
        definition = cached.obj() if cached is not None else None
        try:
            if definition is None or not is_served(definition):
                self._end(name)
            else:
                self._serve(name, definition)
        except Exception as error:  # one that was not checked here when it was written must not hold up the others
            log.error("a definition cannot be served", name=name, exc_info=error)
        self._queue[name] = None
        if definition is None:  # names may be free now
            self._queue |= dict.fromkeys(one.name for one in self._definitions.objects.values())
        self._wake.set()

    def _serve(self, name: str, definition: Obj) -> None:
        known = self._served.get(name)
        api = self._api
        if known is not None and known.says_the_same(definition):
            if known.note_deletion(definition):
                api.registry.serve(name, known.kinds())  # discovery tells of it
            return
        served = known or _Served(api, definition)
        self._served[name] = served
        served.arrange(definition, self._client)
        if known is None and self._started:
            task = asyncio.create_task(served.load())
            served.loading = task
        api.registry.serve(name, served.kinds())

    def _end(self, name: str) -> None:
        served = self._served.pop(name, None)
        if served is not None:
            self._api.registry.serve(name, ())
            served.close()

    # Status, and the end of definitions.

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            failed: list[str] = []
            while self._queue:
                name = next(iter(self._queue))
                del self._queue[name]
                try:
                    await self._reconcile(name)
                except RevisionConflict:
                    self._queue[name] = None
                except (ApiError, StoreError) as error:
                    failed.append(name)
                    log.warning("definition not brought up to date", name=name, error=str(error))
                except Exception as error:
                    log.error("definition not brought up to date", name=name, exc_info=error)
            if failed:
                await asyncio.sleep(RETRY_SECONDS)
                self._queue |= dict.fromkeys(failed)
                self._wake.set()

    async def _reconcile(self, name: str) -> None:
        cached = self._definitions.get(name)
        if cached is None:
            self._judged.pop(name, None)
            return
        definition = cached.obj()
        if definition["metadata"].get("deletionTimestamp"):
            await self._clean_up(cached)
            return
        from pinnace.apiserver.customresources.conditions import status_for

        others = [one.obj() for one in self._definitions.objects.values() if one.name != name]
        now = format_time(utc_now())
        status = status_for(definition, others, self._api.registry.builtin, self._violations(name, definition), now)
        if status != definition.get("status"):
            await self._write(cached, {**definition, "status": status})

    def _violations(self, name: str, definition: Obj) -> list[Cause]:
        """Where the schemas are not structural; they are large, and looked at once for each generation."""
        from pinnace.apis.definition_schemas import structural_causes

        meta = definition["metadata"]
        key = (meta.get("uid"), meta.get("generation"))
        known = self._judged.get(name)
        if known is None or known[0] != key:
            known = self._judged[name] = key, structural_causes(definition["spec"])
        return known[1]

    async def _write(self, cached: CachedObject, definition: Obj) -> None:
        definition = {**definition, "metadata": dict(definition["metadata"])}
        await self._api.storage.replace(self._definitions, cached, definition)

    async def _clean_up(self, cached: CachedObject) -> None:
        """Delete every object of a definition that is being deleted, then let it go."""
        definition = cached.obj()
        if CLEANUP_FINALIZER not in (definition["metadata"].get("finalizers") or ()):
            return
        if condition_is(definition, "Established"):
            remaining = await self._delete_instances(cached.name)
            if remaining:
                why = "CustomResource deletion is in progress"
                await self._note(cached, "True", "InstanceDeletionInProgress", why)
                return  # the last deletion comes back here
            reason, message = "InstanceDeletionCompleted", "removed all instances"
        else:
            reason, message = "NeverEstablished", "resource was never established"
        await self._let_go(cached, reason, message)

    async def _note(self, cached: CachedObject, value: str, reason: str, message: str) -> None:
        definition = cached.obj()
        status = dict(definition.get("status") or {})
        set_condition(status, "Terminating", value, reason, message, format_time(utc_now()))
        if status != definition.get("status"):
            await self._write(cached, {**definition, "status": status})

    async def _let_go(self, cached: CachedObject, reason: str, message: str) -> None:
        definition = cached.obj()
        meta = dict(definition["metadata"])
        meta["finalizers"] = [one for one in meta["finalizers"] if one != CLEANUP_FINALIZER]
        if not meta["finalizers"]:
            await self._api.storage.remove(self._definitions, cached)
            return
        status = dict(definition.get("status") or {})
        set_condition(status, "Terminating", "False", reason, message, format_time(utc_now()))
        await self._write(cached, {**definition, "metadata": meta, "status": status})

    async def _delete_instances(self, name: str) -> int:
        """Ask for the deletion of every object; how many are held by finalizers."""
        served = self._served.get(name)
        if served is None:
            return 0
        if served.loading is not None:
            await served.loading
        served.on_empty = lambda: self._again(name)
        start = len(served.instances.prefix)
        for some in batched(served.instances.stored, AT_ONCE):
            await asyncio.gather(*(self._delete_instance(served, key[start:]) for key in some))
        return len(served.instances.stored)

    async def _delete_instance(self, served: _Served, key: str) -> None:
        """Delete one object, or begin to; admission is not asked, or it could keep a definition for ever."""
        from pinnace.apiserver.handlers.delete import Options, begin_deletion

        kind, storage = served.storage_kind, self._api.storage
        namespace, _, object_name = key.rpartition("/")
        path = kind.gvr.path(namespace, object_name)
        info = RequestInfo("delete", path, True, kind.group, kind.version, kind.plural, namespace, object_name)
        call = Call(self._api, loopback_user("system:apiserver"), info, kind, {}, None)
        if kind.settle is not None and (waiting := kind.settle(key)) is not None:
            await waiting
        while (stored := call.cache.get(key)) is not None:
            try:
                new = begin_deletion(call, stored, Options())
                if new is None:
                    await storage.remove(call.cache, stored)
                elif new != stored.obj():
                    await storage.replace(call.cache, stored, new)
                return
            except RevisionConflict:
                continue

    def _again(self, name: str) -> None:
        self._queue[name] = None
        self._wake.set()


class _Served:
    """One definition that is served."""

    def __init__(self, api: Api, definition: Obj) -> None:
        from pinnace.apiserver.customresources.instances import Instances  # none of it where nothing is defined

        spec = definition["spec"]
        self._api = api
        self._basis: tuple[object, ...] = ()
        self.instances = Instances(spec["group"], spec["names"]["plural"])
        self.instances.revision = api.storage.revision
        self.instances.on_change = self._look
        self.loading: asyncio.Task[None] | None = None
        self.on_empty: Callable[[], None] = lambda: None
        api.storage.adopt(self.instances)

    def says_the_same(self, definition: Obj) -> bool:
        return self._basis == _basis(definition)

    def note_deletion(self, definition: Obj) -> bool:
        """Let nothing new come where the definition is being deleted; whether that is news. Watches go on."""
        terminating = condition_is(definition, "Terminating")
        if self.storage_kind.terminating == terminating:
            return False
        for version in self.instances.versions.values():
            version.kind.terminating = terminating
        return True

    def arrange(self, definition: Obj, client: RegisteredWebhooks) -> None:
        """Serve the definition's versions in place of those before."""
        from pinnace.apiserver.customresources.conversion import Converter
        from pinnace.apiserver.customresources.kinds import storage_version, versions_of

        api, instances = self._api, self.instances
        self._hide()
        self._basis = _basis(definition)
        conversion = definition["spec"].get("conversion") or {}
        converter = None
        if conversion.get("strategy") == "Webhook":
            converter = Converter(conversion["webhook"], client, api.storage)
        versions = versions_of(definition, api.schemas)
        instances.arrange(versions, storage_version(definition), converter)
        for name, view in instances.views.items():
            api.storage.show(view)
            api.schemas.custom[view.kind.gvk] = versions[name].schema

    def kinds(self) -> list[Kind]:
        return [version.kind for version in self.instances.versions.values() if version.served]

    @property
    def storage_kind(self) -> Kind:
        return self.instances.versions[self.instances.storage_version].kind

    async def load(self) -> None:
        """Take what lies in the store already, left by one of the same name."""
        instances = self.instances
        while True:
            try:
                found, revision = await self._api.storage.store.range(instances.prefix)
            except StoreError as error:
                log.warning("objects of a new definition not read", prefix=instances.prefix, error=str(error))
                return
            if not found or instances.revision <= revision:  # or what was read may have gone since
                break
        if found:
            instances.load(found, revision)

    def _look(self) -> None:
        if not self.instances.stored:
            self.on_empty()

    def _hide(self) -> None:
        for view in self.instances.views.values():
            self._api.storage.hide(view)
            self._api.schemas.custom.pop(view.kind.gvk, None)

    def close(self) -> None:
        self._hide()
        for view in self.instances.views.values():
            view.close()
        if self.loading is not None:
            self.loading.cancel()
        self._api.storage.abandon(self.instances)


def batched(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    """The items in lists of at most `size`, as they are now."""
    whole = list(items)
    for start in range(0, len(whole), size):
        yield whole[start : start + size]


def _basis(definition: Obj) -> tuple[object, ...]:
    """What the kinds are made of: the rest of a definition may change without their noticing."""
    return definition["spec"], (definition.get("status") or {}).get("acceptedNames")
