"""Ending tasks: what everything that has some does when it is closed.

Before Python 3.12 `asyncio.wait_for` can lose a cancellation that comes together with what it waits for, and the task
goes on; so tasks are cancelled until they end, but first have time for what they do at their end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

_AGAIN_SECONDS = 5.0


async def end_tasks(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel tasks and wait until all have ended, however they end; what they raise is dropped."""
    ending = list(tasks)
    while pending := [task for task in ending if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=_AGAIN_SECONDS)
    for task in ending:
        if not task.cancelled():
            task.exception()  # it has been looked at: asyncio need not tell of it
