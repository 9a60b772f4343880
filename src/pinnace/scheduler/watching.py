"""What the API server shows, told to the cache, the queue and the nominations; whoever it may help is tried again."""

from __future__ import annotations

import time
from collections.abc import Callable, Container

from pinnace.apis.core.pod_holding import marks
from pinnace.apis.resources import (
    CSI_DRIVERS,
    CSI_NODES,
    CSI_STORAGE_CAPACITIES,
    DEVICE_CLASSES,
    DEVICE_TAINT_RULES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    SERVICES,
    STATEFUL_SETS,
    STORAGE_CLASSES,
)
from pinnace.client.informer import InformerFactory
from pinnace.client.store import ObjectStore
from pinnace.machinery.meta import GVR, Obj, get_in, is_deleting, key_of, labels_of, name_of
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.events import Action, Change
from pinnace.scheduler.nominations import Nominations
from pinnace.scheduler.pod import DEFAULT_SCHEDULER, PodInfo, is_finished
from pinnace.scheduler.queue import SchedulingQueue

STORAGE = {
    PERSISTENT_VOLUME_CLAIMS: "PersistentVolumeClaim",
    PERSISTENT_VOLUMES: "PersistentVolume",
    STORAGE_CLASSES: "StorageClass",
    CSI_NODES: "CSINode",
    CSI_DRIVERS: "CSIDriver",
    CSI_STORAGE_CAPACITIES: "CSIStorageCapacity",
}
SELECTING = (SERVICES, REPLICATION_CONTROLLERS, REPLICA_SETS, STATEFUL_SETS)
DEVICES = {
    RESOURCE_CLAIMS: "ResourceClaim",
    RESOURCE_SLICES: "ResourceSlice",
    DEVICE_CLASSES: "DeviceClass",
    DEVICE_TAINT_RULES: "DeviceTaintRule",
}
_WATCHED = (NAMESPACES, NODES, *SELECTING, *STORAGE, POD_DISRUPTION_BUDGETS, PODS)


class Watching:
    """The informers of a scheduler. `changed` is called after every change that may matter to a pod that waits."""

    def __init__(
        self,
        factory: InformerFactory,
        cache: Cache,
        nominations: Nominations,
        queue: SchedulingQueue,
        scheduler_names: Container[str],
        changed: Callable[[], None],
    ) -> None:
        self._informers = {resource: factory.informer(resource) for resource in (*_WATCHED, *DEVICES)}
        self._cache = cache
        self._nominations = nominations
        self._queue = queue
        self._names = scheduler_names
        self._changed = changed

    def objects(self, resource: GVR) -> ObjectStore:
        return self._informers[resource].store

    def begin(self) -> None:
        """Take in what there is, and all that follows."""
        informers = self._informers
        informers[NAMESPACES].add_handler(
            self._namespace_seen, lambda _, new: self._namespace_seen(new), self._namespace_gone
        )
        informers[NODES].add_handler(self._node_seen, lambda _, new: self._node_seen(new), self._node_gone)
        for resource, kind in (STORAGE | DEVICES).items():
            self._watch_storage(resource, kind)
        for resource in SELECTING:
            informers[resource].add_handler(
                lambda _: self._cache.siblings_changed(),
                self._selecting_changed,
                lambda _: self._cache.siblings_changed(),
            )
        informers[PODS].add_handler(self._pod_seen, self._pod_changed, self._pod_gone)

    async def wait_synced(self) -> None:
        for resource in _WATCHED:  # devices are not served in every minor
            await self._informers[resource].wait_synced()

    def happened(self, resource: str, action: Action, subject: object) -> None:
        self._queue.wake(Change(resource, action, subject), time.monotonic())
        self._changed()

    # Namespaces, nodes and storage.

    def _namespace_seen(self, obj: Obj) -> None:
        if self._cache.set_namespace(name_of(obj), labels_of(obj)):
            self.happened("Namespace", Action.ADD | Action.UPDATE_LABEL, obj)

    def _namespace_gone(self, obj: Obj) -> None:
        self._cache.set_namespace(name_of(obj), None)

    def _node_seen(self, obj: Obj) -> None:
        changed = self._cache.set_node(obj)
        if changed:
            self.happened("Node", changed, self._cache.nodes[name_of(obj)])

    def _node_gone(self, obj: Obj) -> None:
        node = self._cache.remove_node(name_of(obj))
        if node is not None:
            self.happened("Node", Action.DELETE, node)  # a domain may have gone with it, and skew with the domain

    def _selecting_changed(self, old: Obj, new: Obj) -> None:
        if old["spec"].get("selector") != new["spec"].get("selector"):
            self._cache.siblings_changed()

    def _watch_storage(self, resource: GVR, kind: str) -> None:
        def seen(action: Action, obj: Obj) -> None:
            self._cache.storage_changed()
            self.happened(kind, action, obj)

        self._informers[resource].add_handler(
            lambda new: seen(Action.ADD, new),
            lambda _, new: seen(Action.UPDATE, new),
            lambda old: seen(Action.DELETE, old),
        )

    # Pods.

    def _pod_seen(self, obj: Obj, action: Action = Action.ADD) -> None:
        spec = obj["spec"]
        key = key_of(obj)
        if is_finished(obj):
            self._pod_gone(obj)
        elif spec.get("nodeName"):
            self._queue.remove(key)
            self._nominations.withdraw(key)
            pod = PodInfo.of(obj)
            if self._cache.add_pod(pod):
                self.happened("Pod", action, pod)
        elif (spec.get("schedulerName") or DEFAULT_SCHEDULER) not in self._names or is_deleting(obj):
            self._queue.remove(key)
            self._give_up_room(obj)
        elif not self._cache.is_assumed(key):
            self._put(PodInfo.of(obj))

    def _put(self, pod: PodInfo) -> None:
        if pod.nominated_node:
            self._nominations.nominate(pod, pod.nominated_node)
        self._queue.put(pod, time.monotonic())
        self._changed()

    def _pod_changed(self, old: Obj, new: Obj) -> None:
        placed = old["spec"].get("nodeName")
        if placed:
            same_labels = old["metadata"].get("labels") == new["metadata"].get("labels")
            same_size = old["spec"] == new["spec"] and marks(old) == marks(new)
            if not same_labels or not same_size or is_finished(new):
                scale = Action.NONE if same_labels else Action.UPDATE_LABEL
                self._pod_seen(new, scale | Action.UPDATE_SCALE_DOWN)
            return
        if get_in(old, "status", "nominatedNodeName") and not get_in(new, "status", "nominatedNodeName"):
            self._nominations.withdraw(key_of(new))
        self._pod_seen(new)

    def _pod_gone(self, obj: Obj) -> None:
        key = key_of(obj)
        self._queue.remove(key)
        self._give_up_room(obj)
        pod = self._cache.remove_pod(key)
        if pod is not None:
            self.happened("Pod", Action.DELETE, pod)

    def _give_up_room(self, obj: Obj) -> None:
        """The pod will not come: what was kept for it is free for others."""
        key = key_of(obj)
        if self._nominations.node_of(key):
            self._nominations.withdraw(key)
            self.happened("Pod", Action.DELETE, PodInfo.of(obj))
