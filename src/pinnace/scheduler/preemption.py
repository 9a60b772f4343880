"""Whom a pod that fits nowhere may ask to leave, and on which node that does the least harm.

Pure functions over the scheduler's picture of the cluster. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/#preemption and, for budgets, by
https://kubernetes.io/docs/tasks/run-application/configure-pdb/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pinnace.machinery.meta import Obj
from pinnace.machinery.selectors import LabelSelector
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.framework import Rejection
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo
from pinnace.scheduler.supposition import Supposition

NOT_HELPFUL = Rejection(("Preemption is not helpful for scheduling",), resolvable=False)
NO_VICTIMS = Rejection(("No preemption victims found for incoming pod",), resolvable=False)
_LOWEST_PRIORITY = -(1 << 31)

Fits = Callable[[NodeInfo], Rejection | None]
"""Why the preemptor cannot run on a node as the cluster is (supposed to be), None if it can."""
Started = Callable[[PodInfo], datetime]
"""When a pod was started."""


@dataclass(slots=True)
class Budget:
    """A PodDisruptionBudget, as far as preemption respects it."""

    namespace: str
    selector: LabelSelector
    disrupted: frozenset[str]  # names of pods that count as disrupted already
    allowed: int

    @classmethod
    def of(cls, pdb: Obj) -> Budget | None:
        """None for one that selects nothing."""
        selector = pdb["spec"].get("selector")
        if not selector or not any(selector.values()):
            return None
        status = pdb.get("status") or {}
        return cls(
            pdb["metadata"].get("namespace", ""),
            LabelSelector.from_json(selector),
            frozenset(status.get("disruptedPods") or ()),
            status.get("disruptionsAllowed") or 0,
        )

    def covers(self, pod: PodInfo) -> bool:
        if pod.namespace != self.namespace or not pod.shape.labels or pod.name in self.disrupted:
            return False
        return self.selector.matches(pod.shape.labels)


class Victim(NamedTuple):
    pod: PodInfo
    started: datetime


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node that would be free for the preemptor without these pods, the most important one first."""

    node_name: str
    victims: tuple[Victim, ...]
    violations: int  # how many of them leave against a budget

    def agreed(self, uids: frozenset[str], violations: int) -> Candidate:
        """The same with those victims alone that an extender agrees to."""
        return Candidate(self.node_name, tuple(victim for victim in self.victims if victim.pod.uid in uids), violations)


def by_importance(victims: Iterable[Victim]) -> list[Victim]:
    """The more important first: of higher priority, then longer at work."""
    return sorted(victims, key=lambda victim: (-victim.pod.priority, victim.started))


def split_by_budgets(victims: Iterable[Victim], budgets: Iterable[Budget]) -> tuple[list[Victim], list[Victim]]:
    """Those whose leaving a budget forbids once those before them left, and the others; in the order given."""
    counted = list(budgets)
    left = [budget.allowed for budget in counted]
    violating: list[Victim] = []
    allowed: list[Victim] = []
    for victim in victims:
        over = False
        for index, budget in enumerate(counted):
            if budget.covers(victim.pod):
                left[index] -= 1
                over = over or left[index] < 0
        (violating if over else allowed).append(victim)
    return violating, allowed


def victims_on(
    node: NodeInfo, preemptor: PodInfo, cache: Cache, fits: Fits, budgets: Sequence[Budget], started: Started
) -> Candidate | Rejection:
    """The fewest pods that must leave a node; why it is of no use when even all of lower priority are not enough."""
    lower = [pod for pod in node.pods.values() if pod.priority < preemptor.priority]
    if not lower:
        return NO_VICTIMS
    with Supposition(cache, node) as supposed:
        for pod in lower:
            supposed.take_away(pod)
        rejection = fits(node)
        if rejection is not None:
            return rejection
        violating, allowed = split_by_budgets(by_importance(Victim(pod, started(pod)) for pod in lower), budgets)

        def must_leave(victim: Victim) -> bool:
            supposed.put_back(victim.pod)
            if fits(node) is None:
                return False
            supposed.take_away(victim.pod)
            return True

        against = [victim for victim in violating if must_leave(victim)]
        others = [victim for victim in allowed if must_leave(victim)]
    return Candidate(node.name, tuple(by_importance([*against, *others])), len(against))


def harm(candidate: Candidate) -> tuple[float, ...]:
    """What candidates are compared by, in this order; the smallest is taken."""
    victims = candidate.victims
    if not victims:
        return (candidate.violations, _LOWEST_PRIORITY, 0, 0, 0.0)
    highest = victims[0].pod.priority
    return (
        candidate.violations,
        highest,
        sum(victim.pod.priority - _LOWEST_PRIORITY for victim in victims),
        len(victims),
        -min(victim.started for victim in victims if victim.pod.priority == highest).timestamp(),
    )


def least_harmful(candidates: Sequence[Candidate]) -> Candidate:
    """The node to free: fewest budgets violated, lowest top priority, smallest sum, fewest victims, youngest."""
    return min(candidates, key=harm)


def candidates_wanted(nodes: int, percentage: int = 10, absolute: int = 100) -> int:
    """How many candidates are enough to choose from."""
    return min(max(nodes * percentage // 100, absolute), nodes)
