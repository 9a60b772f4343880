"""What nobody tells a kubelet to do: every few seconds it stops what nobody wishes for and gives back what nobody uses.

Specified by https://kubernetes.io/docs/concepts/architecture/garbage-collection/#containers-images.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from pinnace.kubelet.context import Node
from pinnace.kubelet.resources.qos_cgroups import QosCgroups
from pinnace.kubelet.runtime import gc
from pinnace.kubelet.runtime.status import PodRuntimeStatus, container_name
from pinnace.kubelet.statistics import measures
from pinnace.kubelet.sync.pod_worker import Stage
from pinnace.kubelet.sync.pod_workers import PodWorkers
from pinnace.machinery.meta import Obj

_log = structlog.get_logger()


async def keep_house(node: Node, workers: PodWorkers, qos: QosCgroups) -> None:
    """Go on until cancelled. Begin when all sources were seen: before, every container would seem to be nobody's."""
    while True:
        adopt_orphans(node, workers)
        for uid, worker in list(workers.items()):
            if worker.stage is Stage.SYNCING:
                await gc.collect_pod(node, uid)
        await gc.collect_beyond_all(node)
        await gc.collect_directories(node, {*workers, *node.cache.pods})
        node.crashes.collect()
        qos.apply(node.cgroups, workers.taken())
        node.resizing.retry()
        node.managers.keep_only(workers)
        await node.claims.keep_only(workers)
        node.devices.expire(time.monotonic())
        await asyncio.sleep(node.options.housekeeping_period)


def adopt_orphans(node: Node, workers: PodWorkers) -> None:
    """What runs without anybody wishing for it is stopped and removed like a deleted pod."""
    for uid, runtime in list(node.cache.pods.items()):
        if uid and uid not in workers:
            _log.info("stopping a pod that nobody wishes for", pod=runtime.name, namespace=runtime.namespace)
            measures.orphans.inc()
            workers.start(orphan_pod(uid, runtime)).remove()


def orphan_pod(uid: str, runtime: PodRuntimeStatus) -> Obj:
    """As much of a pod as the runtime still knows: enough to stop it."""
    names = dict.fromkeys(container_name(status) for status in runtime.containers)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": runtime.name, "namespace": runtime.namespace, "uid": uid},
        "spec": {"containers": [{"name": name} for name in names]},
    }
