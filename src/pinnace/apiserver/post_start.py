"""What a server does once it listens: makes the objects every cluster has, and says that it is there.

A store that refuses writes (a full disk) does not keep a server from serving what can be read: what it refused is tried
again until it is done, and /readyz names it meanwhile. The original's post-start hooks:
https://kubernetes.io/docs/reference/using-api/health-checks/
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from pinnace.apiserver.health import Hooks
from pinnace.machinery.errors import ApiError
from pinnace.store.contract import StoreError

log = structlog.get_logger()

RETRY_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Step:
    """Work that can be done again, and the hooks that are done with it."""

    names: tuple[str, ...]
    work: Callable[[], Awaitable[None]]


class PostStart:
    """Steps in order; those of one `run` begin together. `retry` takes up what the store refused."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks
        self._refused: list[Step] = []

    async def run(self, *steps: Step) -> None:
        """Take the steps once. Raises ApiError where the store is not to blame, as for an address that is taken."""
        for step, taken in zip(steps, await asyncio.gather(*map(self._take, steps)), strict=True):
            if not taken:
                self._refused.append(step)

    async def retry(self, seconds: float = RETRY_SECONDS) -> None:
        """Take again, in order, what was refused, until nothing is left."""
        while self._refused:
            await asyncio.sleep(seconds)
            for step in list(self._refused):
                if await self._take(step):
                    self._refused.remove(step)

    async def _take(self, step: Step) -> bool:
        try:
            await step.work()
        except (ApiError, StoreError) as error:
            if isinstance(error, ApiError) and error.code < 500 and not self._refused:
                raise  # else for want of what was refused, such as a namespace
            log.warning("cannot be done yet, to be tried again", hooks=step.names, error=str(error))
            return False
        self._hooks.done(step.names)
        return True
