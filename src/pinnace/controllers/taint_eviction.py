"""Deletes pods from nodes whose NoExecute taints they do not tolerate, or tolerate no longer.

Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/#taint-based-evictions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from pinnace.apis.core.node_selection import tolerates
from pinnace.apis.resources import NODES, PODS
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.controllers.conditions import with_condition
from pinnace.controllers.node_lifecycle import by_node
from pinnace.controllers.pods import is_finished
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import (
    Obj,
    format_time,
    get_in,
    is_deleting,
    key_of,
    name_of,
    namespace_of,
    parse_time,
    replace_in,
    uid_of,
    utc_now,
)

# Decisions.


def evicted_at(pod: Obj, taints: Iterable[Obj], seen: datetime) -> datetime | None:
    """When a pod that was `seen` beside these NoExecute taints must go because of them; None while it may stay."""
    tolerations: Sequence[Obj] = get_in(pod, "spec", "tolerations", default=())
    moments = []
    for taint in taints:
        fitting = [one for one in tolerations if tolerates(one, taint)]
        if not fitting:
            return seen
        limits = [one["tolerationSeconds"] for one in fitting if one.get("tolerationSeconds") is not None]
        if limits:
            since = parse_time(taint["timeAdded"]) if taint.get("timeAdded") else seen
            moments.append(since + timedelta(seconds=max(0, min(limits))))
    return min(moments, default=None)


def no_execute(node: Obj) -> list[Obj]:
    taints = get_in(node, "spec", "taints", default=())
    return [taint for taint in taints if taint.get("effect") == "NoExecute"]


# Carrying them out.


class TaintEvictionController(Controller):
    """One key is one pod."""

    name = "taint-eviction-controller"

    def setup(self) -> None:
        self._marked: dict[str, datetime] = {}  # pods that are to go at some time, and since when
        self.nodes = self.use(NODES)
        self.nodes.add_handler(self._node_added, self._node_changed)
        self.pods = self.use(PODS)
        self.pods.add_index("node", by_node)
        self.pods.add_handler(self._pod_placed, lambda _, new: self._pod_placed(new), self._pod_gone)

    def _node_added(self, node: Obj) -> None:
        if no_execute(node):
            self._look_at_pods(node)

    def _node_changed(self, old: Obj, new: Obj) -> None:
        if no_execute(old) != no_execute(new):
            self._look_at_pods(new)

    def _look_at_pods(self, node: Obj) -> None:
        for pod in self.pods.store.by_index("node", name_of(node)):
            self.queue.add(key_of(pod))

    def _pod_placed(self, pod: Obj) -> None:
        node = self.nodes.store.get(get_in(pod, "spec", "nodeName", default=""))
        if node is not None and no_execute(node):
            self.queue.add(key_of(pod))

    def _pod_gone(self, pod: Obj) -> None:
        self._marked.pop(key_of(pod), None)

    async def reconcile(self, key: str) -> float | None:
        pod = self.pods.store.get(key)
        node = self.nodes.store.get(get_in(pod, "spec", "nodeName", default=""))
        if pod is None or node is None or is_deleting(pod) or is_finished(pod):
            return None
        seen = self._marked.get(key) or utc_now()
        due = evicted_at(pod, no_execute(node), seen)
        if due is None:
            self._unmark(pod)
            return None
        self._marked.setdefault(key, seen)
        left = (due - utc_now()).total_seconds()
        if left > 0:
            return left
        self.recorder.event(pod, "Normal", "TaintManagerEviction", f"Marking for deletion Pod {key}")
        why = "Taint manager: deleting due to NoExecute taint"
        await evict(self.client, pod, "DeletionByTaintManager", why)
        return None

    def _unmark(self, pod: Obj) -> None:
        if self._marked.pop(key_of(pod), None) is not None:
            self.recorder.event(pod, "Normal", "TaintManagerEviction", f"Cancelling deletion of Pod {key_of(pod)}")


async def evict(client: Client, pod: Obj, reason: str, message: str) -> None:
    """Delete a pod, and say in its status, for who looks at it meanwhile, why."""
    target = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": format_time(utc_now()),
    }
    conditions = with_condition(get_in(pod, "status", "conditions", default=()), target)
    try:
        await client.update_status(PODS, replace_in(pod, conditions, "status", "conditions"))
        await client.delete(PODS, name_of(pod), namespace_of(pod), uid=uid_of(pod))
    except ApiError as error:
        if not error.is_not_found:
            raise
