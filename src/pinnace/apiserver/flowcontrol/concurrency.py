"""How many seats each priority level has: its share of what the server does at a time, and what levels lend each other.

Specified in https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#seats-occupied-by-a-request and
KEP-1040 (borrowing between priority levels).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from pinnace.machinery.meta import Obj

ADJUSTMENT_SECONDS = 10.0  # between two divisions of what is lent
_DECAY = 0.977  # of a level's smoothed demand, per adjustment: a lull is forgotten within minutes
_LEAST_TARGET = 0.001


class Limits(NamedTuple):
    """Of one level, in seats. `most` is how far it may go by borrowing."""

    nominal: int
    least: int
    most: int


def limits(levels: Mapping[str, Obj], total: int) -> dict[str, Limits]:
    """The limits of every level by its spec, where the server has `total` seats."""
    settings = {name: spec.get("limited") or spec.get("exempt") or {} for name, spec in levels.items()}
    shares = sum(each.get("nominalConcurrencyShares") or 0 for each in settings.values())
    found = {}
    for name, each in settings.items():
        own = each.get("nominalConcurrencyShares") or 0
        nominal = math.ceil(total * own / shares) if shares else 0
        lendable = _part(nominal, each.get("lendablePercent") or 0)
        borrowing = each.get("borrowingLimitPercent")
        most = total if borrowing is None else nominal + _part(nominal, borrowing)
        found[name] = Limits(nominal, nominal - lendable, max(most, nominal))
    return found


class Wanted(NamedTuple):
    """What a level's requests wanted, in seats: smoothed over the last minutes, and at most since last asked."""

    smoothed: float
    most: int


def _part(nominal: int, percent: int) -> int:
    return math.floor(nominal * percent / 100 + 0.5)


def most_seats(nominal: int, hand_size: int) -> int:
    """How many seats one request may take at most: so few that a flow cannot fill its level with one hand."""
    few = math.ceil(nominal * 0.15)
    return max(1, min(few, nominal // hand_size) if hand_size else few)


class Demand:
    """How many seats a level's requests, waiting or executing, have wanted since the last adjustment."""

    __slots__ = ("_at", "_most", "_seats", "_since", "_squares", "_sum", "smoothed")

    def __init__(self, now: float) -> None:
        self.smoothed = 0.0
        self._seats = 0
        self._begin(now)

    def _begin(self, now: float) -> None:
        self._since = self._at = now
        self._sum = self._squares = 0.0
        self._most = self._seats

    def note(self, now: float, seats: int) -> None:
        """From now on it is this many."""
        elapsed, before = now - self._at, self._seats
        self._at = now
        self._sum += elapsed * before
        self._squares += elapsed * before * before
        self._seats = seats
        if seats > self._most:
            self._most = seats

    def settle(self, now: float) -> Wanted:
        """The demand, with the time since the last call in it. Quick to grow and slow to shrink."""
        self.note(now, self._seats)
        span = now - self._since
        mean = self._sum / span if span > 0 else float(self._seats)
        deviation = math.sqrt(max(0.0, self._squares / span - mean * mean)) if span > 0 else 0.0
        envelope = min(float(self._most), mean + deviation)
        self.smoothed = max(envelope, _DECAY * self.smoothed + (1 - _DECAY) * envelope)
        wanted = Wanted(self.smoothed, self._most)
        self._begin(now)
        return wanted


def divide(bounds: Mapping[str, Limits], wanted: Mapping[str, Wanted]) -> dict[str, int]:
    """The current limit of every level: each gets the same part of what it wants, within its bounds.

    A level that wants its nominal limit has it, whatever it has lent before; so nobody gains unless another lends.
    """
    total = sum(each.nominal for each in bounds.values())
    floors = {name: max(each.least, min(each.nominal, wanted[name].most)) for name, each in bounds.items()}
    targets = {name: max(_LEAST_TARGET, wanted[name].smoothed, floors[name]) for name in bounds}

    def at(part: float) -> dict[str, float]:
        return {name: max(floors[name], min(each.most, part * targets[name])) for name, each in bounds.items()}

    low, high = 0.0, max((each.most / targets[name] for name, each in bounds.items()), default=0.0)
    for _ in range(100):  # what is given out grows with the part; halve until it is found
        middle = (low + high) / 2
        if sum(at(middle).values()) < total:
            low = middle
        else:
            high = middle
    return {name: math.floor(given + 0.5) for name, given in at(high).items()}
