"""Says of every PodDisruptionBudget how many of its pods may be evicted now.

Evictions themselves are granted by the API server, which writes them to `status.disruptedPods`. Specified by
https://kubernetes.io/docs/tasks/run-application/configure-pdb/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from pinnace.apis.resources import (
    DEPLOYMENTS,
    POD_DISRUPTION_BUDGETS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
)
from pinnace.client.controller import Controller, itself
from pinnace.client.store import by_namespace
from pinnace.controllers.conditions import with_condition
from pinnace.controllers.pods import is_finished, is_ready
from pinnace.controllers.rollout import replicas_of, scaled
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
    parse_time,
    replace_in,
    uid_of,
    utc_now,
)
from pinnace.machinery.selectors import LabelSelector

_PATIENCE = timedelta(minutes=2)  # for an evicted pod to be deleted, before it counts as healthy again


def needed(budget: Obj, pods: Sequence[Obj], scales: Mapping[str, int]) -> tuple[int, int]:
    """How many pods there should be, and how many of them healthy; `scales` are the replicas that owners ask for."""
    least, most = get_in(budget, "spec", "minAvailable"), get_in(budget, "spec", "maxUnavailable")
    owned = sum(scales.values())
    if most is not None:
        return owned, max(0, owned - scaled(most, owned, up=True))
    if isinstance(least, str):
        return owned, scaled(least, owned, up=True)
    return len(pods), 0 if least is None else least


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
    fresh = {
        "type": "DisruptionAllowed",
        "status": "True" if allowed else "False",
        "reason": "SufficientPods" if allowed else "InsufficientPods",
        "message": "",
        "lastTransitionTime": format_time(now),
        "observedGeneration": generation,
    }
    status: Obj = {
        "observedGeneration": generation,
        "disruptionsAllowed": allowed,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "conditions": with_condition(get_in(budget, "status", "conditions", default=()), fresh),
    }
    return {**status, "disruptedPods": disrupted} if disrupted else status


class DisruptionController(Controller):
    """One key is one PodDisruptionBudget."""

    name = "disruption-controller"

    def setup(self) -> None:
        self.budgets = self.watch(POD_DISRUPTION_BUDGETS, itself)
        self.budgets.add_index("namespace", by_namespace)
        self.pods = self.watch(PODS, self._budgets_of_pod)
        self.pods.add_index("namespace", by_namespace)
        scaling = {
            "ReplicaSet": REPLICA_SETS,
            "ReplicationController": REPLICATION_CONTROLLERS,
            "StatefulSet": STATEFUL_SETS,
            "Deployment": DEPLOYMENTS,
        }
        self._owners = {kind: self.watch(resource, self._all_in_namespace) for kind, resource in scaling.items()}

    def _budgets_of_pod(self, pod: Obj) -> Iterable[str]:
        budgets = self.budgets.store.by_index("namespace", namespace_of(pod))
        return [key_of(budget) for budget in budgets if _selector(budget).matches(labels_of(pod))]

    def _all_in_namespace(self, owner: Obj) -> Iterable[str]:
        return [key_of(budget) for budget in self.budgets.store.by_index("namespace", namespace_of(owner))]

    async def reconcile(self, key: str) -> float | None:
        budget = self.budgets.store.get(key)
        if budget is None or is_deleting(budget):
            return None
        selector = _selector(budget)
        everyone = self.pods.store.by_index("namespace", namespace_of(budget))
        pods = [pod for pod in everyone if selector.matches(labels_of(pod)) and not is_finished(pod)]
        status = status_of(budget, pods, self._scales(pods), utc_now())
        if status != (budget.get("status") or {}):
            await self.client.update_status(POD_DISRUPTION_BUDGETS, replace_in(budget, status, "status"))
        return _PATIENCE.total_seconds() if "disruptedPods" in status else None

    def _scales(self, pods: Iterable[Obj]) -> dict[str, int]:
        """The replicas that the pods' owners ask for, by their uid; a Deployment speaks for its sets."""
        found: dict[str, int] = {}
        for pod in pods:
            owner = self._owner_of(pod)
            if owner is not None:
                owner = self._owner_of(owner) or owner
                found[uid_of(owner)] = replicas_of(owner)
        return found

    def _owner_of(self, obj: Obj) -> Obj | None:
        reference = controller_of(obj)
        informer = self._owners.get(reference["kind"]) if reference is not None else None
        if reference is None or informer is None:
            return None
        return informer.store.get(f"{namespace_of(obj)}/{reference['name']}")


def _selector(budget: Obj) -> LabelSelector:
    return LabelSelector.from_json(get_in(budget, "spec", "selector"))
