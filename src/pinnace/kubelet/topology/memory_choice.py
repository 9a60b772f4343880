"""Which NUMA nodes a container's memory comes from: pure (KEP-1769, the Static policy of the memory manager).

Nodes that serve one container together serve only containers of the same group of nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class MemoryNode:
    """One NUMA node's memory of one kind (`memory` or huge pages), in bytes."""

    allocatable: int
    reserved: int = 0
    group: frozenset[int] = field(default_factory=frozenset)  # the nodes that containers here use together

    @property
    def free(self) -> int:
        return self.allocatable - self.reserved


def free_of(nodes: Mapping[int, MemoryNode], mask: Collection[int]) -> int:
    """What is free on exactly these nodes together; nothing where one of them serves another group."""
    wanted = frozenset(mask)
    if any(nodes[node].group not in (frozenset(), wanted) for node in wanted):
        return 0
    return sum(nodes[node].free for node in wanted)


def reserve(nodes: Mapping[int, MemoryNode], mask: Collection[int], amount: int) -> dict[int, int]:
    """Take the amount from the nodes, one after the other; what was taken from each."""
    taken: dict[int, int] = {}
    for node in sorted(mask):
        part = min(amount, nodes[node].free)
        nodes[node].reserved += part
        nodes[node].group = frozenset(mask)
        taken[node] = part
        amount -= part
    return taken


def release(nodes: Mapping[int, MemoryNode], taken: Mapping[int, int], still_used: Collection[int]) -> None:
    """Give back what `reserve` took; a node that serves nobody any more (not in `still_used`) leaves its group."""
    for node, amount in taken.items():
        nodes[node].reserved -= amount
        if node not in still_used:
            nodes[node].group = frozenset()
