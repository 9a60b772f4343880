"""Notices nodes that have fallen silent, taints them, and evicts the pods that do not tolerate it.

A kubelet is heard through its lease and its node's status; silence is measured by our own clock. Specified by
https://kubernetes.io/docs/concepts/architecture/nodes/#node-controller and
https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import datetime

from pinnace.apis.resources import LEASES, NODES, PODS
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.client.informer import InformerFactory
from pinnace.controllers.conditions import condition, with_condition
from pinnace.controllers.node_zones import Pace, Zones, zone_of
from pinnace.controllers.pods import is_ready
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    format_time,
    get_in,
    is_deleting,
    labels_of,
    name_of,
    replace_in,
    utc_now,
)

LEASE_NAMESPACE = "kube-node-lease"
GRACE_SECONDS = 50.0  # a node silent for longer is taken for lost
STARTUP_GRACE_SECONDS = 60.0  # before it has ever reported

_DEFAULT_PACE = Pace()

_NOT_READY = "node.kubernetes.io/not-ready"
_UNREACHABLE = "node.kubernetes.io/unreachable"
_CONDITION_TAINTS = {  # condition -> status -> NoSchedule taint
    "Ready": {"False": _NOT_READY, "Unknown": _UNREACHABLE},
    "MemoryPressure": {"True": "node.kubernetes.io/memory-pressure"},
    "DiskPressure": {"True": "node.kubernetes.io/disk-pressure"},
    "PIDPressure": {"True": "node.kubernetes.io/pid-pressure"},
    "NetworkUnavailable": {"True": "node.kubernetes.io/network-unavailable"},
}
_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_OURS_NO_SCHEDULE = {key for taints in _CONDITION_TAINTS.values() for key in taints.values()} | {_UNSCHEDULABLE}
_OURS_NO_EXECUTE = {_NOT_READY, _UNREACHABLE}
_BETA_LABELS = {f"kubernetes.io/{name}": f"beta.kubernetes.io/{name}" for name in ("arch", "os")}
_REPORTED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")

# Decisions.


def silent_conditions(node: Obj, now: datetime) -> list[Obj]:
    """The conditions of a node that was not heard of: what its kubelet would report is unknown."""
    conditions: Sequence[Obj] = get_in(node, "status", "conditions", default=())
    moment = format_time(now)
    for kind in _REPORTED:
        old = condition(node, kind)
        if old is not None and old.get("status") == "Unknown":
            continue
        if old is None:
            reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
            heard = node["metadata"].get("creationTimestamp", moment)
        else:
            reason, message = "NodeStatusUnknown", "Kubelet stopped posting node status."
            heard = old.get("lastHeartbeatTime", moment)
        fresh = {
            "type": kind,
            "status": "Unknown",
            "lastHeartbeatTime": heard,
            "lastTransitionTime": moment,
            "reason": reason,
            "message": message,
        }
        conditions = with_condition(conditions, fresh)
    return list(conditions)


def wanted_taints(node: Obj, now: datetime, *, evict: bool) -> list[Obj]:
    """The node's taints: those of others, and ours as its conditions ask; `evict` permits NoExecute."""
    current: list[Obj] = get_in(node, "spec", "taints", default=[])
    schedule, execute = _our_taints(node)
    if not evict:
        execute = set()
    kept = [taint for taint in current if not _is_ours(taint) or _wanted(taint, schedule, execute)]
    there = {(taint["key"], taint["effect"]) for taint in kept}
    moment = format_time(now)
    missing = [(key, "NoSchedule") for key in sorted(schedule)] + [(key, "NoExecute") for key in sorted(execute)]
    return kept + [
        {"key": key, "effect": effect, "timeAdded": moment} for key, effect in missing if (key, effect) not in there
    ]


def lacks_eviction(node: Obj) -> bool:
    """Whether its conditions ask for a taint that evicts, and it has none of those yet."""
    taints = get_in(node, "spec", "taints", default=())
    has = any(taint["effect"] == "NoExecute" and taint["key"] in _OURS_NO_EXECUTE for taint in taints)
    return bool(_our_taints(node)[1]) and not has


def _our_taints(node: Obj) -> tuple[set[str], set[str]]:
    schedule = set()
    for kind, taints in _CONDITION_TAINTS.items():
        found = condition(node, kind)
        key = taints.get(found.get("status", "") if found else "")
        if key:
            schedule.add(key)
    execute = schedule & _OURS_NO_EXECUTE
    if get_in(node, "spec", "unschedulable"):
        schedule.add(_UNSCHEDULABLE)
    return schedule, execute


def _is_ours(taint: Obj) -> bool:
    keys = {"NoSchedule": _OURS_NO_SCHEDULE, "NoExecute": _OURS_NO_EXECUTE}.get(taint["effect"], set())
    return taint["key"] in keys


def _wanted(taint: Obj, schedule: set[str], execute: set[str]) -> bool:
    return taint["key"] in (schedule if taint["effect"] == "NoSchedule" else execute)


def labels_to_add(node: Obj) -> dict[str, str]:
    """The labels of a node's system under the names that they had in beta, as its stable ones have them."""
    labels = labels_of(node)
    known = {beta: labels[stable] for stable, beta in _BETA_LABELS.items() if stable in labels}
    return {beta: value for beta, value in known.items() if labels.get(beta) != value}


def node_ready(node: Obj) -> str:
    """`True`, `False` or `Unknown`."""
    found = condition(node, "Ready")
    return found.get("status", "Unknown") if found is not None else "Unknown"


def not_ready_conditions(pod: Obj, now: datetime) -> list[Obj] | None:
    """The conditions of a pod whose node is not ready; None where it is not ready itself."""
    if not is_ready(pod):
        return None
    conditions: list[Obj] = pod["status"]["conditions"]
    moment = format_time(now)
    return [
        {**one, "status": "False", "lastTransitionTime": moment} if one["type"] == "Ready" else one
        for one in conditions
    ]


