"""Pods for which others were asked to leave a node, and the room that is kept for them there until they are bound.

Who is scheduled meanwhile finds the nominated pods of the same or a higher priority counted on their nodes, as if they
ran already. Specified by https://kubernetes.io/docs/concepts/scheduling-eviction/pod-priority-preemption/.
"""

from __future__ import annotations

from dataclasses import replace

from pinnace.scheduler.cache import Cache
from pinnace.scheduler.pod import PodInfo


class Nominations:
    """Which pod is nominated to which node."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._nominated: dict[str, tuple[PodInfo, str]] = {}  # by key
        self._counted: dict[str, PodInfo] = {}  # the stand-ins in the cache, by the key of the pod

    def __bool__(self) -> bool:
        return bool(self._nominated)

    def nominate(self, pod: PodInfo, node_name: str) -> None:
        """Keep room for the pod; an empty name gives it up."""
        before = self._nominated.get(pod.key)
        if before is not None and before[1] == node_name and before[0].shape is pod.shape:
            return
        self.withdraw(pod.key)
        if node_name:
            self._nominated[pod.key] = pod, node_name

    def withdraw(self, key: str) -> None:
        """The pod is bound or gone, or looks for another node."""
        if self._nominated.pop(key, None) is not None:
            self._uncount(key)

    def node_of(self, key: str) -> str:
        """Where the pod is nominated to; empty: nowhere."""
        nominated = self._nominated.get(key)
        return nominated[1] if nominated else ""

    def on(self, node_name: str) -> list[PodInfo]:
        """The pods nominated to a node."""
        return [pod for pod, where in self._nominated.values() if where == node_name]

    def count_for(self, pod: PodInfo) -> bool:
        """Let the cache count the nominated pods that go before `pod`, and no others; whether there are any."""
        if not self._nominated:
            return False
        for key, (other, node_name) in self._nominated.items():
            if other.priority < pod.priority or key == pod.key:
                self._uncount(key)
            elif key not in self._counted:
                stand_in = self._counted[key] = replace(other, key=f"nominated:{key}")
                self._cache.assume(stand_in, node_name)
        return bool(self._counted)

    def count_none(self) -> None:
        for key in list(self._counted):
            self._uncount(key)

    def _uncount(self, key: str) -> None:
        stand_in = self._counted.pop(key, None)
        if stand_in is not None:
            self._cache.forget(stand_in.key)
