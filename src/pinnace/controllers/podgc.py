"""Removes pods that nobody will finish: of nodes that are gone, never placed but deleted, and too many finished ones.

Specified by https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-garbage-collection and, of nodes that
people declare out of service, https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown.
"""

from __future__ import annotations

from collections.abc import Iterable

from pinnace.apis.resources import NODES, PODS
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.controllers.conditions import is_true, with_condition
from pinnace.controllers.node_lifecycle import by_node
from pinnace.controllers.pods import is_finished
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    format_time,
    get_in,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    replace_in,
    uid_of,
    utc_now,
)

_TERMINATED_THRESHOLD = 12500
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
_QUARANTINE_SECONDS = 40.0  # a node that comes back within this time finds its pods


def oldest_finished(pods: Iterable[Obj], surplus: int) -> list[Obj]:
    """The finished pods to remove when there are too many."""
    finished = [pod for pod in pods if is_finished(pod) and not is_deleting(pod)]
    return sorted(finished, key=lambda pod: pod["metadata"].get("creationTimestamp", ""))[:surplus]


def unplaced_but_deleted(pod: Obj) -> bool:
    """Whether no kubelet will ever confirm the pod's deletion."""
    return is_deleting(pod) and not get_in(pod, "spec", "nodeName")


def is_out_of_service(node: Obj | None) -> bool:
    """Whether somebody has declared that the node, which is not ready, will not come back as it was."""
    if node is None or is_true(node, "Ready"):
        return False
    return any(taint.get("key") == OUT_OF_SERVICE for taint in get_in(node, "spec", "taints") or ())


class PodGcController(Controller):
    """One key is one pod."""

    name = "pod-garbage-collector-controller"
    workers = 2

    def __init__(
        self,
        client: Client,
        informers: InformerFactory,
        *,
        threshold: int = _TERMINATED_THRESHOLD,
        quarantine: float = _QUARANTINE_SECONDS,
    ) -> None:
        self._threshold = threshold
        self._quarantine = quarantine
        self._finished: set[str] = set()  # keys of finished pods
        self._missing: set[str] = set()  # pods whose quarantine has begun
        super().__init__(client, informers)

    def setup(self) -> None:
        self.nodes = self.use(NODES)
        self.nodes.add_handler(self._node_seen, lambda _, new: self._node_seen(new), self._node_gone)
        self.pods = self.use(PODS)
        self.pods.add_index("node", by_node)
        self.pods.add_handler(self._pod_seen, lambda _, new: self._pod_seen(new), self._pod_gone)

    def _node_seen(self, node: Obj) -> None:
        if is_out_of_service(node):
            self._node_gone(node)

    def _node_gone(self, node: Obj) -> None:
        for pod in self.pods.store.by_index("node", name_of(node)):
            self.queue.add(key_of(pod))

    def _pod_seen(self, pod: Obj) -> None:
        key, node = key_of(pod), get_in(pod, "spec", "nodeName")
        lost = node and node not in self.nodes.store
        if unplaced_but_deleted(pod) or lost or (is_deleting(pod) and is_out_of_service(self.nodes.store.get(node))):
            self.queue.add(key)
        if is_finished(pod):
            self._finished.add(key)
            if 0 < self._threshold < len(self._finished):
                surplus = len(self._finished) - self._threshold
                for old in oldest_finished(self.pods.store.list(), surplus):
                    self.queue.add(key_of(old))

    def _pod_gone(self, pod: Obj) -> None:
        self._finished.discard(key_of(pod))
        self._missing.discard(key_of(pod))

    async def reconcile(self, key: str) -> float | None:
        pod = self.pods.store.get(key)
        if pod is None:
            return None
        if unplaced_but_deleted(pod):
            await self._remove(pod)
        elif is_finished(pod) and 0 < self._threshold < len(self._finished):
            await self._remove(pod)
            self._finished.discard(key)
        elif (node := get_in(pod, "spec", "nodeName")) and node not in self.nodes.store:
            if key not in self._missing:
                self._missing.add(key)
                return self._quarantine
            if not await self._exists(node):
                await self._fail(pod, _gone())
                await self._remove(pod)
        elif is_deleting(pod) and is_out_of_service(self.nodes.store.get(node or "")):
            await self._fail(pod)
            await self._remove(pod)
        else:
            self._missing.discard(key)
        return None

    async def _exists(self, node: str) -> bool:
        try:
            await self.client.get(NODES, node)
        except ApiError as error:
            if error.is_not_found:
                return False
            raise
        return True

    async def _fail(self, pod: Obj, why: Obj | None = None) -> None:
        """Say what became of the pod, for those that count on it."""
        if is_finished(pod):
            return
        conditions = get_in(pod, "status", "conditions", default=[])
        if why is not None:
            conditions = with_condition(conditions, why)
        failed = replace_in(replace_in(pod, conditions, "status", "conditions"), "Failed", "status", "phase")
        try:
            await self.client.update_status(PODS, failed)
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def _remove(self, pod: Obj) -> None:
        try:
            await self.client.delete(PODS, name_of(pod), namespace_of(pod), uid=uid_of(pod), grace_period_seconds=0)
        except ApiError as error:
            if not (error.is_not_found or error.is_conflict):
                raise


def _gone() -> Obj:
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists",
        "lastTransitionTime": format_time(utc_now()),
    }
