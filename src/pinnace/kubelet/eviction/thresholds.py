"""When a resource of the node is short: eviction signals, thresholds as configured, and which of them count now.

Pure; times are seconds of one steady clock. `Pressure` remembers since when a threshold has been met, for soft ones
wait and conditions linger. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-signals-and-thresholds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from pinnace.machinery.duration import parse_duration
from pinnace.machinery.quantity import Quantity


class Signal(StrEnum):
    """What is watched; the value is its name in configurations."""

    MEMORY_AVAILABLE = "memory.available"
    ALLOCATABLE_MEMORY_AVAILABLE = "allocatableMemory.available"
    NODEFS_AVAILABLE = "nodefs.available"
    NODEFS_INODES_FREE = "nodefs.inodesFree"
    IMAGEFS_AVAILABLE = "imagefs.available"
    IMAGEFS_INODES_FREE = "imagefs.inodesFree"
    CONTAINERFS_AVAILABLE = "containerfs.available"
    CONTAINERFS_INODES_FREE = "containerfs.inodesFree"
    PID_AVAILABLE = "pid.available"

    @property
    def resource(self) -> str:
        """What there is little of: memory, ephemeral-storage, inodes or pids."""
        if self in MEMORY_SIGNALS:
            return "memory"
        if self is Signal.PID_AVAILABLE:
            return "pids"
        return "inodes" if self.endswith("inodesFree") else "ephemeral-storage"

    @property
    def condition(self) -> str:
        """The type of the Node's condition that it sets."""
        if self in MEMORY_SIGNALS:
            return "MemoryPressure"
        return "PIDPressure" if self is Signal.PID_AVAILABLE else "DiskPressure"


MEMORY_SIGNALS = (Signal.MEMORY_AVAILABLE, Signal.ALLOCATABLE_MEMORY_AVAILABLE)
_CONTAINERFS = {
    Signal.CONTAINERFS_AVAILABLE: (Signal.NODEFS_AVAILABLE, Signal.IMAGEFS_AVAILABLE),
    Signal.CONTAINERFS_INODES_FREE: (Signal.NODEFS_INODES_FREE, Signal.IMAGEFS_INODES_FREE),
}

DEFAULT_HARD: Mapping[str, str] = {
    "memory.available": "100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
}


class Amount(NamedTuple):
    """So many units, or such a part of the capacity."""

    units: int = 0
    part: float = 0.0

    def of(self, capacity: int) -> int:
        return int(capacity * self.part) if self.part else self.units


@dataclass(frozen=True, slots=True)
class Threshold:
    """A signal below `value` is too low; `grace` seconds are a soft threshold's, hard ones count at once."""

    signal: Signal
    value: Amount
    grace: float = 0.0
    minimum_reclaim: Amount | None = None
    soft: bool = False


class Observation(NamedTuple):
    """What a signal shows now."""

    available: int
    capacity: int


Observations = Mapping[Signal, Observation]


# Configuration.


def parse_thresholds(
    hard: Mapping[str, str],
    soft: Mapping[str, str],
    grace_periods: Mapping[str, str],
    minimum_reclaim: Mapping[str, str],
    *,
    enforce_pods: bool = True,
) -> tuple[Threshold, ...]:
    """The thresholds that a KubeletConfiguration asks for; memory counts for all pods together, too, where they share a
    limit. Raises ValueError.
    """
    hards, softs = _statements(hard), _statements(soft)
    graces = {_signal(name): _grace(text) for name, text in grace_periods.items()}
    reclaims = {_signal(name): _reclaim(name, text) for name, text in minimum_reclaim.items()}
    found = [Threshold(signal, value) for signal, value in hards.items()]
    for signal, value in softs.items():
        if signal not in graces:
            raise ValueError(f"grace period must be specified for the soft eviction threshold {signal}")
        found.append(Threshold(signal, value, graces[signal], soft=True))
    found = [replace(one, minimum_reclaim=reclaims.get(one.signal)) for one in found]
    if enforce_pods:
        memory = [one for one in found if one.signal is Signal.MEMORY_AVAILABLE and not one.soft]
        found = [replace(one, signal=Signal.ALLOCATABLE_MEMORY_AVAILABLE) for one in memory] + found
    return tuple(found)


