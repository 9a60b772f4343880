"""Keeps as many pods alive as a ReplicaSet asks for, and says in its status how they are.

The same code serves ReplicationControllers, which differ in names and in the form of their selector
(`replicationcontroller.py`). Specified by https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from pinnace.apis.resources import PODS, REPLICA_SETS
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.client.informer import InformerFactory
from pinnace.client.store import by_controller, by_namespace
from pinnace.controllers.conditions import find, without
from pinnace.controllers.expectations import Expectations
from pinnace.controllers.ownership import by_claim, claim_all, claimable
from pinnace.controllers.pod_control import BURST, PodControl
from pinnace.controllers.pods import (
    available_in,
    first_to_go,
    from_template,
    is_active,
    is_available,
    is_finished,
    is_ready,
)
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    GVR,
    Obj,
    controller_of,
    format_time,
    get_in,
    is_deleting,
    key_of,
    labels_of,
    namespace_of,
    replace_in,
    uid_of,
    utc_now,
)
from pinnace.machinery.selectors import LabelSelector

# Decisions.


def wanted_replicas(owner: Obj) -> int:
    replicas = get_in(owner, "spec", "replicas")
    return 1 if replicas is None else int(replicas)


def status_of(
    owner: Obj,
    pods: Sequence[Obj],
    difference: int,
    error: ApiError | None,
    now: datetime,
    terminating: int | None = None,
) -> Obj:
    """The status that `pods`, all active and the owner's, give it; `difference` is how many were too many,
    `terminating` how many are on their way out, None where the API has no place for it."""
    template_labels = get_in(owner, "spec", "template", "metadata", "labels", default={})
    min_ready = get_in(owner, "spec", "minReadySeconds", default=0)
    ready = [pod for pod in pods if is_ready(pod)]
    counts = {
        "replicas": len(pods),
        "fullyLabeledReplicas": sum(template_labels.items() <= labels_of(pod).items() for pod in pods),
        "readyReplicas": len(ready),
        "availableReplicas": sum(is_available(pod, min_ready, now) for pod in ready) if min_ready else len(ready),
        "observedGeneration": owner["metadata"].get("generation", 0),
    }
    status: Obj = {name: count for name, count in counts.items() if count or name == "replicas"}
    if terminating is not None:
        status["terminatingReplicas"] = terminating
    conditions = _conditions(owner, difference, error, now)
    if conditions:
        status["conditions"] = conditions
    return status


def _conditions(owner: Obj, difference: int, error: ApiError | None, now: datetime) -> list[Obj]:
    conditions = list(get_in(owner, "status", "conditions", default=()))
    failure = find(conditions, "ReplicaFailure")
    if error is None:
        return without(conditions, "ReplicaFailure") if failure else conditions
    if failure is None:
        reason = "FailedCreate" if difference < 0 else "FailedDelete"
        conditions.append(
            {
                "type": "ReplicaFailure",
                "status": "True",
                "lastTransitionTime": format_time(now),
                "reason": reason,
                "message": error.message,
            }
        )
    return conditions


def next_available(pods: Iterable[Obj], min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until the next ready pod becomes available, if one is waiting for that."""
    if not min_ready_seconds:
        return None
    waits = [available_in(pod, min_ready_seconds, now) for pod in pods if is_ready(pod)]
    return min((wait for wait in waits if wait > 0), default=None)


# Carrying them out.


class ReplicaSetController(Controller):
    """One key is one ReplicaSet."""

    name = "replicaset-controller"
    kind = "ReplicaSet"
    resource: GVR = REPLICA_SETS

    def __init__(self, client: Client, informers: InformerFactory, *, counts_terminating: bool = False) -> None:
        self._counts_terminating = counts_terminating
        super().__init__(client, informers)

    def setup(self) -> None:
        self.owners = self.watch(self.resource, itself)
        self.owners.add_index("namespace", by_namespace)
        self.owners.add_index("controller", by_controller)
        self.pods = self.watch(PODS, self._owners_of_pod)
        self.pods.add_index("claim", by_claim)
        self.expectations = Expectations(self.pods)
        self._control = PodControl(self.client, self.recorder, self.expectations)

    def selector_of(self, owner: Obj) -> LabelSelector:
        return LabelSelector.from_json(get_in(owner, "spec", "selector", default={}))

    def _owners_of_pod(self, pod: Obj) -> Iterable[str]:
        """The owner it has, or those that may want to adopt it."""
        owner = controller_of(pod)
        if owner is not None:
            return (f"{namespace_of(pod)}/{owner['name']}",) if owner["kind"] == self.kind else ()
        labels = labels_of(pod)
        candidates = self.owners.store.by_index("namespace", namespace_of(pod))
        return [key_of(candidate) for candidate in candidates if self.selector_of(candidate).matches(labels)]

    async def reconcile(self, key: str) -> float | None:
        owner = self.owners.store.get(key)
        if owner is None:
            self.expectations.forget(key)
            return None
        in_step = self.expectations.satisfied(key)
        candidates = [pod for pod in claimable(self.pods.store, owner) if is_active(pod)]
        pods = await claim_all(self.client, self.resource, owner, self.selector_of(owner), PODS, candidates)
        difference, error = len(pods) - wanted_replicas(owner), None
        if in_step and not is_deleting(owner):
            error = await self._scale(owner, pods, difference)
        status = status_of(owner, pods, difference, error, utc_now(), self._terminating(owner))
        await self._write_status(owner, status)
        if error is not None:
            raise error
        return next_available(pods, get_in(owner, "spec", "minReadySeconds", default=0), utc_now())

    def _terminating(self, owner: Obj) -> int | None:
        if not self._counts_terminating:
            return None
        owned = self.pods.store.by_index("claim", uid_of(owner))
        return sum(is_deleting(pod) and not is_finished(pod) for pod in owned)

    async def _scale(self, owner: Obj, pods: list[Obj], difference: int) -> ApiError | None:
        if difference < 0:
            template = owner["spec"]["template"]
            count = min(-difference, BURST)
            _, error = await self._control.create(owner, lambda _: from_template(template, owner), count)
            return error
        if difference > 0:
            doomed = first_to_go(pods, self._related(owner, pods), utc_now())[: min(difference, BURST)]
            return await self._control.delete(owner, doomed)
        return None

    def _related(self, owner: Obj, pods: list[Obj]) -> list[Obj]:
        """The pods of every set of the same Deployment: what crowds a node is the workload."""
        parent = controller_of(owner)
        if parent is None:
            return pods
        siblings = self.owners.store.by_index("controller", parent["uid"])
        return [pod for sibling in siblings for pod in self.pods.store.by_index("claim", uid_of(sibling))]

    async def _write_status(self, owner: Obj, status: Obj) -> None:
        if status != (owner.get("status") or {}):
            await self.client.update_status(self.resource, replace_in(owner, status, "status"))
