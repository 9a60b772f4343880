"""Counts of pods per topology domain, kept up to date as pods come and go.

Spreading and pod affinity ask nothing else of the pods that are already there, so no rule ever walks over pods. The
smallest and the largest count come from a histogram and cost nothing to ask.
"""

from __future__ import annotations

from collections.abc import Callable

from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodShape


class Counter:
    """How many pods of some kind are in each domain of one topology key, on the nodes that are eligible."""

    __slots__ = ("_eligible", "_levels", "counts", "key", "largest", "matches", "smallest", "total")

    def __init__(
        self,
        key: str,
        matches: Callable[[PodShape], bool],
        eligible: Callable[[NodeInfo], bool] | None = None,
    ) -> None:
        self.key = key
        self.matches = matches  # which pods count
        self._eligible = eligible
        self.counts: dict[str, int] = {}  # by domain; domains of eligible nodes without pods too
        self._levels: dict[int, int] = {}  # count → how many domains have it
        self.smallest = 0  # 0 without domains
        self.largest = 0
        self.total = 0

    def clear(self) -> None:
        self.counts.clear()
        self._levels.clear()
        self.smallest = self.largest = self.total = 0

    def domain_of(self, node: NodeInfo) -> str | None:
        """The node's domain, None where pods on it do not count."""
        domain = node.labels.get(self.key)
        if domain is None or node.removed or (self._eligible is not None and not self._eligible(node)):
            return None
        return domain

    def see(self, node: NodeInfo) -> None:
        """Count a node with all its pods: for building the counts anew."""
        domain = self.domain_of(node)
        if domain is None:
            return
        if domain not in self.counts:
            self.counts[domain] = 0
            self._levels[0] = self._levels.get(0, 0) + 1
            self.smallest = 0
        for pod in node.pods.values():
            if self.matches(pod.shape):
                self._change(domain, 1)

    def add(self, node: NodeInfo, number: int) -> None:
        """A pod that matches came to the node (1) or left it (-1)."""
        domain = self.domain_of(node)
        if domain is not None and domain in self.counts:
            self._change(domain, number)

    def _change(self, domain: str, number: int) -> None:
        levels = self._levels
        old = self.counts[domain]
        new = old + number
        self.counts[domain] = new
        self.total += number
        levels[new] = levels.get(new, 0) + 1
        levels[old] -= 1
        if not levels[old]:
            del levels[old]
            if old == self.smallest or old == self.largest:
                self.smallest, self.largest = min(levels), max(levels)
                return
        if new > self.largest:
            self.largest = new
        elif new < self.smallest:
            self.smallest = new
