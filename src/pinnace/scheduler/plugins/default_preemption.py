"""Asks pods of lower priority to leave a node, so that one that fits nowhere gets room.

The node is chosen at once and nominated; the victims are told and deleted in the background, and the pod is tried again
when they are gone. Words, condition and events are those of
https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime

import structlog

from pinnace.apis.resources import POD_DISRUPTION_BUDGETS, PODS
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, get_in, is_deleting, parse_time, uid_of, utc_now
from pinnace.scheduler.diagnosis import count_reasons
from pinnace.scheduler.extender import Extender, ExtenderFailed
from pinnace.scheduler.framework import PostFilterResult, Rejection
from pinnace.scheduler.handle import Handle
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo
from pinnace.scheduler.preemption import (
    NOT_HELPFUL,
    Budget,
    Candidate,
    Victim,
    candidates_wanted,
    least_harmful,
    victims_on,
)

REMEMBERED = 10_000  # victims
REASON = "PreemptionByScheduler"
NEVER = "not eligible due to preemptionPolicy=Never."
TERMINATING = "not eligible due to a terminating pod on the nominated node."

_log = structlog.get_logger()


class DefaultPreemption:
    name = "DefaultPreemption"

    def __init__(
        self, handle: Handle, *, min_candidate_nodes_percentage: int = 10, min_candidate_nodes_absolute: int = 100
    ) -> None:
        self._handle = handle
        self._percentage = min_candidate_nodes_percentage
        self._absolute = min_candidate_nodes_absolute
        self._evicting: set[str] = set()  # keys of pods for which victims are being deleted
        self._deleted: OrderedDict[str, None] = OrderedDict()  # uids of victims; that they end may be seen later

    def post_filter(self, pod: PodInfo, rejections: Mapping[str, Rejection]) -> PostFilterResult:
        self._handle.metrics.preemption_attempts.inc()
        refusal = self._not_eligible(pod, rejections)
        if refusal:
            return PostFilterResult(None, f"preemption: {refusal}")
        candidates, useless = self._candidates(pod, rejections)
        if not candidates:
            reasons = (rejection.reasons for rejection in useless.values())
            words = count_reasons(len(self._handle.cache.nodes), reasons)
            return PostFilterResult("", f"preemption: {words}")
        self._evicting.add(pod.key)
        extenders = self._concerned(pod)
        if extenders:
            self._handle.begin(self._make_room_with(extenders, pod, candidates))
            return PostFilterResult(None, "")
        chosen = least_harmful(candidates)
        self._handle.begin(self._make_room(pod, chosen))
        return PostFilterResult(chosen.node_name, "")

    # Choosing.

    def _not_eligible(self, pod: PodInfo, rejections: Mapping[str, Rejection]) -> str:
        """Why the pod may not ask others to leave now; empty: it may."""
        if pod.never_preempts:
            return NEVER
        if pod.key in self._evicting:
            return TERMINATING
        name = self._handle.nominations.node_of(pod.key)
        node = self._handle.cache.nodes.get(name)
        rejection = rejections.get(name)
        if node is None or (rejection is not None and not rejection.resolvable):
            return ""
        leaving = any(self._is_leaving(other) for other in node.pods.values() if other.priority < pod.priority)
        return TERMINATING if leaving else ""

    def _is_leaving(self, pod: PodInfo) -> bool:
        """Whether a pod ends because it was asked to make room."""
        obj = self._handle.objects(PODS).get(pod.key)
        if obj is None or not is_deleting(obj):
            return pod.uid in self._deleted
        condition = _disruption(obj)
        return condition.get("status") == "True" and condition.get("reason") == REASON

    def _candidates(
        self, pod: PodInfo, rejections: Mapping[str, Rejection]
    ) -> tuple[list[Candidate], dict[str, Rejection]]:
        """Nodes that could be freed, enough of them to choose from; and why the others are of no use."""
        nodes = self._handle.cache.nodes
        useless = {name: NOT_HELPFUL for name, rejection in rejections.items() if not rejection.resolvable}
        hopeful = [nodes[name] for name, rejection in rejections.items() if rejection.resolvable and name in nodes]
        wanted = candidates_wanted(len(hopeful), self._percentage, self._absolute)
        fits = self._handle.fits(pod.shape)
        budgets = self._budgets()
        found: list[Candidate] = []
        harmless = False
        for node in _from_anywhere(hopeful):
            outcome = victims_on(node, pod, self._handle.cache, fits, budgets, self._started)
            if isinstance(outcome, Rejection):
                useless[node.name] = outcome
                continue
            found.append(outcome)
            harmless = harmless or not outcome.violations
            if harmless and len(found) >= wanted:
                break
        return found, useless

    def _budgets(self) -> list[Budget]:
        listed = (Budget.of(pdb) for pdb in self._handle.objects(POD_DISRUPTION_BUDGETS).list())
        return [budget for budget in listed if budget is not None]

    def _started(self, pod: PodInfo) -> datetime:
        obj = self._handle.objects(PODS).get(pod.key)
        text = get_in(obj, "status", "startTime") if obj is not None else None
        return parse_time(text) if text else utc_now()

    # Asking extenders.

    def _concerned(self, pod: PodInfo) -> list[Extender]:
        obj = self._handle.objects(PODS).get(pod.key)
        return [
            extender
            for extender in self._handle.extenders
            if obj is not None and extender.has("preempt") and extender.is_interested(obj)
        ]

    async def _make_room_with(self, extenders: list[Extender], pod: PodInfo, candidates: list[Candidate]) -> None:
        """Let the extenders strike candidates and victims, then free the best that is left, if any."""
        pods = self._handle.objects(PODS)
        try:
            for extender in extenders:
                victims = {
                    one.node_name: (
                        [obj for victim in one.victims if (obj := pods.get(victim.pod.key))],
                        one.violations,
                    )
                    for one in candidates
                }
                try:
                    kept = await extender.preempt(pods.get(pod.key) or {}, victims)
                except ExtenderFailed:
                    if extender.ignorable:
                        continue
                    raise
                candidates = [one.agreed(*kept[one.node_name]) for one in candidates if one.node_name in kept]
        except ExtenderFailed as error:
            _log.info("extender failed to judge preemption", pod=pod.key, error=str(error))
            candidates = []
        if not candidates:
            self._evicting.discard(pod.key)
            return
        chosen = least_harmful(candidates)
        self._handle.nominations.nominate(pod, chosen.node_name)
        await self._make_room(pod, chosen, nominate=True)

    # Making room.

    async def _make_room(self, pod: PodInfo, candidate: Candidate, *, nominate: bool = False) -> None:
        """Give up weaker claims to the node, then delete the victims; say first where the pod will go, if asked to."""
        self._handle.metrics.preemption_victims.observe(len(candidate.victims))
        try:
            if nominate:
                await self._patch_status(pod, {"nominatedNodeName": candidate.node_name})
            for other in self._handle.nominations.on(candidate.node_name):
                if other.priority < pod.priority:
                    await self._drop_claim(other)
            for victim in candidate.victims:
                await self._evict(victim, pod, candidate.node_name)
        except ApiError as error:
            _log.info("pods could not be preempted", pod=pod.key, node=candidate.node_name, error=error.message)
            self._evicting.discard(pod.key)
            self._handle.activate(pod.key)
        finally:
            self._evicting.discard(pod.key)

    async def _drop_claim(self, pod: PodInfo) -> None:
        self._handle.nominations.withdraw(pod.key)
        status = {"nominatedNodeName": None}
        try:
            await self._patch_status(pod, status)
        except ApiError as error:
            if not error.is_not_found:
                raise
        self._handle.activate(pod.key)

    async def _evict(self, victim: Victim, preemptor: PodInfo, node_name: str) -> None:
        """Say why, then delete; a pod that is gone or on its way is left alone."""
        pod = victim.pod
        obj = self._handle.objects(PODS).get(pod.key)
        if obj is None or is_deleting(obj) or uid_of(obj) != pod.uid:
            return
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": REASON,
            "message": f"{preemptor.scheduler_name}: preempting to accommodate a higher priority pod",
            "lastTransitionTime": format_time(utc_now()),
        }
        if "generation" in obj["metadata"]:
            condition["observedGeneration"] = obj["metadata"]["generation"]
        try:
            if _disruption(obj).get("reason") != REASON:
                await self._patch_status(pod, {"conditions": [condition]})
            await self._handle.client.delete(PODS, pod.name, pod.namespace, uid=pod.uid)
        except ApiError as error:
            if not error.is_not_found:
                raise
            return
        self._deleted[pod.uid] = None
        if len(self._deleted) > REMEMBERED:
            self._deleted.popitem(last=False)
        message = f"Preempted by pod {preemptor.uid} on node {node_name}"
        self._handle.say(pod.reference, "Normal", "Preempted", message)

    async def _patch_status(self, pod: PodInfo, status: Obj) -> None:
        patch = {"metadata": {"uid": pod.uid}, "status": status}
        await self._handle.client.patch(
            PODS, pod.name, patch, pod.namespace, content_type=STRATEGIC_MERGE_PATCH, subresource="status"
        )


def _disruption(pod: Obj) -> Obj:
    """The condition DisruptionTarget; empty without one."""
    for condition in get_in(pod, "status", "conditions") or ():
        if condition.get("type") == "DisruptionTarget":
            found: Obj = condition
            return found
    return {}


def _from_anywhere(nodes: list[NodeInfo]) -> list[NodeInfo]:
    """The nodes in their order from a random one on, so that not always the first are freed."""
    start = random.randrange(len(nodes)) if nodes else 0
    return nodes[start:] + nodes[:start]
