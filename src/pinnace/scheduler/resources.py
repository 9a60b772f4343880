"""How full a node would be with a pod on it, as a score: the strategies of NodeResourcesFit.

Pure. Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/resource-bin-packing/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pinnace.scheduler.framework import MAX_SCORE
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodShape

CPU_AND_MEMORY = (("cpu", 1), ("memory", 1))
_ORDINARY = ("cpu", "memory", "ephemeral-storage")

Point = tuple[int, int]
"""Utilization in percent, and the score there (0 to 100)."""
ResourceScore = Callable[[int, int], int]
"""The score of one resource, from what would be used and what there is."""


def least_allocated(used: int, capacity: int) -> int:
    return (capacity - used) * MAX_SCORE // capacity if used < capacity else 0


def most_allocated(used: int, capacity: int) -> int:
    return min(used, capacity) * MAX_SCORE // capacity


def requested_to_capacity_ratio(shape: Sequence[Point]) -> ResourceScore:
    """By the line through the points; before the first and after the last it is level."""

    def score(used: int, capacity: int) -> int:
        return _on_line(shape, min(used, capacity) * 100 // capacity)

    return score


def _on_line(shape: Sequence[Point], utilization: int) -> int:
    for index, (end, high) in enumerate(shape):
        if utilization <= end:
            if index == 0:
                return high
            start, low = shape[index - 1]
            return low + int((high - low) * (utilization - start) / (end - start))
    return shape[-1][1]


@dataclass(frozen=True, slots=True)
class Strategy:
    """How the resources of a node add up to its score: in proportion to their weights."""

    score: ResourceScore = least_allocated
    weights: tuple[tuple[str, int], ...] = CPU_AND_MEMORY  # by resource
    skip_zero: bool = False  # resources with the lowest score do not count at all

    def score_of(self, shape: PodShape, node: NodeInfo) -> int:
        total = weights = 0
        for resource, weight in self.weights:
            capacity = node.allocatable.get(resource, 0)
            wanted = shape.scoring_requests.get(resource, 0)
            if not capacity or (not wanted and resource not in _ORDINARY):
                continue
            score = self.score(node.scoring_requested.get(resource, 0) + wanted, capacity)
            if score or not self.skip_zero:
                total += score * weight
                weights += weight
        if not weights:
            return 0
        return round(total / weights) if self.skip_zero else total // weights
