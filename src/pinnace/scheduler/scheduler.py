"""The scheduler's shell: informers in, bindings out; every decision between them is made without waiting.

Decisions are made one after the other in short slices of the event loop; bindings run in the background, many at a
time, while the pods are assumed where they shall go. Behaviour, events and conditions follow kube-scheduler
(https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from pinnace.apis.resources import NAMESPACES, NODES, PODS
from pinnace.client.client import Client
from pinnace.client.events import EventRecorder
from pinnace.client.informer import InformerFactory
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, key_of, utc_now
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.diagnosis import failure_message
from pinnace.scheduler.evaluation import Evaluator
from pinnace.scheduler.framework import Profile, Rejection
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.plugins import default_profile
from pinnace.scheduler.pod import PodInfo, is_finished
from pinnace.scheduler.queue import Happening, QueuedPod, SchedulingQueue

DEFAULT_SCHEDULER = "default-scheduler"
SLICE_SECONDS = 0.004  # decisions made before others in the event loop have their turn
BINDINGS = 128  # under way at a time; above it decisions wait
OLD_SECONDS = 30.0  # between looks for pods set aside too long ago

_log = structlog.get_logger()


@dataclass(slots=True)
class ApiBinder:
    """Binds by `POST pods/{name}/binding`."""

    client: Client
    name: str = "DefaultBinder"

    async def bind(self, pod: PodInfo, node: NodeInfo) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node.name},
        }
        await self.client.create(PODS, binding, pod.namespace, name=pod.name, subresource="binding")


class Refused(Exception):
    """A plugin refused a node after it was chosen."""


class Scheduler:
    """Gives nodes to the pods whose `spec.schedulerName` is `name`. `run` goes on until it is cancelled."""

    def __init__(
        self,
        client: Client,
        *,
        name: str = DEFAULT_SCHEDULER,
        factory: InformerFactory | None = None,
        profile: Profile | None = None,
    ) -> None:
        self._client = client
        self._name = name
        self._own_factory = factory is None
        self._factory = factory or InformerFactory(client)
        self._profile = profile or default_profile(ApiBinder(client))
        self._cache = Cache()
        self._queue = SchedulingQueue(self._profile.queue_sort.sort_key, self._gate)
        self._evaluator = Evaluator(self._profile, self._cache)
        self._recorder = EventRecorder(client, name)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._binding = 0  # bindings under way
        self._alarm: asyncio.TimerHandle | None = None  # rings when a back-off ends

    async def run(self) -> None:
        """Schedule until cancelled; then nothing is left running."""
        pods = self._factory.informer(PODS)
        nodes = self._factory.informer(NODES)
        namespaces = self._factory.informer(NAMESPACES)
        namespaces.add_handler(self._namespace_seen, lambda _, new: self._namespace_seen(new), self._namespace_gone)
        nodes.add_handler(self._node_seen, lambda _, new: self._node_seen(new), self._node_gone)
        pods.add_handler(self._pod_seen, self._pod_changed, self._pod_gone)
        self._pods = pods.store
        if self._own_factory:
            self._factory.start()
        try:
            for informer in (namespaces, nodes, pods):
                await informer.wait_synced()
            _log.info("scheduler runs", name=self._name, nodes=len(self._cache.nodes), waiting=len(self._queue))
            self._keep(self._bring_back_old())
            while True:
                await self._wake.wait()
                self._wake.clear()
                self._schedule_for(SLICE_SECONDS)
                await asyncio.sleep(0)
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._recorder.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._own_factory:
            await self._factory.stop()

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _bring_back_old(self) -> None:
        while True:
            await asyncio.sleep(OLD_SECONDS)
            self._queue.wake_old(time.monotonic())
            self._wake.set()

    # What the API server shows.

    def _gate(self, pod: PodInfo) -> str | None:
        for plugin in self._profile.pre_enqueue:
            reason = plugin.pre_enqueue(pod)
            if reason is not None:
                return reason
        return None

    def _happened(self, happening: Happening) -> None:
        self._queue.wake(happening, time.monotonic())
        self._wake.set()

    def _namespace_seen(self, obj: Obj) -> None:
        if self._cache.set_namespace(obj["metadata"]["name"], obj["metadata"].get("labels") or {}):
            self._happened(Happening.POD_PLACED)

    def _namespace_gone(self, obj: Obj) -> None:
        self._cache.set_namespace(obj["metadata"]["name"], None)

    def _node_seen(self, obj: Obj) -> None:
        new = obj["metadata"]["name"] not in self._cache.nodes
        if self._cache.set_node(obj):
            self._happened(Happening.NODE_ADDED if new else Happening.NODE_CHANGED)

    def _node_gone(self, obj: Obj) -> None:
        self._cache.remove_node(obj["metadata"]["name"])
        self._happened(Happening.NODE_CHANGED)  # a domain may have gone with it, and skew with the domain

    def _pod_seen(self, obj: Obj) -> None:
        spec = obj["spec"]
        key = key_of(obj)
        if is_finished(obj):
            self._pod_gone(obj)
        elif spec.get("nodeName"):
            self._queue.remove(key)
            if self._cache.add_pod(PodInfo.of(obj)):
                self._happened(Happening.POD_PLACED)
        elif spec.get("schedulerName", DEFAULT_SCHEDULER) != self._name or obj["metadata"].get("deletionTimestamp"):
            self._queue.remove(key)
        elif not self._cache.is_assumed(key):
            self._queue.put(PodInfo.of(obj), time.monotonic())
            self._wake.set()

    def _pod_changed(self, old: Obj, new: Obj) -> None:
        placed = old["spec"].get("nodeName")
        same = placed and old["spec"] == new["spec"] and old["metadata"].get("labels") == new["metadata"].get("labels")
        if not same or is_finished(new):
            self._pod_seen(new)

    def _pod_gone(self, obj: Obj) -> None:
        key = key_of(obj)
        self._queue.remove(key)
        if self._cache.remove_pod(key):
            self._happened(Happening.POD_LEFT)

    # Deciding.

    def _schedule_for(self, seconds: float) -> None:
        """Decide for the pods that wait, for about so long; asks to be called again while there is more to do."""
        end = time.monotonic() + seconds
        while self._binding < BINDINGS:
            now = time.monotonic()
            if now >= end:
                self._wake.set()
                return
            queued = self._queue.pop(now)
            if queued is None:
                self._set_alarm(now)
                return
            try:
                self._schedule(queued)
            except Exception:
                _log.exception("scheduling failed", pod=queued.pod.key)
                self._queue.back_off(queued, time.monotonic())

    def _set_alarm(self, now: float) -> None:
        due = self._queue.next_due()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if due is not None:
            self._alarm = asyncio.get_running_loop().call_later(max(due - now, 0), self._wake.set)

    def _schedule(self, queued: QueuedPod) -> None:
        pod = queued.pod
        for plugin in self._profile.pre_filter:
            rejection = plugin.pre_filter(pod, self._cache)
            if rejection is not None:
                self._unschedulable(queued, dict.fromkeys(self._cache.nodes, (plugin.name, rejection)))
                return
        node = self._evaluator.choose(pod.shape)
        if node is None:
            self._unschedulable(queued, self._evaluator.explain(pod.shape))
            return
        self._cache.assume(pod, node.name)
        for index, reserver in enumerate(self._profile.reserve):
            refusal = reserver.reserve(pod, node)
            if refusal is not None:
                for earlier in self._profile.reserve[: index + 1]:
                    earlier.unreserve(pod, node)
                self._cache.forget(pod.key)
                self._fail(queued, refusal, frozenset())
                return
        self._binding += 1
        self._keep(self._bind(queued, node))

    def _unschedulable(self, queued: QueuedPod, rejected: dict[str, tuple[str, Rejection]]) -> None:
        rejections = {name: rejection for name, (_, rejection) in rejected.items()}
        said = ""
        if rejections:
            for plugin in self._profile.post_filter:
                said = plugin.post_filter(queued.pod, rejections, self._cache).message
        reasons = (rejection.reasons for rejection in rejections.values())
        message = failure_message(len(self._cache.nodes), reasons, said)
        self._fail(queued, message, frozenset(name for name, _ in rejected.values()))

    def _fail(self, queued: QueuedPod, message: str, rejected_by: frozenset[str]) -> None:
        """Set the pod aside and tell its owner why."""
        self._queue.set_aside(queued, rejected_by, time.monotonic())
        self._recorder.event_about(queued.pod.reference, "Warning", "FailedScheduling", message)
        if queued.pod.condition != ("False", "Unschedulable", message):
            self._keep(self._tell(queued.pod, message))

    async def _tell(self, pod: PodInfo, message: str) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        if pod.condition is None or pod.condition[0] != "False":
            condition["lastTransitionTime"] = format_time(utc_now())
        body = {"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(
                PODS, pod.name, body, pod.namespace, content_type=STRATEGIC_MERGE_PATCH, subresource="status"
            )
        except ApiError as error:
            _log.debug("condition was not written", pod=pod.key, error=error.message)

    # Binding.

    async def _bind(self, queued: QueuedPod, node: NodeInfo) -> None:
        """Bind an assumed pod; when that fails it is assumed no longer and tried again."""
        pod = queued.pod
        try:
            for permitter in self._profile.permit:
                refusal = await permitter.permit(pod, node)
                if refusal is not None:
                    raise Refused(refusal)
            for preparer in self._profile.pre_bind:
                await preparer.pre_bind(pod, node)
            await self._profile.bind.bind(pod, node)
        except (ApiError, Refused) as error:
            self._binding_failed(queued, node, str(error))
        except Exception as error:
            _log.exception("binding failed", pod=pod.key, node=node.name)
            self._binding_failed(queued, node, str(error))
        else:
            self._queue.remove(pod.key)
            message = f"Successfully assigned {pod.key} to {node.name}"
            self._recorder.event_about(pod.reference, "Normal", "Scheduled", message)
            for observer in self._profile.post_bind:
                observer.post_bind(pod, node)
        finally:
            self._binding -= 1
            self._wake.set()

    def _binding_failed(self, queued: QueuedPod, node: NodeInfo, why: str) -> None:
        pod = queued.pod
        for reserver in self._profile.reserve:
            reserver.unreserve(pod, node)
        self._cache.forget(pod.key)
        self._queue.wake(Happening.POD_LEFT, time.monotonic())
        present = self._pods.get(pod.key)
        if present is None or present["spec"].get("nodeName"):
            self._queue.remove(pod.key)
            return
        _log.info("binding was refused", pod=pod.key, node=node.name, error=why)
        self._recorder.event_about(pod.reference, "Warning", "FailedScheduling", f"Binding rejected: {why}")
        self._queue.back_off(queued, time.monotonic())
