"""ConfigMaps, Secrets and ClusterTrustBundles that pods of this node refer to, read from the API server.

What pods mount is watched, each object by its name, for as long as a pod of this node mounts it, and what changes is
told to the pods that mount it; nothing else of a namespace is ever asked for, as the Node authorizer demands. What
pods read but once, for their environment or to pull images, is read when it is needed and shared by a burst of pods
(https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pinnace.apis.resources import CLUSTER_TRUST_BUNDLES, CONFIG_MAPS, SECRETS
from pinnace.client.client import Client
from pinnace.client.informer import Informer
from pinnace.kubelet.containers.env import Fetch
from pinnace.machinery.errors import ApiError, not_found
from pinnace.machinery.meta import GVR, Obj, namespace_of, uid_of
from pinnace.wire.tasks import end_tasks

MAX_AGE = 2.0  # seconds for which what is not watched is shared
PATIENCE = 2.0  # seconds after which a server that does not answer is taken for gone
FOLLOW_AFTER = 1.5  # seconds, up to twice as many: then what a pod mounts is watched, for many do not live as long
_BUNDLE = "ClusterTrustBundle"
_Key = tuple[str, str, str]  # kind, namespace, name; neither of the latter for all trust bundles
_RESOURCES: dict[str, GVR] = {"ConfigMap": CONFIG_MAPS, "Secret": SECRETS, _BUNDLE: CLUSTER_TRUST_BUNDLES}


@dataclass(slots=True)
class _Watched:
    """An object that pods mount."""

    informer: Informer
    users: set[str] = field(default_factory=set)  # UIDs of the pods
    seen: str | None = None  # the resourceVersion that pods were given before it was watched, "" for none at all
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class _Read:
    """An object that was asked for once."""

    at: float
    task: asyncio.Task[Obj]

    @property
    def failed(self) -> bool:
        return self.task.done() and (self.task.cancelled() or self.task.exception() is not None)


class ObjectFetcher:
    """Reads objects for volumes and environments; `changed` is given the UID of each pod that mounts what changed."""

    def __init__(
        self,
        client: Client,
        changed: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        follow_after: float = FOLLOW_AFTER,
    ) -> None:
        self._client = client
        self._follow_after = follow_after
        self._changed = changed
        self._clock = clock
        self._since: dict[str, float] = {}  # pod UID -> when the pod came: it wants to see nothing older
        self._given: dict[str, dict[_Key, Obj]] = {}  # pod UID -> what it was given last: better than nothing
        self._watched: dict[_Key, _Watched] = {}
        self._read: dict[_Key, _Read] = {}

    # Whose objects are watched.

    def register(self, pod: Obj) -> None:
        """A pod has come to this node: follow what it mounts."""
        self._since[uid_of(pod)] = self._clock()
        for key in mounted_by(pod):
            watched = self._watched.get(key)
            if watched is None:
                watched = self._watched[key] = self._watch(key)
            watched.users.add(uid_of(pod))

    def unregister(self, uid: str) -> None:
        """The pod is gone: what nobody else mounts is not followed any more."""
        self._since.pop(uid, None)
        self._given.pop(uid, None)
        for key, watched in list(self._watched.items()):
            watched.users.discard(uid)
            if not watched.users:
                _end(watched)
                del self._watched[key]

    def _watch(self, key: _Key) -> _Watched:
        kind, namespace, name = key
        selector = f"metadata.name={name}" if name else ""
        informer = Informer(self._client, _RESOURCES[kind], namespace=namespace, field_selector=selector)
        watched = _Watched(informer)

        def tell(obj: Obj) -> None:
            if informer.synced:
                self._tell(watched)
                if obj.get("immutable"):
                    _end(watched)

        informer.add_handler(tell, lambda _, obj: tell(obj), lambda _: self._tell(watched))
        watched.task = asyncio.create_task(self._follow(key, watched), name=f"watch {kind} {namespace}/{name}")
        return watched

    async def _follow(self, key: _Key, watched: _Watched) -> None:
        """Watch an object, and tell if it is another by now than pods were given."""
        await asyncio.sleep(self._follow_after * random.uniform(1, 2))  # not all at once after a start
        running = asyncio.create_task(watched.informer.run())
        try:
            await watched.informer.wait_synced()
            found = watched.informer.store.get(_store_key(key))
            self._note(watched, found)
            if not (found or {}).get("immutable"):
                await running
        finally:
            await end_tasks([running])

    def _note(self, watched: _Watched, obj: Obj | None) -> None:
        """Pods are given this: those that were given another before want to know."""
        before, watched.seen = watched.seen, _version(obj)
        if before not in (None, watched.seen):
            self._tell(watched)

    def _tell(self, watched: _Watched) -> None:
        for uid in list(watched.users):
            self._changed(uid)

    async def close(self) -> None:
        watched, self._watched = self._watched, {}
        await end_tasks(one.task for one in watched.values() if one.task is not None)

    # Reading.

    def fetch_for(self, pod: Obj) -> Fetch:
        """What reads for one pod, which never sees less than there was when it came.

        While the API server is gone, a pod gets what it was given before: its containers can be started again.
        """

        async def fetch(kind: str, namespace: str, name: str) -> Obj:
            return await self._fetch((kind, namespace, name), uid_of(pod))

        return fetch

    async def bundles(self) -> list[Obj]:
        """Every ClusterTrustBundle. Raises ApiError."""
        key = _BUNDLE, "", ""
        watched = self._watched.get(key)
        if watched is not None and watched.informer.synced:
            return watched.informer.store.list()
        if watched is not None:
            watched.seen = "any"  # so that what changes before they are watched is told
        items: list[Obj] = (await asyncio.shield(self._reading(key, 0.0))).get("items") or []
        return items

    async def _fetch(self, key: _Key, uid: str) -> Obj:
        """The object. Raises ApiError; one that is missing is named as the kubelet names it, `configmap "x"`."""
        kind, _, name = key
        watched = self._watched.get(key)
        if watched is not None and watched.informer.synced:
            kept = watched.informer.store.get(_store_key(key))
            if kept is None:
                raise not_found(kind.lower(), name)
            return kept
        try:
            found = await self._read_for(key, uid)
        except ApiError as error:
            if not error.is_not_found:
                raise
            if watched is not None:
                self._note(watched, None)
            raise not_found(kind.lower(), name) from error
        if watched is not None:
            self._note(watched, found)
        return found

    async def _read_for(self, key: _Key, uid: str) -> Obj:
        given = self._given.setdefault(uid, {}) if uid in self._since else {}
        before = given.get(key)
        try:
            async with asyncio.timeout(None if before is None else PATIENCE):
                found = await asyncio.shield(self._reading(key, self._since.get(uid, 0.0)))
        except (ApiError, TimeoutError) as error:
            if before is None or (isinstance(error, ApiError) and error.code < 500):
                raise
            return before
        given[key] = found
        return found

    def _reading(self, key: _Key, since: float) -> asyncio.Task[Obj]:
        kind, namespace, name = key
        now = self._clock()
        read = self._read.get(key)
        if read is None or read.at < since or now - read.at > MAX_AGE or read.failed:
            self._forget_old(now)
            resource = _RESOURCES[kind]
            asked = self._client.get(resource, name, namespace) if name else self._client.list(resource)
            task = asyncio.ensure_future(asked)
            read = self._read[key] = _Read(now, task)
        return read.task

    def _forget_old(self, now: float) -> None:
        for key in [key for key, read in self._read.items() if now - read.at > MAX_AGE and read.task.done()]:
            del self._read[key]


def _end(watched: _Watched) -> None:
    if watched.task is not None:
        watched.task.cancel()


def _store_key(key: _Key) -> str:
    return f"{key[1]}/{key[2]}"


def _version(obj: Obj | None) -> str:
    return str(obj["metadata"].get("resourceVersion", "")) if obj is not None else ""


def mounted_by(pod: Obj) -> Iterator[_Key]:
    """What a pod's volumes are made of and must follow."""
    namespace = namespace_of(pod)
    for volume in pod["spec"].get("volumes") or ():
        sources = (volume.get("projected") or {}).get("sources") or ()
        for source in (volume, *sources):
            if source.get("configMap"):
                yield "ConfigMap", namespace, source["configMap"].get("name", "")
            if source.get("secret"):
                yield "Secret", namespace, source["secret"].get("secretName") or source["secret"].get("name", "")
            if source.get("clusterTrustBundle"):
                yield _BUNDLE, "", ""
