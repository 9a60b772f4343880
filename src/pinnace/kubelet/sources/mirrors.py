"""Mirror pods: what shows the pods of files and URLs to the API's readers, and is kept as they are.

Specified by https://kubernetes.io/docs/tasks/configure-pod-container/static-pod/.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Iterable

import structlog

from pinnace.apis.resources import PODS
from pinnace.client.client import Client
from pinnace.kubelet.pods import CONFIG_HASH, CONFIG_MIRROR
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, annotations_of, is_deleting, name_of, namespace_of, uid_of

_log = structlog.get_logger()


def mirror_of(pod: Obj, node: Obj | None) -> Obj:
    """The object that shows a static pod to the API's readers."""
    mirror = {"apiVersion": "v1", "kind": "Pod", "spec": copy.deepcopy(pod["spec"])}
    metadata: Obj = {
        "name": name_of(pod),
        "namespace": namespace_of(pod),
        "annotations": {**annotations_of(pod), CONFIG_MIRROR: annotations_of(pod)[CONFIG_HASH]},
    }
    if pod["metadata"].get("labels"):
        metadata["labels"] = pod["metadata"]["labels"]
    if node is not None:
        owner = {"apiVersion": "v1", "kind": "Node", "name": name_of(node), "uid": uid_of(node), "controller": True}
        metadata["ownerReferences"] = [owner]
    mirror["metadata"] = metadata
    return mirror


class Mirrors:
    """Keeps one mirror pod for every static pod, and none besides."""

    def __init__(self, client: Client, mirrors: Callable[[], Iterable[Obj]], node: Callable[[], Obj | None]) -> None:
        self._client = client
        self._mirrors = mirrors
        self._node = node
        self._lock = asyncio.Lock()

    async def reconcile(self, static: dict[str, Obj]) -> None:
        """Create what is missing, delete what belongs to no static pod or to another version of one."""
        async with self._lock:
            wanted = {(namespace_of(pod), name_of(pod)): pod for pod in static.values()}
            present = set()
            for mirror in list(self._mirrors()):
                key = (namespace_of(mirror), name_of(mirror))
                pod = wanted.get(key)
                fits = pod is not None and annotations_of(mirror).get(CONFIG_MIRROR) == annotations_of(pod)[CONFIG_HASH]
                if fits and not is_deleting(mirror):
                    present.add(key)
                else:
                    await self._delete(mirror)
            for key, pod in wanted.items():
                if key not in present:
                    await self._create(pod)

    async def _delete(self, mirror: Obj) -> None:
        try:
            await self._client.delete(
                PODS, name_of(mirror), namespace_of(mirror), grace_period_seconds=0, uid=uid_of(mirror)
            )
        except ApiError as error:
            if not (error.is_not_found or error.is_conflict):
                _log.warning("cannot delete mirror pod", pod=name_of(mirror), error=error.message)

    async def _create(self, pod: Obj) -> None:
        try:
            await self._client.create(PODS, mirror_of(pod, self._node()))
        except ApiError as error:
            if not error.is_already_exists:
                _log.warning("cannot create mirror pod", pod=name_of(pod), error=error.message)
