"""The workers of all pods of a node, by UID: one for each pod that is wished for, until nothing of it is left.

Sources say here what they wish for; the runtime, probes and caches say here whose pod changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

from pinnace.kubelet.context import Node
from pinnace.kubelet.pods import is_static
from pinnace.kubelet.sync.pod_worker import Admit, PodWorker, Stage
from pinnace.machinery.meta import Obj, get_in, key_of, uid_of
from pinnace.wire.tasks import end_tasks


def wish(pod: Obj) -> tuple[object, ...]:
    """What of a pod a worker acts upon; its status is the kubelet's own, but for conditions of others."""
    metadata = pod["metadata"]
    others = tuple(
        (one["type"], one.get("status"))
        for one in get_in(pod, "status", "conditions", default=[])
        if one["type"] in {gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()}
    )
    return (
        pod["spec"],
        metadata.get("labels"),
        metadata.get("annotations"),
        metadata.get("generation"),
        metadata.get("deletionTimestamp"),
        metadata.get("deletionGracePeriodSeconds"),
        others,
    )


class PodWorkers(Mapping[str, PodWorker]):
    """One node's; `admit` says why the node does not take a pod."""

    def __init__(self, node: Node, admit: Admit) -> None:
        self._node = node
        self._admit = admit
        self._workers: dict[str, PodWorker] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._listeners: dict[str, set[Callable[[], None]]] = {}  # pod UID -> who wants to know of changes

    def __getitem__(self, uid: str) -> PodWorker:
        return self._workers[uid]

    def __iter__(self) -> Iterator[str]:
        return iter(self._workers)

    def __len__(self) -> int:
        return len(self._workers)

    # What sources wish.

    def want(self, pod: Obj) -> None:
        """The pod shall run here, as it is asked for now."""
        worker = self._workers.get(uid_of(pod))
        if worker is None:
            self.start(pod)
        elif worker.stage is not Stage.FINISHED and wish(worker.asked) != wish(pod):
            worker.update(pod)
        elif not is_static(pod):
            worker.note(pod)
            self._node.statuses.retry(pod)

    def unwant(self, uid: str) -> None:
        """Nobody wishes for the pod any more."""
        worker = self._workers.get(uid)
        if worker is not None:
            worker.remove()

    def start(self, pod: Obj) -> PodWorker:
        """A worker for a pod that has none."""
        uid = uid_of(pod)
        self._node.objects.register(pod)
        worker = self._workers[uid] = PodWorker(self._node, pod, self._admit)
        task = self._tasks[uid] = asyncio.create_task(worker.run(), name=f"pod {key_of(pod)}")
        task.add_done_callback(lambda _: self._finished(uid))
        return worker

    def _finished(self, uid: str) -> None:
        node = self._node
        self._workers.pop(uid, None)
        self._tasks.pop(uid, None)
        node.objects.unregister(uid)
        node.certificates.forget(uid)
        node.resizing.forget(uid)
        node.users.forget(uid)
        node.resizing.retry()

    async def close(self) -> None:
        """End all workers; containers go on without them."""
        await end_tasks(self._tasks.values())

    # Which pods are here.

    def taken(self, but: str = "") -> list[Obj]:
        """The pods that the node has taken and that have not ended, `but` the one with this UID."""
        return [
            one.pod
            for one in self._workers.values()
            if one.uid != but
            and one.stage in (Stage.SYNCING, Stage.TERMINATING)
            and (one.admitted or self._node.resizing.is_granted(one.uid))
        ]

    def running(self) -> list[Obj]:
        """The pods that the node has taken and that are not to end."""
        return [one.pod for one in self._workers.values() if one.admitted and one.stage is Stage.SYNCING]

    # What changed.

    def poke(self, uid: str) -> None:
        """Something of the pod may have changed: have its worker look, and tell who listens."""
        for callback in list(self._listeners.get(uid, ())):
            callback()
        worker = self._workers.get(uid)
        if worker is not None:
            worker.poke()

    def refresh(self, uid: str) -> None:
        """An object that the pod mounts is another now."""
        worker = self._workers.get(uid)
        if worker is not None:
            worker.refresh()

    def listen(self, uid: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back on every change that is told of a pod; returns what ends that."""
        self._listeners.setdefault(uid, set()).add(callback)

        def unlisten() -> None:
            callbacks = self._listeners.get(uid, set())
            callbacks.discard(callback)
            if not callbacks:
                self._listeners.pop(uid, None)

        return unlisten
