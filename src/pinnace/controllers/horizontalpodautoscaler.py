"""Sets the replicas of a workload by what its pods use, or by other metrics, as a HorizontalPodAutoscaler asks.

What each metric calls for is found out in `hpa_proposals.py`, how fast it may be followed in `hpa_limits.py`. Each
autoscaler is looked at once in a sync period. Specified by
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pinnace.apis.resources import HORIZONTAL_POD_AUTOSCALERS, PODS
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.client.store import by_namespace
from pinnace.controllers.conditions import find
from pinnace.controllers.hpa_limits import Bounds, History, decide, windows
from pinnace.controllers.hpa_metrics import Metrics
from pinnace.controllers.hpa_proposals import MetricFailed, Proposal, Proposer, Target
from pinnace.controllers.hpa_replicas import MetricError, Settings, tolerance_of
from pinnace.controllers.served import Resource, ServedResources
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    format_time,
    get_in,
    key_of,
    labels_of,
    namespace_of,
    parse_api_version,
    replace_in,
    utc_now,
)
from pinnace.machinery.selectors import LabelSelector, SelectorError, parse_labels


class Unable(Exception):
    """No number of replicas could be found; the message is what the event FailedComputeMetricsReplicas says."""


@dataclass(slots=True)
class Round:
    """One look at an autoscaler: what it is about, and the status that comes of it."""

    autoscaler: Obj
    now: datetime
    conditions: list[Obj] = field(default_factory=list)
    metrics: list[Obj] | None = None

    def say(self, kind: str, status: bool, reason: str, message: str) -> None:
        """Set a condition; its message is always the newest."""
        word = "True" if status else "False"
        old = find(self.conditions, kind)
        kept = old is not None and old.get("status") == word
        since = old["lastTransitionTime"] if old is not None and kept else format_time(self.now)
        fresh = {"type": kind, "status": word, "lastTransitionTime": since, "reason": reason, "message": message}
        if old is None:
            self.conditions.append(fresh)
        else:
            self.conditions = [fresh if one is old else one for one in self.conditions]


def minimum_of(autoscaler: Obj) -> int:
    value = get_in(autoscaler, "spec", "minReplicas")
    return 1 if value is None else int(value)


def out_of_bounds(current: int, autoscaler: Obj) -> tuple[int, str] | None:
    """Where to go, and why, when there are more or fewer replicas than there may be, whatever the metrics say."""
    most = autoscaler["spec"]["maxReplicas"]
    if current > most:
        return most, "Current number of replicas above Spec.MaxReplicas"
    if current < minimum_of(autoscaler):
        return minimum_of(autoscaler), "Current number of replicas below Spec.MinReplicas"
    return None


def best_of(proposals: Sequence[Proposal], failures: Sequence[MetricFailed], current: int) -> Proposal:
    """The highest proposal. With a metric that failed none counts that would take replicas away."""
    best = max(proposals, key=lambda one: one.replicas, default=None)
    if best is None or (failures and best.replicas < current):
        total = len(proposals) + len(failures)
        first = failures[0].reported if failures else ""
        raise Unable(f"invalid metrics ({len(failures)} invalid out of {total}), first error is: {first}")
    return best


class HorizontalPodAutoscalerController(Controller):
    """One key is one autoscaler."""

    name = "horizontal-pod-autoscaler-controller"
    component = "horizontal-pod-autoscaler"

    def __init__(
        self, client: Client, informers: InformerFactory, served: ServedResources, settings: Settings | None = None
    ) -> None:
        self._served = served
        self._settings = settings or Settings()
        self._histories: dict[str, History] = {}
        self._selectors: dict[str, LabelSelector] = {}  # which pods each autoscaler was last about
        super().__init__(client, informers)

    def setup(self) -> None:
        self._proposer = Proposer(Metrics(self.client, self._served.of_kind), self._settings)
        self.autoscalers = self.use(HORIZONTAL_POD_AUTOSCALERS)
        self.autoscalers.add_index("namespace", by_namespace)
        # A new one is looked at; a change brings none forward, for metrics would not have followed the last decision.
        self.autoscalers.add_handler(
            lambda new: self.queue.add(key_of(new)), lambda _, new: self._later(new), self._forget
        )
        self.pods = self.use(PODS)
        self.pods.add_index("namespace", by_namespace)

    def _later(self, autoscaler: Obj) -> None:
        self.queue.add_after(key_of(autoscaler), self._settings.sync_period)

    def _forget(self, autoscaler: Obj) -> None:
        self._histories.pop(key_of(autoscaler), None)
        self._selectors.pop(key_of(autoscaler), None)

    async def reconcile(self, key: str) -> float | None:
        autoscaler = self.autoscalers.store.get(key)
        if autoscaler is None:
            return None
        this = Round(autoscaler, utc_now(), list(get_in(autoscaler, "status", "conditions", default=())))
        try:
            target, scale = await self._get_scale(autoscaler)
        except (ApiError, MetricError) as error:
            why = error.message if isinstance(error, ApiError) else str(error)
            self.recorder.event(autoscaler, "Warning", "FailedGetScale", why)
            message = f"the HPA controller was unable to get the target's current scale: {why}"
            this.say("AbleToScale", False, "FailedGetScale", message)
            await self._write(this, {})
            return self._settings.sync_period
        message = "the HPA controller was able to get the target's current scale"
        this.say("AbleToScale", True, "SucceededGetScale", message)
        await self._scale(this, target, scale)
        return self._settings.sync_period

    async def _get_scale(self, autoscaler: Obj) -> tuple[Resource, Obj]:
        reference = autoscaler["spec"]["scaleTargetRef"]
        group, _ = parse_api_version(reference.get("apiVersion", ""))
        target = self._served.of_kind(group, reference["kind"])
        if target is None:
            raise MetricError(f'no matches for kind "{reference["kind"]}" in group "{group}"')
        namespace = namespace_of(autoscaler)
        return target, await self.client.get(target.gvr, reference["name"], namespace, subresource="scale")

    async def _scale(self, this: Round, target: Resource, scale: Obj) -> None:
        """Decide, rescale if need be, and write the status."""
        autoscaler = this.autoscaler
        current = int(get_in(scale, "spec", "replicas", default=0))
        history = self._histories.setdefault(key_of(autoscaler), History())
        if not history.recommendations:
            history.recommend(current, this.now, 0)
        if current == 0 and minimum_of(autoscaler) != 0:
            message = "scaling is disabled since the replica count of the target is zero"
            this.say("ScalingActive", False, "ScalingDisabled", message)
            await self._write(this, {"currentReplicas": current, "desiredReplicas": 0})
            return
        forced = out_of_bounds(current, autoscaler)
        if forced is not None:
            desired, why = forced
        else:
            try:
                desired, why = await self._follow_metrics(this, scale, current, history)
            except Unable as error:
                await self._write(this, {"currentReplicas": current})
                self.recorder.event(autoscaler, "Warning", "FailedComputeMetricsReplicas", str(error))
                return
        status: Obj = {"currentReplicas": current, "desiredReplicas": desired}
        if desired != current:
            if not await self._rescale(this, target, scale, desired, why):
                await self._write(this, {"currentReplicas": current})
                return
            history.scaled(current, desired, this.now, get_in(autoscaler, "spec", "behavior"))
            status["lastScaleTime"] = format_time(this.now)
        await self._write(this, status)

    async def _follow_metrics(self, this: Round, scale: Obj, current: int, history: History) -> tuple[int, str]:
        """The replicas to have, and why, as the metrics and the limits of their pace have it."""
        autoscaler = this.autoscaler
        best = await self._propose(this, scale)
        behavior = get_in(autoscaler, "spec", "behavior")
        stabilization = self._settings.downscale_stabilization
        bounds = Bounds(current, minimum_of(autoscaler), autoscaler["spec"]["maxReplicas"])
        found = decide(best.replicas, bounds, behavior, history, stabilization, this.now)
        history.recommend(best.replicas, this.now, max(windows(behavior, stabilization)))
        this.say("AbleToScale", True, *found.able)
        this.say("ScalingLimited", found.limited, *found.limit)
        if best.replicas > current:
            return found.replicas, f"{best.name} above target"
        return found.replicas, "All metrics below target" if best.replicas < current else ""

    async def _rescale(self, this: Round, target: Resource, scale: Obj, desired: int, why: str) -> bool:
        try:
            await self.client.update(target.gvr, replace_in(scale, desired, "spec", "replicas"), subresource="scale")
        except ApiError as error:
            message = f"New size: {desired}; reason: {why}; error: {error.message}"
            self.recorder.event(this.autoscaler, "Warning", "FailedRescale", message)
            message = f"the HPA controller was unable to update the target scale: {error.message}"
            this.say("AbleToScale", False, "FailedUpdateScale", message)
            return False
        message = f"the HPA controller was able to update the target scale to {desired}"
        this.say("AbleToScale", True, "SucceededRescale", message)
        self.recorder.event(this.autoscaler, "Normal", "SuccessfulRescale", f"New size: {desired}; reason: {why}")
        return True

    async def _write(self, this: Round, changed: Obj) -> None:
        old = this.autoscaler.get("status") or {}
        status = {**old, **changed, "conditions": this.conditions}
        if this.metrics is not None:
            status["currentMetrics"] = this.metrics
        if status != old:
            wanted = replace_in(this.autoscaler, status, "status")
            await self.client.update_status(HORIZONTAL_POD_AUTOSCALERS, wanted)

    # Metrics.

    async def _propose(self, this: Round, scale: Obj) -> Proposal:
        """What the metrics call for; ScalingActive says whether that could be found out."""
        target = self._target(this, scale)
        proposals: list[Proposal] = []
        failures: list[MetricFailed] = []
        this.metrics = []
        for metric in get_in(this.autoscaler, "spec", "metrics") or ():
            try:
                proposals.append(await self._proposer.propose(metric, target))
                this.metrics.append(proposals[-1].status)
            except MetricFailed as failure:
                failures.append(failure)
                this.metrics.append({"type": ""})  # `kubectl` finds the others by their place
                self.recorder.event(this.autoscaler, "Warning", failure.reason, failure.said)
        try:
            best = best_of(proposals, failures, target.spec_replicas)
        except Unable:
            if failures:
                message = f"the HPA was unable to compute the replica count: {failures[0].said}"
                this.say("ScalingActive", False, failures[0].reason, message)
            raise
        message = f"the HPA was able to successfully calculate a replica count from {best.name}"
        this.say("ScalingActive", True, "ValidMetricFound", message)
        return best

    def _target(self, this: Round, scale: Obj) -> Target:
        """The workload as its metrics are asked for."""
        autoscaler, text = this.autoscaler, get_in(scale, "status", "selector", default="")
        if not text:
            self.recorder.event(autoscaler, "Warning", "SelectorRequired", "selector is required")
            this.say("ScalingActive", False, "InvalidSelector", "the HPA target's scale is missing a selector")
            raise Unable("selector is required")
        try:
            selector = parse_labels(text)
        except SelectorError as error:
            message = f"couldn't convert selector into a corresponding internal selector object: {error}"
            self.recorder.event(autoscaler, "Warning", "InvalidSelector", message)
            this.say("ScalingActive", False, "InvalidSelector", message)
            raise Unable(message) from error
        namespace = namespace_of(autoscaler)
        pods = [pod for pod in self.pods.store.by_index("namespace", namespace) if selector.matches(labels_of(pod))]
        self._check_alone(this, selector, pods)
        return Target(
            namespace=namespace,
            selector=text,
            pods=pods,
            spec_replicas=int(get_in(scale, "spec", "replicas", default=0)),
            status_replicas=int(get_in(scale, "status", "replicas", default=0)),
            tolerance=tolerance_of(autoscaler, self._settings.tolerance),
            now=this.now,
        )

    def _check_alone(self, this: Round, selector: LabelSelector, pods: Sequence[Obj]) -> None:
        """Two autoscalers with the same pods would pull in two directions."""
        mine = key_of(this.autoscaler)
        self._selectors[mine] = selector
        within = f"{namespace_of(this.autoscaler)}/"
        others = [key for key in self._selectors if key.startswith(within) and key != mine]
        rivals = [key for key in others if any(self._selectors[key].matches(labels_of(pod)) for pod in pods)]
        if rivals:
            named = " ".join(sorted([mine, *rivals]))
            message = f"pods by selector {selector} are controlled by multiple HPAs: [{named}]"
            self.recorder.event(this.autoscaler, "Warning", "AmbiguousSelector", message)
            this.say("ScalingActive", False, "AmbiguousSelector", message)
            raise Unable(message)
