"""What if: pods taken off a node and put back in thought, while every filter sees the cluster so."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from pinnace.scheduler.cache import Cache
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.pod import PodInfo


class Supposition:
    """Within `with`, pods of one node may be absent; afterwards all is as it was, down to the node's version."""

    def __init__(self, cache: Cache, node: NodeInfo) -> None:
        self._cache = cache
        self._node = node
        self._absent: dict[str, PodInfo] = {}

    def __enter__(self) -> Self:
        self._cache.refresh_counters()
        self._version = self._node.version
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pod in list(self._absent.values()):
            self.put_back(pod)
        self._node.version = self._version

    def take_away(self, pod: PodInfo) -> None:
        self._absent[pod.key] = pod
        self._node.remove(pod)
        self._count(pod, -1)

    def put_back(self, pod: PodInfo) -> None:
        del self._absent[pod.key]
        self._node.add(pod)
        self._count(pod, 1)

    def _count(self, pod: PodInfo, number: int) -> None:
        if pod.shape.claims:
            self._cache.count_claims(pod.shape, number)
        for counter in self._cache.counters_of(pod.shape):
            counter.add(self._node, number)
