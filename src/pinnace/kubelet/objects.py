"""ConfigMaps, Secrets and ClusterTrustBundles that pods of this node refer to, read from the API server.

What pods mount is watched, each object by its name, for as long as a pod of this node mounts it, and what changes is
told to the pods that mount it; nothing else of a namespace is ever asked for, as the Node authorizer demands. What
pods read but once, for their environment or to pull images, is read when it is needed and shared by a burst of pods
(https://kubernetes.io/docs/concepts/configuration/configmap/#mounted-configmaps-are-updated-automatically).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pinnace.apis.resources import CLUSTER_TRUST_BUNDLES, CONFIG_MAPS, SECRETS
from pinnace.client.client import Client
from pinnace.client.informer import Informer
from pinnace.client.tasks import end_tasks
from pinnace.kubelet.env import Fetch
from pinnace.machinery.errors import ApiError, not_found
from pinnace.machinery.meta import GVR, Obj, namespace_of, uid_of

MAX_AGE = 2.0  # seconds for which what is not watched is shared
FIRST_LIST = 1.0  # seconds to wait for a watched object, before it is asked for as if it were not
_BUNDLE = "ClusterTrustBundle"
_Key = tuple[str, str, str]  # kind, namespace, name; neither of the latter for all trust bundles
_RESOURCES: dict[str, GVR] = {"ConfigMap": CONFIG_MAPS, "Secret": SECRETS, _BUNDLE: CLUSTER_TRUST_BUNDLES}


@dataclass(slots=True)
class _Watched:
    """An object that pods mount."""

    informer: Informer
    task: asyncio.Task[None]
    users: set[str] = field(default_factory=set)  # UIDs of the pods


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
    ) -> None:
        self._client = client
        self._changed = changed
        self._clock = clock
        self._since: dict[str, float] = {}  # pod UID -> when the pod came: it wants to see nothing older
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
        for key, watched in list(self._watched.items()):
            watched.users.discard(uid)
            if not watched.users:
                watched.task.cancel()
                del self._watched[key]

    def _watch(self, key: _Key) -> _Watched:
        kind, namespace, name = key
        selector = f"metadata.name={name}" if name else ""
        informer = Informer(self._client, _RESOURCES[kind], namespace=namespace, field_selector=selector)
        informer.add_handler(
            lambda obj: self._tell(key, obj), lambda _, obj: self._tell(key, obj), lambda _: self._tell(key, {})
        )
        return _Watched(informer, asyncio.create_task(informer.run(), name=f"watch {kind} {namespace}/{name}"))

    def _tell(self, key: _Key, obj: Obj) -> None:
        watched = self._watched.get(key)
        if watched is None:
            return
        if obj.get("immutable"):
            watched.task.cancel()
        if watched.informer.synced:  # before that, nobody has read it
            for uid in watched.users:
                self._changed(uid)

    async def close(self) -> None:
        watched, self._watched = self._watched, {}
        await end_tasks(one.task for one in watched.values())

    # Reading.

    def fetch_for(self, pod: Obj) -> Fetch:
        """What reads for one pod, which never sees less than there was when it came."""

        async def fetch(kind: str, namespace: str, name: str) -> Obj:
            return await self._fetch((kind, namespace, name), self._since.get(uid_of(pod), 0.0))

        return fetch

    async def bundles(self) -> list[Obj]:
        """Every ClusterTrustBundle. Raises ApiError."""
        watched = self._watched.get((_BUNDLE, "", ""))
        if watched is not None and await _is_synced(watched.informer):
            return watched.informer.store.list()
        listed = await self._client.list(CLUSTER_TRUST_BUNDLES)
        items: list[Obj] = listed.get("items") or []
        return items

    async def _fetch(self, key: _Key, since: float) -> Obj:
        """The object. Raises ApiError; one that is missing is named as the kubelet names it, `configmap "x"`."""
        kind, namespace, name = key
        watched = self._watched.get(key)
        if watched is not None and await _is_synced(watched.informer):
            found = watched.informer.store.get(f"{namespace}/{name}")
            if found is None:
                raise not_found(kind.lower(), name)
            return found
        try:
            return await asyncio.shield(self._reading(key, since))
        except ApiError as error:
            if error.is_not_found:
                raise not_found(kind.lower(), name) from error
            raise

    def _reading(self, key: _Key, since: float) -> asyncio.Task[Obj]:
        kind, namespace, name = key
        now = self._clock()
        read = self._read.get(key)
        if read is None or read.at < since or now - read.at > MAX_AGE or read.failed:
            self._forget_old(now)
            task = asyncio.ensure_future(self._client.get(_RESOURCES[kind], name, namespace))
            read = self._read[key] = _Read(now, task)
        return read.task

    def _forget_old(self, now: float) -> None:
        for key in [key for key, read in self._read.items() if now - read.at > MAX_AGE and read.task.done()]:
            del self._read[key]


async def _is_synced(informer: Informer) -> bool:
    """Whether the object is known, waiting a moment for it."""
    if informer.synced:
        return True
    try:
        async with asyncio.timeout(FIRST_LIST):
            await informer.wait_synced()
    except TimeoutError:
        return False
    return True


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
