"""Says of every PodDisruptionBudget how many of its pods may be evicted now.

Evictions themselves are granted by the API server, which writes them to `status.disruptedPods` and marks the pod as the
target of a disruption; from a pod that is still there much later the mark is taken again. Specified by
https://kubernetes.io/docs/tasks/run-application/configure-pdb/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from pinnace.apis.resources import (
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.client.informer import InformerFactory
from pinnace.client.store import by_namespace
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.controllers.conditions import condition, put_condition
from pinnace.controllers.pods import is_finished, is_ready
from pinnace.controllers.rollout import replicas_of, scaled
from pinnace.controllers.served import ServedResources
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    controller_of,
    format_time,
    get_in,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    parse_api_version,
    parse_time,
    replace_in,
    uid_of,
    utc_now,
)
from pinnace.machinery.selectors import LabelSelector, go_text

_PATIENCE = timedelta(minutes=2)  # for an evicted pod to be deleted, before it counts as healthy again
_POD = "pod:"  # before the keys of pods
_UNMANAGED = (
    "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of"
    " the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods"
    ' please set ".spec.minAvailable" field of the PDB to an integer value.'
)


class Scale(NamedTuple):
    """How many pods an owner asks for."""

    uid: str
    replicas: int


def needed(budget: Obj, pods: Sequence[Obj], scales: Mapping[str, int]) -> tuple[int, int]:
    """How many pods there should be, and how many of them healthy; `scales` are the replicas that owners ask for."""
    least, most = get_in(budget, "spec", "minAvailable"), get_in(budget, "spec", "maxUnavailable")
    owned = sum(scales.values())
    if most is not None:
        return owned, max(0, owned - scaled(most, owned, up=True))
    if isinstance(least, str):
        return owned, scaled(least, owned, up=True)
    return len(pods), 0 if least is None else least


def counts_by_scale(budget: Obj) -> bool:
    """Whether the budget speaks of what the pods' owners ask for, rather than of the pods that there are."""
    spec = budget["spec"]
    return spec.get("maxUnavailable") is not None or isinstance(spec.get("minAvailable"), str)


def status_of(budget: Obj, pods: Sequence[Obj], scales: Mapping[str, int], now: datetime) -> Obj:
    """The status that the pods selected give the budget."""
    expected, desired = needed(budget, pods, scales)
    by_name = {name_of(pod): pod for pod in pods}
    disrupted = {
        name: when
        for name, when in get_in(budget, "status", "disruptedPods", default={}).items()
        if name in by_name and not is_deleting(by_name[name]) and parse_time(when) + _PATIENCE > now
    }
    healthy = sum(is_ready(pod) and not is_deleting(pod) and name_of(pod) not in disrupted for pod in pods)
    allowed = max(0, healthy - desired) if expected > 0 else 0
    generation = budget["metadata"].get("generation", 0)
    reason = "SufficientPods" if allowed else "InsufficientPods"
    fresh = _allowance(generation, reason, "", now, allowed=bool(allowed))
    status: Obj = {
        "observedGeneration": generation,
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "conditions": put_condition(get_in(budget, "status", "conditions", default=()), fresh),
    }
    return {**status, "disruptedPods": disrupted} if disrupted else status


def failed_status(budget: Obj, why: str, now: datetime) -> Obj:
    """The status of a budget that could not be reckoned: nothing may go."""
    status = budget.get("status") or {}
    fresh = _allowance(status.get("observedGeneration", 0), "SyncFailed", why, now, allowed=False)
    conditions = put_condition(status.get("conditions") or (), fresh)
    return {**status, "disruptionsAllowed": 0, "conditions": conditions}


def _allowance(generation: int, reason: str, message: str, now: datetime, *, allowed: bool) -> Obj:
    return {
        "type": "DisruptionAllowed",
        "status": "True" if allowed else "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": format_time(now),
        "observedGeneration": generation,
    }


def stale_in(pod: Obj, now: datetime) -> float | None:
    """Seconds until a pod that was to be disrupted, and is not, counts as spared; None for other pods."""
    target = condition(pod, "DisruptionTarget")
    if target is None or target.get("status") != "True" or is_deleting(pod) or is_finished(pod):
        return None
    return (parse_time(target["lastTransitionTime"]) + _PATIENCE - now).total_seconds()


class Uncountable(Exception):
    """Nobody can say how many pods a budget is about; the message is Kubernetes' own."""


