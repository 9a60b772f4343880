"""Topology hints: which NUMA nodes could serve a request, and what several requests agree on; pure.

https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/ says what the policies admit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import combinations, product
from typing import NamedTuple

NONE, BEST_EFFORT, RESTRICTED, SINGLE = "none", "best-effort", "restricted", "single-numa-node"
POLICIES = (NONE, BEST_EFFORT, RESTRICTED, SINGLE)

Nodes = frozenset[int]
Distances = Mapping[tuple[int, int], int]
"""How far one NUMA node is from another, as the kernel counts: 10 to itself."""


class Hint(NamedTuple):
    """NUMA nodes that would do; None: any. `preferred`: there are no fewer that would."""

    nodes: Nodes | None
    preferred: bool


def hints(
    numa_nodes: Collection[int], capacity: Callable[[Nodes], int], free: Callable[[Nodes], int], needed: int
) -> list[Hint]:
    """Every set of nodes with enough that is free; preferred are those no larger than an empty machine would need."""
    masks = [
        frozenset(chosen) for size in range(1, len(numa_nodes) + 1) for chosen in combinations(sorted(numa_nodes), size)
    ]
    smallest = min((len(mask) for mask in masks if capacity(mask) >= needed), default=len(numa_nodes))
    return [Hint(mask, len(mask) == smallest) for mask in masks if free(mask) >= needed]


def merge(
    offers: Sequence[Sequence[Hint] | None],
    numa_nodes: Collection[int],
    policy: str,
    distances: Distances | None = None,
) -> tuple[Hint, bool]:
    """What all providers agree on, and whether the policy admits it. None: the provider does not mind.

    With `distances`, of sets with as many nodes that one wins whose nodes are the nearest to each other.
    """
    everywhere = frozenset(numa_nodes)
    if policy == NONE:
        return Hint(None, True), True
    # a provider that has no way to serve the request is satisfied by nothing that is preferred
    listed = [[Hint(None, True)] if offer is None else list(offer) or [Hint(None, False)] for offer in offers]
    if policy == SINGLE:
        listed = [
            [hint for hint in offer if hint.preferred and (hint.nodes is None or len(hint.nodes) == 1)]
            or [Hint(None, False)]
            for offer in listed
        ]
    best: Hint | None = None
    enough = max((min(len(hint.nodes or ()) for hint in offer) for offer in listed), default=0)
    for chosen in product(*listed):
        nodes = everywhere
        for hint in chosen:
            nodes &= hint.nodes if hint.nodes is not None else everywhere
        # nodes that serve one request and not the other are no common ground
        same = len({hint.nodes for hint in chosen if hint.nodes is not None}) <= 1
        found = Hint(nodes, same and all(hint.preferred for hint in chosen))
        if nodes and (best is None or _better(found, best, enough, distances)):
            best = found
    best = best or Hint(everywhere, False)
    if policy == SINGLE and best.nodes == everywhere and len(everywhere) > 1:
        best = Hint(None, best.preferred)
    admitted = policy == BEST_EFFORT or best.preferred
    return best, admitted


def _better(one: Hint, other: Hint, enough: int, distances: Distances | None) -> bool:
    """Whether a hint is better than the best so far; `enough` is how many nodes the neediest provider must have."""
    if one.preferred != other.preferred:
        return one.preferred
    sizes = len(one.nodes or ()), len(other.nodes or ())
    if one.preferred or sizes[1] > enough or sizes[0] == sizes[1]:
        return _narrower(one.nodes or frozenset(), other.nodes or frozenset(), distances)
    return sizes[1] < sizes[0] <= enough  # nodes enough, though they are not the best ones


def _narrower(one: Nodes, other: Nodes, distances: Distances | None) -> bool:
    if len(one) != len(other):
        return len(one) < len(other)
    if distances is not None and (near := _distance(one, distances)) != (far := _distance(other, distances)):
        return near < far
    return _number(one) < _number(other)


def _distance(nodes: Nodes, distances: Distances) -> float:
    """The average between any two of the nodes, each with itself, too."""
    return sum(distances[one, other] for one in nodes for other in nodes) / max(1, len(nodes) ** 2)


def _number(nodes: Nodes) -> int:
    """Smaller for sets of nodes with lower numbers."""
    return sum(1 << node for node in nodes)
