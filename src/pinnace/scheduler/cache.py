"""The cluster as the scheduler sees it: nodes with their pods, assumed ones among them, and counts per topology domain.

A pod is assumed on its node from the decision until the API server shows it bound, so that the next decision counts it.
`changes` is a log of nodes that changed: whoever caches judgements reads on from where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from weakref import WeakKeyDictionary

from pinnace.machinery.meta import Obj
from pinnace.scheduler.events import Action
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import AffinityTerm, PodInfo, PodShape
from pinnace.scheduler.topology import Counter

LOG_LENGTH = 20_000


class Cache:
    """Nodes, pods and counters. Every method is cheap; none waits."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeInfo] = {}  # those that exist
        self.namespaces: dict[str, dict[str, str]] = {}  # labels by name
        self.image_nodes: dict[str, int] = {}  # image name → how many nodes have it
        self.changes: list[NodeInfo] = []
        self.changes_dropped = 0  # how many entries of the log are gone
        self.claim_users: dict[str, int] = {}  # how many pods there are that use a PersistentVolumeClaim
        self.storage_version = 0  # changes with claims, volumes, devices and all that is known of them
        self.volumes_version = 0  # changes with these, and with who uses them
        self.terms_version = 0  # changes when pods bring affinity terms that were not there before
        self._known: dict[str, NodeInfo] = {}  # also nodes that pods name but that do not exist
        self._pods: dict[str, tuple[PodInfo, NodeInfo]] = {}
        self._assumed: set[str] = set()
        self._counters: dict[Hashable, Counter] = {}
        self._counters_by_shape: WeakKeyDictionary[PodShape, tuple[Counter, ...]] = WeakKeyDictionary()
        self._stale_counters = False
        self._terms: dict[
            tuple[str, AffinityTerm], int
        ] = {}  # affinity terms of the pods there are, how many pods have each

    def sizes(self) -> Iterable[tuple[tuple[str, ...], float]]:
        """How much is known, by kube-scheduler's names."""
        figures = {"nodes": len(self.nodes), "pods": len(self._pods), "assumed_pods": len(self._assumed)}
        return [((name,), float(number)) for name, number in figures.items()]

    # Nodes.

    def set_node(self, obj: Obj) -> Action:
        """A node was added or changed; what changed of what matters here."""
        name = obj["metadata"]["name"]
        node = self._node(name)
        spec_version, images = node.spec_version, node.images
        changed = node.take(obj)
        if not changed:
            return changed
        self.nodes[name] = node
        self._log(node)
        if node.spec_version != spec_version:
            self._stale_counters = True
            self._count_images(images, node.images)
        return changed

    def remove_node(self, name: str) -> NodeInfo | None:
        """A node is gone; what was known of it."""
        node = self.nodes.pop(name, None)
        if node is None:
            return None
        node.removed = True
        node.version += 1
        node.spec_version += 1
        self._count_images(node.images, {})
        self._stale_counters = True
        self._log(node)
        if not node.pods:
            del self._known[name]
        return node

    def _node(self, name: str) -> NodeInfo:
        node = self._known.get(name)
        if node is None:
            node = self._known[name] = NodeInfo(name)
        return node

    def _count_images(self, before: dict[str, int], after: dict[str, int]) -> None:
        for names, number in ((before, -1), (after, 1)):
            for name in names:
                self.image_nodes[name] = self.image_nodes.get(name, 0) + number

    def _log(self, node: NodeInfo) -> None:
        self.changes.append(node)
        if len(self.changes) > LOG_LENGTH:
            drop = LOG_LENGTH // 2
            del self.changes[:drop]
            self.changes_dropped += drop

    # Pods.

    def assume(self, pod: PodInfo, node_name: str) -> None:
        """Count a pod on its node before the API server says so."""
        self._assumed.add(pod.key)
        self._place(pod, node_name)

    def is_assumed(self, key: str) -> bool:
        return key in self._assumed

    def forget(self, key: str) -> None:
        """An assumed pod could not be bound."""
        if key in self._assumed:
            self.remove_pod(key)

    def add_pod(self, pod: PodInfo) -> bool:
        """A pod is bound to `pod.node_name`; whether that was news."""
        self._assumed.discard(pod.key)
        present = self._pods.get(pod.key)
        if present is not None:
            known, node = present
            if known.shape is pod.shape and known.uid == pod.uid and node.name == pod.node_name:
                return False
            self._displace(known, node)
        self._place(pod, pod.node_name)
        return True

    def remove_pod(self, key: str) -> PodInfo | None:
        """A pod is gone, or holds nothing any more; what was counted of it."""
        self._assumed.discard(key)
        present = self._pods.get(key)
        if present is None:
            return None
        self._displace(*present)
        return present[0]

    def node_of(self, key: str) -> str:
        """Where a pod is counted; empty: nowhere."""
        present = self._pods.get(key)
        return present[1].name if present else ""

    def _place(self, pod: PodInfo, node_name: str) -> None:
        node = self._node(node_name)
        node.add(pod)
        self._pods[pod.key] = pod, node
        self._count(pod.shape, node, 1)
        self._log(node)

    def _displace(self, pod: PodInfo, node: NodeInfo) -> None:
        del self._pods[pod.key]
        node.remove(pod)
        self._count(pod.shape, node, -1)
        self._log(node)
        if node.removed and not node.pods:
            self._known.pop(node.name, None)

    # Counts per topology domain.

    def _count(self, shape: PodShape, node: NodeInfo, number: int) -> None:
        for term in terms_of(shape):
            have = self._terms.get(term, 0) + number
            if have:
                self._terms[term] = have
                if have == number == 1:
                    self.terms_version += 1
            else:
                del self._terms[term]
                self.terms_version += 1
        if shape.claims:
            self.count_claims(shape, number)
        if self._counters and not self._stale_counters:
            for counter in self.counters_of(shape):
                counter.add(node, number)

    def storage_changed(self) -> None:
        """A claim, a volume or what else says something of storage changed, or is about to."""
        self.storage_version += 1
        self.volumes_version += 1

    def count_claims(self, shape: PodShape, number: int) -> None:
        """A pod that uses claims came (1) or left (-1)."""
        self.volumes_version += 1
        for claim in shape.claims:
            users = self.claim_users[claim] = self.claim_users.get(claim, 0) + number
            if not users:
                del self.claim_users[claim]

    def counters_of(self, shape: PodShape) -> tuple[Counter, ...]:
        """The counters that count pods of that shape."""
        counters = self._counters_by_shape.get(shape)
        if counters is None:
            counters = tuple(counter for counter in self._counters.values() if counter.matches(shape))
            self._counters_by_shape[shape] = counters
        return counters

    def counter(
        self,
        identity: Hashable,
        key: str,
        matches: Callable[[PodShape], bool],
        eligible: Callable[[NodeInfo], bool] | None = None,
    ) -> Counter:
        """The counter of that identity, made and filled on first use."""
        counter = self._counters.get(identity)
        if counter is None:
            counter = self._counters[identity] = Counter(key, matches, eligible)
            self._counters_by_shape.clear()
            if not self._stale_counters:
                self._fill(counter)
        return counter

    def refresh_counters(self) -> bool:
        """Bring the counters up to date after nodes changed; whether they had to be."""
        if not self._stale_counters:
            return False
        self._stale_counters = False
        for counter in self._counters.values():
            self._fill(counter)
        return True

    def _fill(self, counter: Counter) -> None:
        counter.clear()
        for node in self.nodes.values():
            counter.see(node)

    def siblings_changed(self) -> None:
        """Services or owners select other pods than before, so default spreading may count others."""
        self.terms_version += 1

    def set_namespace(self, name: str, labels: dict[str, str] | None) -> bool:
        """A namespace has these labels (None: it is gone); whether affinity terms may now match other pods."""
        before = self.namespaces.get(name)
        if labels is None:
            self.namespaces.pop(name, None)
        else:
            self.namespaces[name] = labels
        if before == labels:
            return False
        self._counters.clear()  # those still needed are made again
        self._counters_by_shape.clear()
        self.terms_version += 1
        return True

    @property
    def terms(self) -> list[tuple[str, AffinityTerm]]:
        """The affinity terms that the pods there are bring along, as `terms_of` gives them."""
        return list(self._terms)


def terms_of(shape: PodShape) -> list[tuple[str, AffinityTerm]]:
    """The terms of a pod that bear on pods to come: what kind (`required`, `anti`, `preferred`), and the term."""
    if not (shape.affinity or shape.anti_affinity or shape.preferred_affinity):
        return []
    return [
        *(("required", term) for term in shape.affinity),
        *(("anti", term) for term in shape.anti_affinity),
        *(("preferred", term) for term in shape.preferred_affinity),
    ]
