"""What the scheduler knows of a node: its labels and taints, what it has, and what the pods on it take.

Sums are kept up to date as pods come and go, never recounted. `version` changes with everything, `spec_version` with
the node object alone, so that whoever caches a judgement knows what it rests on.
"""

from __future__ import annotations

from pinnace.machinery.meta import Obj
from pinnace.scheduler.events import Action
from pinnace.scheduler.pod import HOSTNAME, Amounts, HostPort, PodInfo, amounts


class NodeInfo:
    """One node and the pods on it (assumed ones among them)."""

    __slots__ = (
        "allocatable",
        "images",
        "labels",
        "name",
        "pods",
        "ports",
        "prefer_no_schedule",
        "removed",
        "requested",
        "scoring_requested",
        "spec_version",
        "taints",
        "unschedulable",
        "version",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.labels: dict[str, str] = {}
        self.taints: list[Obj] = []
        self.prefer_no_schedule: list[Obj] = []  # those of the taints that only count for scores
        self.unschedulable = False
        self.allocatable: Amounts = {}
        self.images: dict[str, int] = {}  # name to size in bytes
        self.requested: Amounts = {}
        self.scoring_requested: Amounts = {}
        self.pods: dict[str, PodInfo] = {}  # by key
        self.ports: list[HostPort] = []
        self.version = 0
        self.spec_version = 0
        self.removed = True  # pods may name a node that is not there (yet)

    def take(self, node: Obj) -> Action:
        """Learn the node object; what changed of what matters."""
        spec, status = node.get("spec") or {}, node.get("status") or {}
        labels = node["metadata"].get("labels") or {}
        taints = spec.get("taints") or []
        unschedulable = bool(spec.get("unschedulable"))
        allocatable = amounts(status.get("allocatable") or status.get("capacity"))
        images = {
            name: image.get("sizeBytes", 0) for image in status.get("images") or () for name in image.get("names") or ()
        }
        changed = Action.ADD if self.removed else Action.NONE
        if labels != self.labels:
            changed |= Action.UPDATE_LABEL
        if taints != self.taints or unschedulable != self.unschedulable:
            changed |= Action.UPDATE_TAINT
        if images != self.images:
            changed |= Action.UPDATE
        if changed:
            self.labels = labels
            self.taints = taints
            self.prefer_no_schedule = [taint for taint in taints if taint.get("effect") == "PreferNoSchedule"]
            self.unschedulable = unschedulable
            self.images = images
            self.removed = False
            self.spec_version += 1
        if allocatable != self.allocatable:
            self.allocatable = allocatable
            changed |= Action.UPDATE_ALLOCATABLE
        if changed:
            self.version += 1
        return changed

    def add(self, pod: PodInfo) -> None:
        self.pods[pod.key] = pod
        self._account(pod, 1)
        self.ports += pod.shape.host_ports

    def remove(self, pod: PodInfo) -> None:
        del self.pods[pod.key]
        self._account(pod, -1)
        for port in pod.shape.host_ports:
            self.ports.remove(port)

    def _account(self, pod: PodInfo, sign: int) -> None:
        requested, scoring = self.requested, self.scoring_requested
        for resource, value in pod.shape.requests.items():
            requested[resource] = requested.get(resource, 0) + sign * value
        for resource, value in pod.shape.scoring_requests.items():
            scoring[resource] = scoring.get(resource, 0) + sign * value
        self.version += 1

    def domain(self, key: str) -> str | None:
        """The node's value of a topology key."""
        return self.labels.get(key)

    def __repr__(self) -> str:
        return f"<node {self.labels.get(HOSTNAME, self.name)}: {len(self.pods)} pods>"
