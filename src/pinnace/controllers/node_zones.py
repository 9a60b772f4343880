"""How fast pods are evicted from nodes that are lost: slower where much of a zone is, not at all where everything is.

When most of a zone falls silent at once, the fault is more likely between it and us than in every node of it. Pure but
for the tables it keeps; times are seconds of one steady clock. Specified by
https://kubernetes.io/docs/concepts/architecture/nodes/#rate-limits-on-eviction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from pinnace.machinery.meta import Obj, labels_of

_REGION, _ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"
_OLD_REGION, _OLD_ZONE = "failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone"
_FEW = 2  # nodes that may be lost in a zone of any size before it counts as disrupted


class State(Enum):
    """How a zone is."""

    NORMAL = "Normal"
    PARTIAL = "PartialDisruption"
    FULL = "FullDisruption"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The flags about it: nodes a second, and what makes a zone disrupted and a cluster large."""

    rate: float = 0.1
    secondary_rate: float = 0.01
    unhealthy_zone_threshold: float = 0.55
    large_cluster_size: int = 50


def zone_of(node: Obj) -> str:
    labels = labels_of(node)
    region = labels.get(_REGION) or labels.get(_OLD_REGION) or ""
    zone = labels.get(_ZONE) or labels.get(_OLD_ZONE) or ""
    return f"{region}:{zone}"


def state_of(ready: int, lost: int, threshold: float) -> State:
    if not ready and lost:
        return State.FULL
    if lost > _FEW and lost / (lost + ready) >= threshold:
        return State.PARTIAL
    return State.NORMAL


@dataclass(slots=True)
class _Zone:
    ready: set[str] = field(default_factory=set)  # names of nodes
    lost: set[str] = field(default_factory=set)
    free_at: float = 0.0  # when the next node may be evicted from


class Zones:
    """The nodes by zone, and the pace in each."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._zones: dict[str, _Zone] = {}
        self._where: dict[str, str] = {}  # node -> zone

    def note(self, name: str, zone: str, *, ready: bool) -> set[str]:
        """A node is so now; the lost nodes for which that may change the pace."""
        known = self._zones.get(zone)
        if known is not None and self._where.get(name) == zone and name in (known.ready if ready else known.lost):
            return set()
        before = self._states()
        self._drop(name)
        self._where[name] = zone
        entry = self._zones.setdefault(zone, _Zone())
        (entry.ready if ready else entry.lost).add(name)
        return self._concerned(before)

    def forget(self, name: str) -> set[str]:
        """A node is gone; the lost nodes for which that may change the pace."""
        before = self._states()
        self._drop(name)
        return self._concerned(before)

    def _drop(self, name: str) -> None:
        zone = self._zones.get(self._where.pop(name, ""))
        if zone is not None:
            zone.ready.discard(name)
            zone.lost.discard(name)

    def _states(self) -> dict[str, State]:
        threshold = self._pace.unhealthy_zone_threshold
        return {
            name: state_of(len(zone.ready), len(zone.lost), threshold)
            for name, zone in self._zones.items()
            if zone.ready or zone.lost
        }

    def _concerned(self, before: dict[str, State]) -> set[str]:
        after = self._states()
        if before == after:
            return set()
        everywhere = (set(before.values()) == {State.FULL}) != (set(after.values()) == {State.FULL})
        changed = [name for name in after if everywhere or before.get(name) != after[name]]
        return {lost for name in changed for lost in self._zones[name].lost}

    @property
    def all_lost(self) -> bool:
        """Whether no node at all is ready: then the fault is more likely ours."""
        return not any(zone.ready for zone in self._zones.values())

    def rate(self, name: str) -> float:
        """Nodes a second from which pods may be evicted in the zone of this node."""
        zone = self._zones.get(self._where.get(name, ""))
        if zone is None or self.all_lost:
            return 0.0
        state = state_of(len(zone.ready), len(zone.lost), self._pace.unhealthy_zone_threshold)
        if state is not State.PARTIAL:
            return self._pace.rate
        large = len(zone.ready) + len(zone.lost) > self._pace.large_cluster_size
        return self._pace.secondary_rate if large else 0.0

    def wait(self, name: str, now: float) -> float | None:
        """Seconds until pods may be evicted from the node, its turn being taken where that is now; None for never."""
        rate = self.rate(name)
        if rate <= 0:
            return None
        zone = self._zones[self._where[name]]
        if zone.free_at > now:
            return min(zone.free_at - now, 1 / rate)
        zone.free_at = now + 1 / rate
        return 0.0
