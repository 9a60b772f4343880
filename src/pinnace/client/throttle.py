"""How often a client may ask: so many requests a second, and so many at once after a rest (`--kube-api-qps`, `-burst`).

A token bucket as client-go's flow control has it; who comes when it is empty waits for its turn, in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


class Throttle:
    def __init__(self, qps: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Both above zero."""
        self._interval = 1.0 / qps
        self._depth = (max(burst, 1) - 1) * self._interval  # how far ahead of its time a request may come
        self._clock = clock
        self._next = 0.0  # when the next request is due

    def reserve(self) -> float:
        """Take a turn; the seconds until it comes."""
        now = self._clock()
        self._next = max(self._next, now - self._depth)
        wait = max(0.0, self._next - now)
        self._next += self._interval
        return wait

    async def turn(self) -> None:
        """Wait for a turn."""
        wait = self.reserve()
        if wait > 0:
            await asyncio.sleep(wait)
