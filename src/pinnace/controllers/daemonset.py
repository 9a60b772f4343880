"""Keeps one pod of a DaemonSet on every node that fits, and carries those pods from one template to the next.

What should come and go is decided in `daemon_pods.py`, templates of the past are kept by `revisions.py`. Specified by
https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pinnace.apis.resources import CONTROLLER_REVISIONS, DAEMON_SETS, NODES, PODS
from pinnace.client.controller import Controller, itself
from pinnace.client.store import by_namespace
from pinnace.controllers import daemon_pods
from pinnace.controllers.daemon_pods import ByNode, Step
from pinnace.controllers.expectations import Expectations
from pinnace.controllers.ownership import by_claim, claim_all, claimable
from pinnace.controllers.pod_control import BURST, PodControl
from pinnace.controllers.pods import phase
from pinnace.controllers.replicaset import next_available
from pinnace.controllers.revisions import HASH_LABEL, current_revision, delete_surplus, surplus
from pinnace.machinery.meta import (
    Obj,
    controller_of,
    get_in,
    is_deleting,
    key_of,
    labels_of,
    name_of,
    namespace_of,
    replace_in,
    uid_of,
    utc_now,
)
from pinnace.machinery.selectors import LabelSelector

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 900.0  # seconds before a failed pod is replaced, doubling


@dataclass(slots=True)
class _Pause:
    seconds: float
    since: float  # time.monotonic() of the last failure


class FailureBackoff:
    """How long failed pods of a DaemonSet stay on a node before they are replaced.

    This is the one thing not read from the API: a restart begins with short pauses again.
    """

    def __init__(self) -> None:
        self._pauses: dict[tuple[str, str], _Pause] = {}

    def left(self, key: str, node: str, now: float) -> float:
        """Seconds until a failed pod may be replaced."""
        pause = self._pauses.get((key, node))
        return max(0.0, pause.since + pause.seconds - now) if pause is not None else 0.0

    def failed(self, key: str, node: str, now: float) -> None:
        """A failed pod is being replaced: the next one will wait for longer, unless it lasts."""
        pause = self._pauses.get((key, node))
        if pause is None or now - pause.since > 2 * _LONGEST_PAUSE:
            self._pauses[key, node] = _Pause(_FIRST_PAUSE, now)
        else:
            self._pauses[key, node] = _Pause(min(2 * pause.seconds, _LONGEST_PAUSE), now)

    def forget(self, key: str) -> None:
        for known in [known for known in self._pauses if known[0] == key]:
            del self._pauses[known]


class DaemonSetController(Controller):
    """One key is one DaemonSet."""

    name = "daemonset-controller"

    def setup(self) -> None:
        self._failures = FailureBackoff()
        self.daemon_sets = self.watch(DAEMON_SETS, itself)
        self.daemon_sets.add_index("namespace", by_namespace)
        self.revisions = self.watch(CONTROLLER_REVISIONS, self._owners_of)
        self.revisions.add_index("claim", by_claim)
        self.pods = self.watch(PODS, self._owners_of)
        self.pods.add_index("claim", by_claim)
        self.nodes = self.use(NODES)
        self.nodes.add_handler(self._node_came_or_went, self._node_changed, self._node_came_or_went)
        self.expectations = Expectations(self.pods)
        self._control = PodControl(self.client, self.recorder, self.expectations)

    def _owners_of(self, obj: Obj) -> Iterable[str]:
        """The owner of a pod or revision, or those that may want to adopt it."""
        owner = controller_of(obj)
        if owner is not None:
            return (f"{namespace_of(obj)}/{owner['name']}",) if owner["kind"] == "DaemonSet" else ()
        labels = labels_of(obj)
        candidates = self.daemon_sets.store.by_index("namespace", namespace_of(obj))
        return [key_of(candidate) for candidate in candidates if _selector(candidate).matches(labels)]

    def _node_came_or_went(self, _: Obj) -> None:
        for daemon_set in self.daemon_sets.store.list():
            self.queue.add(key_of(daemon_set))

    def _node_changed(self, old: Obj, new: Obj) -> None:
        """Heartbeats change nothing here; labels and taints may."""
        if labels_of(old) == labels_of(new) and get_in(old, "spec", "taints") == get_in(new, "spec", "taints"):
            return
        for daemon_set in self.daemon_sets.store.list():
            if daemon_pods.fit(daemon_set, old) != daemon_pods.fit(daemon_set, new):
                self.queue.add(key_of(daemon_set))

    async def reconcile(self, key: str) -> float | None:
        daemon_set = self.daemon_sets.store.get(key)
        if daemon_set is None:
            self.expectations.forget(key)
            self._failures.forget(key)
            return None
        if is_deleting(daemon_set):
            return None
        in_step = self.expectations.satisfied(key)
        revision, old = await self._revisions(daemon_set)
        digest = labels_of(revision)[HASH_LABEL]
        pods = await self._claim(daemon_set)
        nodes = self.nodes.store.list()
        wait: float | None = None
        if in_step:
            wait = await self._manage(daemon_set, nodes, pods, digest)
            if daemon_pods.is_rolling(daemon_set) and self.expectations.satisfied(key):
                step = daemon_pods.roll(daemon_set, nodes, pods, digest, utc_now())
                await self._carry_out(daemon_set, step, digest)
            live = {labels_of(pod).get(HASH_LABEL) for there in pods.values() for pod in there}
            names = {name_of(one) for one in old if labels_of(one).get(HASH_LABEL) in live}
            await delete_surplus(self.client, surplus(old, get_in(daemon_set, "spec", "revisionHistoryLimit"), names))
        await self._write_status(daemon_set, nodes, pods, digest)
        everyone = [pod for there in pods.values() for pod in there]
        waits = [wait, next_available(everyone, daemon_pods.min_ready(daemon_set), utc_now())]
        return min((one for one in waits if one is not None), default=None)

    async def _revisions(self, daemon_set: Obj) -> tuple[Obj, list[Obj]]:
        """The revision of the present template, and all others."""
        candidates = claimable(self.revisions.store, daemon_set)
        selector = _selector(daemon_set)
        owned = await claim_all(self.client, DAEMON_SETS, daemon_set, selector, CONTROLLER_REVISIONS, candidates)
        current = await current_revision(self.client, DAEMON_SETS, daemon_set, owned, HASH_LABEL)
        return current, [one for one in owned if uid_of(one) != uid_of(current)]

    async def _claim(self, daemon_set: Obj) -> ByNode:
        candidates = claimable(self.pods.store, daemon_set)
        pods = await claim_all(self.client, DAEMON_SETS, daemon_set, _selector(daemon_set), PODS, candidates)
        return daemon_pods.by_node(pods)

    async def _manage(self, daemon_set: Obj, nodes: Sequence[Obj], pods: ByNode, digest: str) -> float | None:
        """See to one pod a node; seconds until a failed one may be replaced."""
        key, now = key_of(daemon_set), time.monotonic()
        waits: list[float] = []

        def held(pod: Obj) -> bool:
            left = self._failures.left(key, daemon_pods.target_node(pod), now)
            if left > 0:
                waits.append(left)
            return left > 0

        step = daemon_pods.manage(daemon_set, nodes, pods, digest, utc_now(), held)
        for pod in step.ended:
            self._say_ended(daemon_set, pod, now)
        await self._carry_out(daemon_set, step, digest)
        return min(waits, default=None)

    def _say_ended(self, daemon_set: Obj, pod: Obj, now: float) -> None:
        node = daemon_pods.target_node(pod)
        where = f"daemon pod {namespace_of(pod)}/{name_of(pod)} on node {node}, will try to"
        if phase(pod) == "Failed":
            self._failures.failed(key_of(daemon_set), node, now)
            self.recorder.event(daemon_set, "Warning", "FailedDaemonPod", f"Found failed {where} kill it")
        else:
            self.recorder.event(daemon_set, "Normal", "SucceededDaemonPod", f"Found succeeded {where} delete it")

    async def _carry_out(self, daemon_set: Obj, step: Step, digest: str) -> None:
        nodes = step.nodes[:BURST]
        _, creating = await self._control.create(
            daemon_set, lambda number: daemon_pods.make_pod(daemon_set, nodes[number], digest), len(nodes)
        )
        deleting = await self._control.delete(daemon_set, step.doomed[:BURST])
        if error := creating or deleting:
            raise error

    async def _write_status(self, daemon_set: Obj, nodes: Sequence[Obj], pods: ByNode, digest: str) -> None:
        status = daemon_pods.status_of(daemon_set, nodes, pods, digest, utc_now())
        if status != (daemon_set.get("status") or {}):
            await self.client.update_status(DAEMON_SETS, replace_in(daemon_set, status, "status"))


def _selector(daemon_set: Obj) -> LabelSelector:
    return LabelSelector.from_json(get_in(daemon_set, "spec", "selector", default={}))
