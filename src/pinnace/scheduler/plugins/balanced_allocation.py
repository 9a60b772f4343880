"""Prefers nodes whose CPU and memory would be used in equal shares."""

from __future__ import annotations

import math
from collections.abc import Collection

from pinnace.scheduler.cache import Cache
from pinnace.scheduler.framework import MAX_SCORE, Normalization, Scope
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodShape


class NodeResourcesBalancedAllocation:
    name = "NodeResourcesBalancedAllocation"
    scope = Scope.PODS
    weight = 1
    normalization = Normalization.NONE

    def __init__(self, resources: Collection[str] = ("cpu", "memory")) -> None:
        self._resources = tuple(resources)

    def scores(self, shape: PodShape) -> bool:
        return any(resource in shape.requests for resource in self._resources)

    def score(self, shape: PodShape, node: NodeInfo, cache: Cache) -> int:  # noqa: ARG002
        """MAX_SCORE less the standard deviation of the shares in use."""
        shares = []
        for resource in self._resources:
            capacity = node.allocatable.get(resource, 0)
            if capacity:
                used = node.requested.get(resource, 0) + shape.requests.get(resource, 0)
                shares.append(min(used / capacity, 1.0))
        if len(shares) == 2:
            deviation = abs(shares[0] - shares[1]) / 2
        elif shares:
            mean = sum(shares) / len(shares)
            deviation = math.sqrt(sum((share - mean) ** 2 for share in shares) / len(shares))
        else:
            deviation = 0.0
        return int((1 - deviation) * MAX_SCORE)