class DisruptionController(Controller):
    """One key is one PodDisruptionBudget or, after `pod:`, one pod that was to be disrupted."""

    name = "disruption-controller"
    component = "controllermanager"

    def __init__(self, client: Client, informers: InformerFactory, served: ServedResources) -> None:
        self._served = served
        super().__init__(client, informers)

    def setup(self) -> None:
        self.budgets = self.watch(POD_DISRUPTION_BUDGETS, itself)
        self.budgets.add_index("namespace", by_namespace)
        self.pods = self.watch(PODS, self._of_pod)
        self.pods.add_index("namespace", by_namespace)
        scaling = {
            ("apps", "ReplicaSet"): REPLICA_SETS,
            ("", "ReplicationController"): REPLICATION_CONTROLLERS,
            ("apps", "StatefulSet"): STATEFUL_SETS,
            ("apps", "Deployment"): DEPLOYMENTS,
        }
        self._owners = {kind: self.watch(resource, self._all_in_namespace) for kind, resource in scaling.items()}

    def _of_pod(self, pod: Obj) -> Iterable[str]:
        for budget in self.budgets.store.by_index("namespace", namespace_of(pod)):
            if _selector(budget).matches(labels_of(pod)):
                yield key_of(budget)
        if stale_in(pod, utc_now()) is not None:
            yield f"{_POD}{key_of(pod)}"

    def _all_in_namespace(self, owner: Obj) -> Iterable[str]:
        return [key_of(budget) for budget in self.budgets.store.by_index("namespace", namespace_of(owner))]

    async def reconcile(self, key: str) -> float | None:
        if key.startswith(_POD):
            return await self._spare(key.removeprefix(_POD))
        budget = self.budgets.store.get(key)
        if budget is None or is_deleting(budget):
            return None
        selector = _selector(budget)
        everyone = self.pods.store.by_index("namespace", namespace_of(budget))
        pods = [pod for pod in everyone if selector.matches(labels_of(pod))]
        if not pods:
            self.recorder.event(budget, "Normal", "NoPods", "No matching pods found")
        try:
            scales = await self._scales(budget, pods) if counts_by_scale(budget) else {}
        except Uncountable as error:
            why = f"Failed to calculate the number of expected pods: {error}"
            self.recorder.event(budget, "Warning", "CalculateExpectedPodCountFailed", why)
            status = failed_status(budget, str(error), utc_now())
        else:
            status = status_of(budget, pods, scales, utc_now())
        if status != (budget.get("status") or {}):
            await self.client.update_status(POD_DISRUPTION_BUDGETS, replace_in(budget, status, "status"))
        return _PATIENCE.total_seconds() if "disruptedPods" in status else None

    async def _scales(self, budget: Obj, pods: Iterable[Obj]) -> dict[str, int]:
        """The replicas that the pods' owners ask for, by the owner's uid."""
        found: dict[str, int] = {}
        known: set[str] = set()
        unmanaged = False
        for pod in pods:
            reference = controller_of(pod)
            if reference is None:
                unmanaged = True
            elif reference["uid"] not in known:
                known.add(reference["uid"])
                scale = await self._scale_of(reference, namespace_of(pod))
                if scale is None:
                    raise Uncountable(f'found no controllers for pod "{name_of(pod)}"')
                found[scale.uid] = scale.replicas
        if unmanaged:
            message = _UNMANAGED.format(go_text(get_in(budget, "spec", "selector")))
            self.recorder.event(budget, "Warning", "UnmanagedPods", message)
        return found

    async def _scale_of(self, reference: Obj, namespace: str) -> Scale | None:
        """What an owner asks for, or the Deployment behind a ReplicaSet; None where there is no such owner."""
        group, _ = parse_api_version(reference["apiVersion"])
        informer = self._owners.get((group, reference["kind"]))
        if informer is None:
            return await self._ask_for_scale(group, reference, namespace)
        owner = informer.store.get(f"{namespace}/{reference['name']}")
        if owner is None or uid_of(owner) != reference["uid"]:
            return None
        above = controller_of(owner)
        if above is not None and above["kind"] == "Deployment":
            deployment = self._owners["apps", "Deployment"].store.get(f"{namespace}/{above['name']}")
            owner = deployment if deployment is not None and uid_of(deployment) == above["uid"] else owner
        return Scale(uid_of(owner), replicas_of(owner))

    async def _ask_for_scale(self, group: str, reference: Obj, namespace: str) -> Scale | None:
        """What an owner of another kind asks for, by its subresource scale."""
        resource = self._served.of_kind(group, reference["kind"])
        if resource is None:
            _, version = parse_api_version(reference["apiVersion"])
            raise Uncountable(f'no matches for kind "{reference["kind"]}" in version "{group}/{version}"')
        where = namespace if resource.namespaced else ""
        try:
            scale = await self.client.get(resource.gvr, reference["name"], where, subresource="scale")
        except ApiError as error:
            if not error.is_not_found:
                raise Uncountable(error.message) from error
            if get_in(error.details, "name"):
                return None
            what = f"{resource.gvr.resource}.{group}" if group else resource.gvr.resource
            raise Uncountable(f"{what} does not implement the scale subresource") from error
        return Scale(uid_of(scale), replicas_of(scale)) if uid_of(scale) == reference["uid"] else None

    async def _spare(self, key: str) -> float | None:
        """Take the mark of a disruption from a pod that was not disrupted after all."""
        pod = self.pods.store.get(key)
        left = stale_in(pod, utc_now()) if pod is not None else None
        if pod is None or left is None or left > 0:
            return left
        spared = {"type": "DisruptionTarget", "status": "False", "lastTransitionTime": format_time(utc_now())}
        patch = {"metadata": {"uid": uid_of(pod)}, "status": {"conditions": [spared]}}
        try:
            await self.client.patch(
                PODS, name_of(pod), patch, namespace_of(pod), subresource="status", content_type=STRATEGIC_MERGE_PATCH
            )
        except ApiError as error:
            if not error.is_not_found:
                raise
        return None


def _selector(budget: Obj) -> LabelSelector:
    return LabelSelector.from_json(get_in(budget, "spec", "selector"))
