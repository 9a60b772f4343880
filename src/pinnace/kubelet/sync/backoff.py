"""Exponential back-off per key: 10 s, 20 s, … 5 min, forgotten after twice the longest wait without an entry.

Pure but for the clock passed in. Crash loops and image pulls wait by the same rule
(https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class _Entry:
    wait: float  # seconds
    since: float  # when it was last entered


class Backoff:
    """Waits that double from `initial` to `longest` seconds; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float], *, initial: float = 10.0, longest: float = 300.0) -> None:
        self._clock = clock
        self._initial = initial
        self._longest = longest
        self._entries: dict[str, _Entry] = {}

    def get(self, key: str) -> float:
        """The present wait of a key in seconds, 0 for one that is not backing off."""
        entry = self._entries.get(key)
        return entry.wait if entry else 0.0

    def entered(self, key: str) -> float:
        """When a key was last entered, by the clock; 0 for one that is not backing off."""
        entry = self._entries.get(key)
        return entry.since if entry else 0.0

    def next(self, key: str, at: float | None = None) -> None:
        """Enter a key, or double its wait, for a trouble at `at`; one long quiet before that begins anew."""
        now = self._clock()
        entry = self._entries.get(key)
        if entry is None or (now if at is None else at) - entry.since > 2 * self._longest:
            self._entries[key] = _Entry(min(self._initial, self._longest), now)
        else:
            self._entries[key] = _Entry(min(entry.wait * 2, self._longest), now)

    def remaining(self, key: str, since: float) -> float:
        """Seconds still to wait of a key whose trouble happened at `since`; 0 when it may go on."""
        entry = self._entries.get(key)
        if entry is None or since - entry.since > 2 * self._longest:
            return 0.0
        return max(0.0, entry.wait - (self._clock() - since))

    def reset(self, key: str) -> None:
        self._entries.pop(key, None)

    def forget_prefix(self, prefix: str) -> None:
        """Drop every key of one pod."""
        for key in [key for key in self._entries if key.startswith(prefix)]:
            del self._entries[key]

    def collect(self) -> None:
        """Drop what has been quiet long enough to begin anew anyway."""
        now = self._clock()
        for key in [key for key, entry in self._entries.items() if now - entry.since > 2 * self._longest]:
            del self._entries[key]