def _statements(given: Mapping[str, str]) -> dict[Signal, Amount]:
    """Thresholds by signal; one of 0% or 100% is none."""
    found = {_signal(name): _threshold(name, text) for name, text in given.items()}
    return {signal: value for signal, value in found.items() if value is not None}


def _signal(name: str) -> Signal:
    try:
        return Signal(name)
    except ValueError:
        raise ValueError(f"unsupported eviction signal {name}") from None


def _threshold(signal: str, text: str) -> Amount | None:
    if text.endswith("%"):
        part = _percentage(text)
        if part < 0:
            raise ValueError(f"eviction percentage threshold {signal} must be >= 0%: {text}")
        if part > 1:
            raise ValueError(f"eviction percentage threshold {signal} must be <= 100%: {text}")
        return Amount(part=part) if part not in (0, 1) else None
    quantity = Quantity.parse(text)
    if quantity.amount <= 0:
        raise ValueError(f"eviction threshold {signal} must be positive: {quantity}")
    return Amount(quantity.value())


def _percentage(text: str) -> float:
    try:
        return float(text.rstrip("%")) / 100
    except ValueError:
        raise ValueError(f'strconv.ParseFloat: parsing "{text.rstrip("%")}": invalid syntax') from None


def _grace(text: str) -> float:
    seconds = parse_duration(text)
    if seconds < 0:
        raise ValueError(f"invalid eviction grace period specified: {text}, must be a positive value")
    return seconds


def _reclaim(signal: str, text: str) -> Amount:
    if text.endswith("%"):
        part = _percentage(text)
        if part <= 0:
            raise ValueError(f"eviction percentage minimum reclaim {signal} must be positive: {text}")
        return Amount(part=part)
    quantity = Quantity.parse(text)
    if quantity.amount < 0:
        raise ValueError(f"negative eviction minimum reclaim specified for {signal}")
    return Amount(quantity.value())


def with_containerfs(thresholds: Iterable[Threshold], *, of_images: bool) -> tuple[Threshold, ...]:
    """The thresholds where not all is on one file system: what containers write has those of the one it is on, that of
    images or the node's; what was asked for it is not heeded.
    """
    kept = [one for one in thresholds if one.signal not in _CONTAINERFS]
    copies = {sources[of_images]: signal for signal, sources in _CONTAINERFS.items()}
    return (*kept, *(replace(one, signal=copies[one.signal]) for one in kept if one.signal in copies))


# Which are met.


def is_met(threshold: Threshold, observations: Observations, *, reclaiming: bool = False) -> bool:
    """Whether a signal is below its threshold; what reclaims must get as far above it as is asked."""
    seen = observations.get(threshold.signal)
    if seen is None:
        return False
    wanted = threshold.value.of(seen.capacity)
    if reclaiming and threshold.minimum_reclaim is not None:
        wanted += threshold.minimum_reclaim.of(seen.capacity)
    return seen.available < wanted


def by_eviction_priority(thresholds: Iterable[Threshold]) -> list[Threshold]:
    """Memory first: without it nothing else can be done."""
    return sorted(thresholds, key=lambda one: one.signal not in MEMORY_SIGNALS)


class Pressure:
    """Which thresholds count, from one observation to the next."""

    def __init__(self, thresholds: Iterable[Threshold], transition_period: float) -> None:
        self.thresholds = tuple(thresholds)
        self.conditions: tuple[str, ...] = ()  # of the Node, in the order of their names
        self._transition_period = transition_period
        self._since: dict[Threshold, float] = {}
        self._last: dict[str, float] = {}  # condition -> when it was last seen
        self._reclaiming: list[Threshold] = []  # met before, and not yet reclaimed as far as asked

    def observe(self, observations: Observations, now: float) -> list[Threshold]:
        """Take in what signals show; the thresholds that somebody must be evicted for, the most pressing first."""
        met = {one for one in self.thresholds if is_met(one, observations)}
        met |= {one for one in self._reclaiming if is_met(one, observations, reclaiming=True)}
        self._since = {one: self._since.get(one, now) for one in self.thresholds if one in met}
        self._last |= dict.fromkeys((one.signal.condition for one in met), now)
        self._last = {
            kind: when for kind, when in self._last.items() if now - when < self._transition_period or when == now
        }
        self.conditions = tuple(sorted(self._last))
        self._reclaiming = [one for one, since in self._since.items() if now - since >= one.grace]
        return by_eviction_priority(self._reclaiming)
