"""The scheduler's shell: informers in, bindings out; every decision between them is made without waiting.

Decisions are made one after the other in short slices of the event loop; bindings run in the background, many at a
time, while the pods are assumed where they shall go. Behaviour, events and conditions follow kube-scheduler
(https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from typing import Any

import structlog

from pinnace.apis.resources import NODES, PODS
from pinnace.client.client import Client
from pinnace.client.events import EventRecorder
from pinnace.client.informer import InformerFactory
from pinnace.machinery.errors import ApiError
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import Obj, get_in
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.configuration import Configuration
from pinnace.scheduler.diagnosis import failure_message
from pinnace.scheduler.evaluation import Evaluator
from pinnace.scheduler.events import Action
from pinnace.scheduler.extender import Extender, ExtenderFailed, filter_all, scores_of_all
from pinnace.scheduler.framework import BindingFailed, Profile, Rejection
from pinnace.scheduler.frameworks import Frameworks
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.metrics import ERROR, Metrics
from pinnace.scheduler.metrics import UNSCHEDULABLE as WITHOUT_NODE
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.nominations import Nominations
from pinnace.scheduler.pod import PodInfo
from pinnace.scheduler.profiles import IN_TREE, PluginMaker, profile_makers
from pinnace.scheduler.queue import LONGEST_ASIDE, QueuedPod, SchedulingQueue
from pinnace.scheduler.reports import SCHEDULER_ERROR, UNSCHEDULABLE, shortened, status_change, write_status
from pinnace.scheduler.watching import Watching
from pinnace.wire.tasks import end_tasks

SLICE_SECONDS = 0.004  # decisions made before others in the event loop have their turn
BINDINGS = 128  # under way at a time; above it decisions wait
OLD_SECONDS = 30.0  # between looks for pods set aside too long ago

_DEFAULTS = Configuration()

_log = structlog.get_logger()


class Refused(Exception):
    """A plugin refused a node after it was chosen."""


class Scheduler:
    """Gives nodes to the pods whose `spec.schedulerName` names a profile. `run` goes on until it is cancelled.

    Plugins that are not Kubernetes' own come with `registry`; without `features` every feature is on. Raises
    ConfigurationError for profiles that cannot be.
    """

    def __init__(
        self,
        client: Client,
        *,
        factory: InformerFactory | None = None,
        configuration: Configuration = _DEFAULTS,
        features: FeatureGates | None = None,
        registry: Mapping[str, PluginMaker] = IN_TREE,
        longest_aside_seconds: float = LONGEST_ASIDE,
    ) -> None:
        self._client = client
        self._own_factory = factory is None
        self._factory = factory or InformerFactory(client)
        self._extenders = [Extender(settings) for settings in configuration.extenders]
        self._tells_expectation = features is None or features.enabled("NominatedNodeNameForExpectation")
        self._expected: set[str] = set()  # keys of pods whose status says where they are going
        self._extending = asyncio.Lock()  # one pod at a time is taken to the extenders
        self._cache = Cache()
        self._nominations = Nominations(self._cache)
        self.metrics = Metrics(lambda: self._queue.counts(), self._cache.sizes, lambda: self._queue.rejections())
        self._frameworks = Frameworks(profile_makers(configuration, registry, features), self._handle)
        self._queue = SchedulingQueue(
            self._frameworks.sort_key,
            self._frameworks.gate,
            self._frameworks.helps,
            (configuration.initial_backoff_seconds, configuration.max_backoff_seconds),
            longest_aside_seconds,
        )
        self._watching = Watching(
            self._factory, self._cache, self._nominations, self._queue, self._frameworks, self._changed
        )
        self._wake = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []  # for the next change
        self._tasks: set[asyncio.Task[None]] = set()
        self._binding = 0  # bindings under way that wait for nothing but the API server
        self._alarm: asyncio.TimerHandle | None = None  # rings when a back-off ends

    def _handle(self, name: str) -> Handle:
        return Handle(
            client=self._client,
            cache=self._cache,
            nominations=self._nominations,
            objects=lambda resource: self._watching.objects(resource),
            recorder=EventRecorder(self._client, name),
            begin=self._keep,
            activate=self._activate,
            metrics=self.metrics,
            extenders=self._extenders,
            until=self._until,
        )

    def _activate(self, key: str) -> None:
        self._queue.activate(key)
        self._wake.set()

    def _changed(self) -> None:
        self._wake.set()
        if self._waiting:
            for future in self._waiting:
                if not future.done():
                    future.set_result(None)
            self._waiting.clear()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    async def run(self) -> None:
        """Schedule until cancelled; then nothing is left running."""
        self._watching.begin()
        if self._own_factory:
            self._factory.start()
        try:
            await self._watching.wait_synced()
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
        self._frameworks.silence()
        await end_tasks(self._tasks)
        for extender in self._extenders:
            await extender.close()
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
        framework = self._frameworks.of(pod)
        for plugin in framework.profile.pre_filter:
            rejection = plugin.pre_filter(pod, self._cache)
            if rejection is not None:
                everywhere = dict.fromkeys(self._cache.nodes, rejection)
                self._unschedulable(queued, everywhere, frozenset((plugin.name,)), rejection.reasons)
                return
        if self._extenders and (concerned := self._concerned(pod)):
            self._queue.watch_over(queued)
            self._keep(self._schedule_with(concerned, queued))
            return
        node = self._choose(framework.evaluator, pod)
        self.metrics.algorithm_seconds.observe(time.monotonic() - queued.began)
        if node is None:
            self._explain(queued, {})
        else:
            self._place(queued, node)

    def _place(self, queued: QueuedPod, node: NodeInfo) -> None:
        """The pod goes to the node, as far as reserving and binding let it."""
        pod = queued.pod
        framework = self._frameworks.of(pod)
        self._nominations.withdraw(pod.key)
        self._cache.assume(pod, node.name)
        for index, reserver in enumerate(framework.profile.reserve):
            refusal = reserver.reserve(pod, node)
            if refusal is not None:
                for earlier in framework.profile.reserve[: index + 1]:
                    earlier.unreserve(pod, node)
                self._cache.forget(pod.key)
                self._set_aside(queued, refusal, frozenset((reserver.name,)), None)
                return
        # Who waits for volumes, devices or a permit may wait long, and is no reason for the rest to.
        counts = not (pod.shape.claims or pod.shape.resource_claims or framework.profile.permit)
        self._binding += counts
        self._keep(self._bind(queued, node, counts))

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

    def _explain(self, queued: QueuedPod, by_extenders: dict[str, Rejection]) -> None:
        """No node will do; `by_extenders` are those that plugins would have let pass."""
        rejected = self._frameworks.of(queued.pod).evaluator.explain(queued.pod.shape)
        rejections = {name: rejection for name, (_, rejection) in rejected.items()} | by_extenders
        names = {name for name, _ in rejected.values()} | ({"extenders"} if by_extenders else set())
        self._unschedulable(queued, rejections, frozenset(names))

    # Deciding with extenders.

    def _concerned(self, pod: PodInfo) -> list[Extender]:
        """The extenders that are to be asked about a pod before it has a node."""
        obj = self._watching.objects(PODS).get(pod.key)
        return [
            extender
            for extender in self._extenders
            if obj is not None
            and (extender.has("filter") or extender.has("prioritize"))
            and extender.is_interested(obj)
        ]

    async def _schedule_with(self, extenders: list[Extender], queued: QueuedPod) -> None:
        pod = queued.pod
        async with self._extending:
            obj = self._watching.objects(PODS).get(pod.key)
            if obj is None:
                return
            try:
                node, rejected = await self._choose_with(extenders, pod, obj)
            except ExtenderFailed as error:
                self._report(pod, SCHEDULER_ERROR, str(error), self._nominations.node_of(pod.key))
                self._queue.back_off(queued, time.monotonic())
                self._wake.set()
                return
            if pod.key not in self._queue:  # it went meanwhile
                return
            if node is not None:
                self._place(queued, node)
            elif rejected or not self._frameworks.of(pod).evaluator.scores(pod.shape):
                self._explain(queued, rejected)
            else:  # the nodes that were left changed meanwhile
                self._queue.back_off(queued, time.monotonic())
                self._wake.set()

    async def _choose_with(
        self, extenders: list[Extender], pod: PodInfo, obj: Obj
    ) -> tuple[NodeInfo | None, dict[str, Rejection]]:
        """The best node of those that are left; the cluster may have changed while the extenders were asked."""
        evaluator = self._frameworks.of(pod).evaluator
        self._nominations.count_for(pod)
        scores = evaluator.scores(pod.shape)
        objects = self._watching.objects(NODES)
        nodes = {name: found for name in scores if (found := objects.get(name)) is not None}
        left, rejected = await filter_all(extenders, obj, nodes)
        more = await scores_of_all(extenders, obj, left)
        self._nominations.count_for(pod)
        fits = evaluator.asking(pod.shape)
        for name in sorted(left, key=lambda name: -(scores[name] + more.get(name, 0))):
            node = self._cache.nodes.get(name)
            if node is not None and fits(node) is None:
                return node, {}
        return None, rejected

    def _unschedulable(
        self,
        queued: QueuedPod,
        rejections: dict[str, Rejection],
        rejected_by: frozenset[str],
        everywhere: tuple[str, ...] = (),
    ) -> None:
        """No node: try to make room on one, and say why not; `everywhere` are reasons that no node is the cause of."""
        said, nominated = "", None
        if rejections:
            said, nominated = self._post_filter(queued.pod, rejections)
        reasons = [everywhere] if everywhere else [rejection.reasons for rejection in rejections.values()]
        message = failure_message(len(self._cache.nodes), reasons, said, counted=not everywhere)
        self._set_aside(queued, message, rejected_by, nominated)

    def _post_filter(self, pod: PodInfo, rejections: dict[str, Rejection]) -> tuple[str, str | None]:
        """What the plugins say that could make room, and the node where one of them does."""
        said = []
        nominated = None
        for plugin in self._frameworks.of(pod).profile.post_filter:
            nominated, message = plugin.post_filter(pod, rejections)
            if nominated:
                return message, nominated
            said.append(message)
        return ", ".join(filter(None, said)), nominated

    def _set_aside(self, queued: QueuedPod, message: str, rejected_by: frozenset[str], nominated: str | None) -> None:
        """Let the pod wait; keep room for it where it is nominated to (None: as before)."""
        pod = queued.pod
        now = time.monotonic()
        self.metrics.failed(pod.scheduler_name, WITHOUT_NODE, now - queued.began)
        self._queue.set_aside(queued, rejected_by, now)
        if nominated is None:
            nominated = self._nominations.node_of(pod.key)
        self._nominations.nominate(pod, nominated)
        self._report(pod, UNSCHEDULABLE, message, nominated)

    def _report(self, pod: PodInfo, reason: str, message: str, nominated: str) -> None:
        recorder = self._frameworks.of(pod).recorder
        recorder.event_about(pod.reference, "Warning", "FailedScheduling", shortened(message))
        status = status_change(pod, reason, message, nominated)
        if status:
            self._keep(write_status(self._client, pod, status))

    # Binding.

    async def _bind(self, queued: QueuedPod, node: NodeInfo, counts: bool) -> None:
        """Bind an assumed pod; when that fails it is assumed no longer and tried again."""
        pod = queued.pod
        framework = self._frameworks.of(pod)
        profile = framework.profile
        point, plugin = "Permit", ""  # where an error comes from
        try:
            for permitter in profile.permit:
                plugin = permitter.name
                refusal = await permitter.permit(pod, node)
                if refusal is not None:
                    raise Refused(refusal)
            await self._tell_expectation(pod, node, profile)
            for preparer in profile.pre_bind:
                point, plugin = "PreBind", preparer.name
                await preparer.pre_bind(pod, node)
            point, plugin = "Bind", profile.bind.name
            if not (self._extenders and await self._bind_elsewhere(pod, node)):
                await profile.bind.bind(pod, node)
        except Refused as error:
            self._binding_failed(queued, node, UNSCHEDULABLE, str(error))
        except (ApiError, BindingFailed) as error:
            self._binding_failed(queued, node, SCHEDULER_ERROR, f'running {point} plugin "{plugin}": {error}')
        except Exception as error:
            _log.exception("binding failed", pod=pod.key, node=node.name)
            self._binding_failed(queued, node, SCHEDULER_ERROR, str(error))
        else:
            now = time.monotonic()
            self.metrics.scheduled(pod.scheduler_name, now - queued.began, now - queued.queued, queued.attempts)
            self._queue.remove(pod.key)
            message = f"Successfully assigned {pod.key} to {node.name}"
            framework.recorder.event_about(pod.reference, "Normal", "Scheduled", message)
            for observer in profile.post_bind:
                observer.post_bind(pod, node)
        finally:
            self._binding -= counts
            self._expected.discard(pod.key)
            self._wake.set()

    async def _tell_expectation(self, pod: PodInfo, node: NodeInfo, profile: Profile) -> None:
        """Say in the pod's status where it is going, if its volumes or devices take time to get ready."""
        if self._tells_expectation and pod.nominated_node != node.name and _needs_preparing(pod, profile):
            self._expected.add(pod.key)
            await write_status(self._client, pod, {"nominatedNodeName": node.name})

    async def _bind_elsewhere(self, pod: PodInfo, node: NodeInfo) -> bool:
        """Whether an extender binds pods like this one, and has bound it."""
        obj = self._watching.objects(PODS).get(pod.key)
        for extender in self._extenders:
            if obj is not None and extender.has("bind") and extender.is_interested(obj):
                await extender.bind(obj, node.name)
                return True
        return False

    def _binding_failed(self, queued: QueuedPod, node: NodeInfo, reason: str, why: str) -> None:
        pod = queued.pod
        framework = self._frameworks.of(pod)
        for reserver in framework.profile.reserve:
            reserver.unreserve(pod, node)
        self._cache.forget(pod.key)
        self._watching.happened("Pod", Action.DELETE, pod)
        present = self._watching.objects(PODS).get(pod.key)
        if present is None or present["spec"].get("nodeName"):
            self._queue.remove(pod.key)
            return
        self.metrics.failed(pod.scheduler_name, ERROR, time.monotonic() - queued.began)
        nominated = get_in(present, "status", "nominatedNodeName") or ""
        if pod.key in self._expected:
            nominated, pod = "", replace(pod, nominated_node=node.name)  # nobody made room for it there
        self._nominations.nominate(pod, nominated)
        _log.info("binding failed", pod=pod.key, node=node.name, error=why)
        self._report(pod, reason, why, nominated)
        self._queue.back_off(queued, time.monotonic())


def _needs_preparing(pod: PodInfo, profile: Profile) -> bool:
    """Whether a plugin has work to do for the pod before it can be bound; one that does not say has."""
    for plugin in profile.pre_bind:
        prepares = getattr(plugin, "prepares", None)
        if prepares is None or prepares(pod):
            return True
    return False
