"""Asks everything that may object to a pod on this node, and has others make room for a critical one.

The rules are in `rules`, `containers.sysctls` and `preemption`; a node that goes down or is short of something objects
as well.
"""

from __future__ import annotations

from pinnace.kubelet.admission import preemption, rules
from pinnace.kubelet.admission.rules import Postponed, Refusal
from pinnace.kubelet.containers import sysctls
from pinnace.kubelet.context import Node
from pinnace.kubelet.eviction.manager import EvictionManager
from pinnace.kubelet.eviction.ranking import is_critical
from pinnace.kubelet.node.machine_info import has_apparmor
from pinnace.kubelet.node.shutdown import NodeShutdown
from pinnace.kubelet.resources.qos_cgroups import QosCgroups
from pinnace.kubelet.sync.pod_workers import PodWorkers
from pinnace.machinery.meta import Obj, get_in, uid_of


class Admitter:
    """One node's."""

    def __init__(
        self, node: Node, workers: PodWorkers, shutdown: NodeShutdown, eviction: EvictionManager, qos: QosCgroups
    ) -> None:
        self._node = node
        self._workers = workers
        self._shutdown = shutdown
        self._eviction = eviction
        self._qos = qos

    def admit(self, pod: Obj) -> Refusal | None:
        """Why the node does not take the pod, None where it does. Raises Postponed: it will once others have ended."""
        refusal = self._object(pod)
        if refusal is not None:
            return refusal
        self._make_room(pod)
        others = self._workers.taken(but=uid_of(pod))
        refusal = rules.admit(pod, others, self._node.node_object())
        if refusal is None:
            self._qos.apply(self._node.cgroups, [*others, pod])
        return refusal

    def _object(self, pod: Obj) -> Refusal | None:
        """What is wrong with the pod however much room there is."""
        options = self._node.options
        return (
            self._shutdown.admit(pod)
            or self._eviction.admit(pod)
            or sysctls.forbidden(pod, options.minor, options.allowed_unsafe_sysctls)
            or rules.refuse_apparmor(pod, enabled=has_apparmor())
            or rules.admit(pod, (), self._node.node_object())
        )

    def _make_room(self, pod: Obj) -> None:
        """End others for a critical pod that the node has no room for. Raises Postponed until they have ended."""
        node = self._node.node_object()
        if node is None or not is_critical(pod):
            return
        allocatable = get_in(node, "status", "allocatable", default={})
        others = self._workers.taken(but=uid_of(pod))
        if not preemption.lacking(pod, others, allocatable):
            return
        staying = [one for one in others if not self._workers[uid_of(one)].ending]
        missing = preemption.lacking(pod, staying, allocatable)
        chosen = preemption.victims(pod, staying, missing) if missing else []
        if chosen is None:
            return
        for one in chosen:
            self._node.tell(one, "Warning", preemption.REASON, preemption.MESSAGE)
            preemption.preemptions.inc(",".join(sorted(missing)))
            worker = self._workers[uid_of(one)]
            worker.fail(preemption.REASON, preemption.MESSAGE, disruption=preemption.DISRUPTION)
        raise Postponed
