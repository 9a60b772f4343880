"""The scheduler's shell: informers in, bindings out; every decision between them is made without waiting.

Decisions are made one after the other in short slices of the event loop; bindings run in the background, many at a
time, while the pods are assumed where they shall go. Behaviour, events and conditions follow kube-scheduler
(https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import structlog

from pinnace.apis.resources import NAMESPACES, NODES, POD_DISRUPTION_BUDGETS, PODS
from pinnace.client.client import Client
from pinnace.client.events import EventRecorder
from pinnace.client.informer import InformerFactory
from pinnace.client.store import ObjectStore
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, format_time, get_in, key_of, utc_now
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.diagnosis import failure_message
from pinnace.scheduler.evaluation import Evaluator
from pinnace.scheduler.framework import Profile, Rejection
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.nominations import Nominations
from pinnace.scheduler.plugins import default_profile
from pinnace.scheduler.pod import DEFAULT_SCHEDULER, PodInfo, is_finished
from pinnace.scheduler.queue import Happening, QueuedPod, SchedulingQueue

SLICE_SECONDS = 0.004  # decisions made before others in the event loop have their turn
BINDINGS = 128  # under way at a time; above it decisions wait
OLD_SECONDS = 30.0  # between looks for pods set aside too long ago

_log = structlog.get_logger()


ProfileMaker = Callable[[Handle], Profile]


@dataclass(frozen=True, slots=True)
class Framework:
    """One profile at work."""

    profile: Profile
    evaluator: Evaluator
    recorder: EventRecorder


class Refused(Exception):
    """A plugin refused a node after it was chosen."""


class Scheduler:
    """Gives nodes to the pods whose `spec.schedulerName` names a profile. `run` goes on until it is cancelled."""

    def __init__(
        self,
        client: Client,
        *,
        factory: InformerFactory | None = None,
        profiles: Mapping[str, ProfileMaker] = MappingProxyType({DEFAULT_SCHEDULER: default_profile}),
    ) -> None:
        self._client = client
        self._own_factory = factory is None
        self._factory = factory or InformerFactory(client)
        self._stores = {
            resource: self._factory.informer(resource).store for resource in (PODS, NODES, POD_DISRUPTION_BUDGETS)
        }
        self._pods = self._stores[PODS]
        self._cache = Cache()
        self._nominations = Nominations(self._cache)
        self._frameworks = {name: self._framework(name, make) for name, make in profiles.items()}
        sorter = next(iter(self._frameworks.values())).profile.queue_sort
        self._queue = SchedulingQueue(sorter.sort_key, self._gate)
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._binding = 0  # bindings under way
        self._alarm: asyncio.TimerHandle | None = None  # rings when a back-off ends

    def _framework(self, name: str, make: ProfileMaker) -> Framework:
        recorder = EventRecorder(self._client, name)
        handle = Handle(
            client=self._client,
            cache=self._cache,
            nominations=self._nominations,
            objects=self._objects,
            recorder=recorder,
            begin=self._keep,
            activate=self._activate,
        )
        profile = make(handle)
        handle.evaluator = Evaluator(profile, self._cache)
        return Framework(profile, handle.evaluator, recorder)

    def _objects(self, resource: GVR) -> ObjectStore:
        return self._stores[resource]

    def _activate(self, key: str) -> None:
        self._queue.activate(key)
        self._wake.set()

    async def run(self) -> None:
        """Schedule until cancelled; then nothing is left running."""
        pods = self._factory.informer(PODS)
        nodes = self._factory.informer(NODES)
        namespaces = self._factory.informer(NAMESPACES)
        namespaces.add_handler(self._namespace_seen, lambda _, new: self._namespace_seen(new), self._namespace_gone)
        nodes.add_handler(self._node_seen, lambda _, new: self._node_seen(new), self._node_gone)
        pods.add_handler(self._pod_seen, self._pod_changed, self._pod_gone)
        if self._own_factory:
            self._factory.start()
        try:
            for resource in (NAMESPACES, *self._stores):
                await self._factory.informer(resource).wait_synced()
            _log.info(
                "scheduler runs", names=list(self._frameworks), nodes=len(self._cache.nodes), waiting=len(self._queue)
            )
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
        for framework in self._frameworks.values():
            framework.recorder.cancel()
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
        for plugin in self._frameworks[pod.scheduler_name].profile.pre_enqueue:
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
            self._nominations.withdraw(key)
            if self._cache.add_pod(PodInfo.of(obj)):
                self._happened(Happening.POD_PLACED)
        elif spec.get("schedulerName", DEFAULT_SCHEDULER) not in self._frameworks or obj["metadata"].get(
            "deletionTimestamp"
        ):
            self._queue.remove(key)
            self._nominations.withdraw(key)
        elif not self._cache.is_assumed(key):
            pod = PodInfo.of(obj)
            if pod.nominated_node:
                self._nominations.nominate(pod, pod.nominated_node)
            self._queue.put(pod, time.monotonic())
            self._wake.set()

    def _pod_changed(self, old: Obj, new: Obj) -> None:
        placed = old["spec"].get("nodeName")
        same = placed and old["spec"] == new["spec"] and old["metadata"].get("labels") == new["metadata"].get("labels")
        if not same or is_finished(new):
            if get_in(old, "status", "nominatedNodeName") and not get_in(new, "status", "nominatedNodeName"):
                self._nominations.withdraw(key_of(new))
            self._pod_seen(new)

    def _pod_gone(self, obj: Obj) -> None:
        key = key_of(obj)
        self._queue.remove(key)
        self._nominations.withdraw(key)
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
        framework = self._frameworks[pod.scheduler_name]
        for plugin in framework.profile.pre_filter:
            rejection = plugin.pre_filter(pod, self._cache)
            if rejection is not None:
                self._unschedulable(queued, dict.fromkeys(self._cache.nodes, (plugin.name, rejection)))
                return
        node = self._choose(framework.evaluator, pod)
        if node is None:
            self._unschedulable(queued, framework.evaluator.explain(pod.shape))
            return
        self._nominations.withdraw(pod.key)
        self._cache.assume(pod, node.name)
        for index, reserver in enumerate(framework.profile.reserve):
            refusal = reserver.reserve(pod, node)
            if refusal is not None:
                for earlier in framework.profile.reserve[: index + 1]:
                    earlier.unreserve(pod, node)
                self._cache.forget(pod.key)
                self._fail(queued, refusal, frozenset(), None)
                return
        self._binding += 1
        self._keep(self._bind(queued, node))

    def _choose(self, evaluator: Evaluator, pod: PodInfo) -> NodeInfo | None:
        """The node for a pod; where room is kept for it first of all."""
        if not self._nominations:
            return evaluator.choose(pod.shape)
        counted = self._nominations.count_for(pod)
        nominated = self._cache.nodes.get(self._nominations.node_of(pod.key))
        if nominated is not None and evaluator.asking(pod.shape)(nominated) is None:
            node: NodeInfo | None = nominated
        else:
            node = evaluator.choose(pod.shape)
        if node is None or not counted or not (pod.shape.affinity or pod.shape.spread):
            return node
        return self._choose_either_way(evaluator, pod, node)

    def _choose_either_way(self, evaluator: Evaluator, pod: PodInfo, node: NodeInfo) -> NodeInfo | None:
        """A node that is right with the nominated pods and without, for nobody knows whether they will come."""
        with_them = evaluator.explain(pod.shape)
        self._nominations.count_none()
        without = evaluator.explain(pod.shape)
        self._nominations.count_for(pod)
        if node.name not in without:
            return node
        both = (other for name, other in self._cache.nodes.items() if name not in with_them and name not in without)
        return next(both, None)

    def _unschedulable(self, queued: QueuedPod, rejected: dict[str, tuple[str, Rejection]]) -> None:
        rejections = {name: rejection for name, (_, rejection) in rejected.items()}
        said, nominated = "", None
        if rejections:
            for plugin in self._frameworks[queued.pod.scheduler_name].profile.post_filter:
                nominated, said = plugin.post_filter(queued.pod, rejections)
                if nominated:
                    break
        reasons = (rejection.reasons for rejection in rejections.values())
        message = failure_message(len(self._cache.nodes), reasons, said)
        self._fail(queued, message, frozenset(name for name, _ in rejected.values()), nominated)

    def _fail(self, queued: QueuedPod, message: str, rejected_by: frozenset[str], nominated: str | None) -> None:
        """Set the pod aside, keep room for it where it is nominated to (None: as before) and tell its owner why."""
        pod = queued.pod
        self._queue.set_aside(queued, rejected_by, time.monotonic())
        if nominated is None:
            nominated = self._nominations.node_of(pod.key)
        self._nominations.nominate(pod, nominated)
        self._frameworks[pod.scheduler_name].recorder.event_about(pod.reference, "Warning", "FailedScheduling", message)
        if pod.condition != ("False", "Unschedulable", message) or pod.nominated_node != nominated:
            self._keep(self._tell(pod, message, nominated))

    async def _tell(self, pod: PodInfo, message: str, nominated: str) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        if pod.condition is None or pod.condition[0] != "False":
            condition["lastTransitionTime"] = format_time(utc_now())
        status: Obj = {"conditions": [condition]}
        if nominated != pod.nominated_node:
            status["nominatedNodeName"] = nominated or None
        body = {"metadata": {"uid": pod.uid}, "status": status}
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
        framework = self._frameworks[pod.scheduler_name]
        profile = framework.profile
        try:
            for permitter in profile.permit:
                refusal = await permitter.permit(pod, node)
                if refusal is not None:
                    raise Refused(refusal)
            for preparer in profile.pre_bind:
                await preparer.pre_bind(pod, node)
            await profile.bind.bind(pod, node)
        except (ApiError, Refused) as error:
            self._binding_failed(queued, node, str(error))
        except Exception as error:
            _log.exception("binding failed", pod=pod.key, node=node.name)
            self._binding_failed(queued, node, str(error))
        else:
            self._queue.remove(pod.key)
            message = f"Successfully assigned {pod.key} to {node.name}"
            framework.recorder.event_about(pod.reference, "Normal", "Scheduled", message)
            for observer in profile.post_bind:
                observer.post_bind(pod, node)
        finally:
            self._binding -= 1
            self._wake.set()

    def _binding_failed(self, queued: QueuedPod, node: NodeInfo, why: str) -> None:
        pod = queued.pod
        framework = self._frameworks[pod.scheduler_name]
        for reserver in framework.profile.reserve:
            reserver.unreserve(pod, node)
        self._cache.forget(pod.key)
        self._queue.wake(Happening.POD_LEFT, time.monotonic())
        present = self._pods.get(pod.key)
        if present is None or present["spec"].get("nodeName"):
            self._queue.remove(pod.key)
            return
        self._nominations.nominate(pod, get_in(present, "status", "nominatedNodeName") or "")
        _log.info("binding was refused", pod=pod.key, node=node.name, error=why)
        framework.recorder.event_about(pod.reference, "Warning", "FailedScheduling", f"Binding rejected: {why}")
        self._queue.back_off(queued, time.monotonic())