# Carrying them out.


class NodeLifecycleController(Controller):
    """One key is one node. Evicting pods is `TaintEvictionController`'s part."""

    name = "node-lifecycle-controller"
    component = "node-controller"
    workers = 4

    def __init__(
        self,
        client: Client,
        informers: InformerFactory,
        *,
        grace: float = GRACE_SECONDS,
        startup_grace: float = STARTUP_GRACE_SECONDS,
        pace: Pace = _DEFAULT_PACE,
    ) -> None:
        self._grace = grace
        self._startup_grace = startup_grace
        self._heard: dict[str, float] = {}  # node name -> when last heard of, by the steady clock
        self._zones = Zones(pace)
        super().__init__(client, informers)

    def setup(self) -> None:
        self.nodes = self.watch(NODES, itself)
        self.nodes.add_handler(self._hear_node, self._hear_status, self._node_gone)
        self.leases = self.use(LEASES, namespace=LEASE_NAMESPACE)
        self.leases.add_handler(self._hear_lease, self._hear_renewal)
        self.pods = self.use(PODS)
        self.pods.add_index("node", by_node)

    # A sign of life costs a dictionary entry, no more: leases are renewed all the time.

    def _hear_node(self, node: Obj) -> None:
        self._heard.setdefault(name_of(node), time.monotonic())
        self._note_readiness(node)
        self._say(node, "RegisteredNode", f"Registered Node {name_of(node)} in Controller")

    def _hear_status(self, old: Obj, new: Obj) -> None:
        if _heartbeats(new) - _heartbeats(old):
            self._heard[name_of(new)] = time.monotonic()
        self._note_readiness(new)

    def _node_gone(self, node: Obj) -> None:
        self._heard.pop(name_of(node), None)
        self._look_again(self._zones.forget(name_of(node)))
        self._say(node, "RemovingNode", f"Removing Node {name_of(node)} from Controller")

    def _say(self, node: Obj, reason: str, what: str) -> None:
        self.recorder.event(node, "Normal", reason, f"Node {name_of(node)} event: {what}")

    def _note_readiness(self, node: Obj) -> None:
        """Whether pods are evicted from one node depends on how the others are: look again when that turns."""
        self._look_again(self._zones.note(name_of(node), zone_of(node), ready=node_ready(node) == "True"))

    def _look_again(self, names: Iterable[str]) -> None:
        for name in names:
            self.queue.add(name)

    def _hear_lease(self, lease: Obj) -> None:
        self._heard[name_of(lease)] = time.monotonic()

    def _hear_renewal(self, old: Obj, new: Obj) -> None:
        if get_in(old, "spec", "renewTime") != get_in(new, "spec", "renewTime"):
            self._heard[name_of(new)] = time.monotonic()

    async def reconcile(self, key: str) -> float | None:
        node = self.nodes.store.get(key)
        if node is None or is_deleting(node):
            return None
        grace = self._grace if condition(node, "Ready") is not None else max(self._grace, self._startup_grace)
        left = self._heard.get(key, 0.0) + grace - time.monotonic()
        if left <= 0:
            node = await self._declare_unknown(node)
        if labels := labels_to_add(node):
            node = await self.client.patch(NODES, key, {"metadata": {"labels": labels}})
        wait = self._wait_to_evict(node)
        node = await self._write_taints(node, evict=wait == 0.0)
        if node_ready(node) != "True":
            await self._mark_pods(node)
        return min((seconds for seconds in (left, wait) if seconds is not None and seconds > 0), default=None)

    async def _declare_unknown(self, node: Obj) -> Obj:
        conditions = silent_conditions(node, utc_now())
        if conditions == get_in(node, "status", "conditions", default=[]):
            return node
        written = await self.client.update_status(NODES, replace_in(node, conditions, "status", "conditions"))
        self.recorder.event(node, "Normal", "NodeNotReady", f"Node {name_of(node)} status is now: NodeNotReady")
        return written

    def _wait_to_evict(self, node: Obj) -> float | None:
        """Seconds until the node may be given a taint that evicts, or keep the one it has; None while it may not."""
        if not lacks_eviction(node):
            return None if self._zones.all_lost else 0.0
        return self._zones.wait(name_of(node), time.monotonic())

    async def _write_taints(self, node: Obj, *, evict: bool) -> Obj:
        taints = wanted_taints(node, utc_now(), evict=evict)
        if taints == get_in(node, "spec", "taints", default=[]):
            return node
        return await self.client.patch(
            NODES,
            name_of(node),
            {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"]}, "spec": {"taints": taints or None}},
        )

    async def _mark_pods(self, node: Obj) -> None:
        """Services must not send traffic where nobody answers for readiness."""
        for pod in self.pods.store.by_index("node", name_of(node)):
            conditions = not_ready_conditions(pod, utc_now())
            if conditions is None:
                continue
            try:
                await self.client.update_status(PODS, replace_in(pod, conditions, "status", "conditions"))
            except ApiError as error:
                if not (error.is_not_found or error.is_conflict):
                    raise
            else:
                self.recorder.event(pod, "Warning", "NodeNotReady", "Node is not ready")


def by_node(pod: Obj) -> Iterable[str]:
    """Index function: the node a pod is bound to."""
    node = get_in(pod, "spec", "nodeName")
    return (node,) if node else ()


def _heartbeats(node: Obj) -> set[tuple[str, str]]:
    """What only a kubelet changes: each condition's heartbeat."""
    conditions = get_in(node, "status", "conditions", default=())
    return {(one["type"], one.get("lastHeartbeatTime", "")) for one in conditions if one.get("status") != "Unknown"}
