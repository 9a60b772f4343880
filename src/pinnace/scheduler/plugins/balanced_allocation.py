"""Prefers nodes whose CPU and memory would be used in equal shares."""

from __future__ import annotations

from pinnace.scheduler.cache import Cache
from pinnace.scheduler.framework import MAX_SCORE, Normalization, Scope
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.plugins.node_resources_fit import SCORED
from pinnace.scheduler.pod import PodShape


class NodeResourcesBalancedAllocation:
    name = "NodeResourcesBalancedAllocation"
    scope = Scope.PODS
    weight = 1
    normalization = Normalization.NONE

    def scores(self, shape: PodShape) -> bool:
        return any(resource in shape.requests for resource in SCORED)

    def score(self, shape: PodShape, node: NodeInfo, cache: Cache) -> int:  # noqa: ARG002
        """MAX_SCORE less the standard deviation of the shares in use."""
        shares = []
        for resource in SCORED:
            capacity = node.allocatable.get(resource, 0)
            if capacity:
                used = node.requested.get(resource, 0) + shape.requests.get(resource, 0)
                shares.append(min(used / capacity, 1.0))
        deviation = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else 0.0
        return int((1 - deviation) * MAX_SCORE)
