"""Topology hints: which NUMA nodes could serve a request, and what several requests agree on; pure.

https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/ says what the policies admit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import combinations, product
from typing import NamedTuple

NONE, BEST_EFFORT, RESTRICTED, SINGLE = "none", "best-effort", "restricted", "single-numa-node"
POLICIES = (NONE, BEST_EFFORT, RESTRICTED, SINGLE)

Nodes = frozenset[int]


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


def merge(offers: Sequence[Sequence[Hint] | None], numa_nodes: Collection[int], policy: str) -> tuple[Hint, bool]:
    """What all providers agree on, and whether the policy admits it. None: the provider does not mind."""
    everywhere = frozenset(numa_nodes)
    if policy == NONE:
        return Hint(None, True), True
    # a provider that has no way to serve the request is satisfied by nothing that is preferred
    listed = [[Hint(None, True)] if offer is None else list(offer) or [Hint(None, False)] for offer in offers]
    if policy == SINGLE:
        listed = [
            [hint for hint in offer if hint.nodes is None or len(hint.nodes) == 1] or [Hint(None, False)]
            for offer in listed
        ]
    best = Hint(everywhere, False)
    for chosen in product(*listed):
        nodes = everywhere
        for hint in chosen:
            nodes &= hint.nodes if hint.nodes is not None else everywhere
        # nodes that serve one request and not the other are no common ground
        same = len({hint.nodes for hint in chosen if hint.nodes is not None}) <= 1
        found = Hint(nodes, same and all(hint.preferred for hint in chosen))
        if nodes and _better(found, best):
            best = found
    if policy == SINGLE and best.nodes == everywhere and len(everywhere) > 1:
        best = Hint(None, best.preferred)
    admitted = policy == BEST_EFFORT or best.preferred
    return best, admitted


def _better(one: Hint, other: Hint) -> bool:
    if one.preferred != other.preferred:
        return one.preferred
    return len(one.nodes or ()) < len(other.nodes or ())
