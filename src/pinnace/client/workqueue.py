"""A queue of keys to reconcile: each key waits at most once and is worked on by one worker at a time.

A key added while it is being worked on comes back when that is done. Failures come back after a pause that doubles each
time. These are the rules of client-go's workqueue, on which the guarantees of Kubernetes' controllers rest.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque

from pinnace.client.measures import QueueMeasures

_FIRST_PAUSE = 0.005  # seconds, after the first failure
_LONGEST_PAUSE = 1000.0


class WorkQueue:
    """Keys in the order in which they were first added; for one event loop."""

    def __init__(
        self, name: str = "", *, first_pause: float = _FIRST_PAUSE, longest_pause: float = _LONGEST_PAUSE
    ) -> None:
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._ready: deque[str] = deque()
        self._measures = QueueMeasures(name, self._ready.__len__)
        self._waiting: set[str] = set()  # keys in `_ready`, or to be put there when their worker is done
        self._working: set[str] = set()
        self._getters: deque[asyncio.Future[None]] = deque()
        self._failures: dict[str, int] = {}
        self._later: list[tuple[float, int, str]] = []  # heap of (loop time, tie-breaker, key)
        self._due: dict[str, float] = {}  # the earliest time at which a key in `_later` is due
        self._ties = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Keys ready to be worked on."""
        return len(self._ready)

    def add(self, key: str) -> None:
        if key in self._waiting:
            return
        self._waiting.add(key)
        self._measures.added(key)
        if key not in self._working:
            self._push(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Add when that time has passed; of several times asked for one key the earliest counts."""
        self._measures.retries += 1
        if seconds <= 0:
            self.add(key)
            return
        due = asyncio.get_running_loop().time() + seconds
        known = self._due.get(key)
        if known is not None and known <= due:
            return
        self._due[key] = due
        heapq.heappush(self._later, (due, next(self._ties), key))
        self._arm()

    def add_rate_limited(self, key: str) -> None:
        """Add after a pause that doubles with every call until `forget`."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.add_after(key, min(self._first_pause * 2 ** min(failures, 64), self._longest_pause))

    def failures(self, key: str) -> int:
        """How often the key was added by `add_rate_limited` since it was last forgotten."""
        return self._failures.get(key, 0)

    def forget(self, key: str) -> None:
        """The key succeeded: its next failure is its first."""
        self._failures.pop(key, None)

    async def get(self) -> str:
        """The next key, which stays taken until `done`."""
        while not self._ready:
            getter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._getters.append(getter)
            try:
                await getter
            except asyncio.CancelledError:
                if getter in self._getters:
                    self._getters.remove(getter)
                elif self._ready:
                    self._wake()  # it was woken for a key that somebody else must take now
                raise
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._working.add(key)
        self._measures.taken(key)
        return key

    def done(self, key: str) -> None:
        """The worker has finished with the key, whatever came of it."""
        self._working.discard(key)
        self._measures.done(key)
        if key in self._waiting:
            self._push(key)

    def close(self) -> None:
        """Drop the timer; keys still waiting are forgotten."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._later.clear()
        self._due.clear()

    def _push(self, key: str) -> None:
        self._ready.append(key)
        self._wake()

    def _wake(self) -> None:
        while self._getters:
            getter = self._getters.popleft()
            if not getter.done():
                getter.set_result(None)
                return

    def _arm(self) -> None:
        if self._timer is not None:
            if self._timer.when() <= self._later[0][0]:
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._later[0][0], self._ripen)

    def _ripen(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._later and self._later[0][0] <= now + 0.001:
            due, _, key = heapq.heappop(self._later)
            if self._due.get(key) == due:  # else an earlier time replaced this one
                del self._due[key]
                self.add(key)
        if self._later:
            self._arm()
