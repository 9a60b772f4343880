"""An event loop in a thread of its own, for tests, which may be synchronous or have a loop themselves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for callers of other threads until it is stopped."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, T], timeout: float | None = 120.0) -> T:
        """What the coroutine returns or raises. Raises TimeoutError, having cancelled it, after `timeout` seconds."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("the cluster's own thread must not wait for itself")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(timeout)
        except BaseException:
            future.cancel()
            raise

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin a coroutine that goes on by itself; its task, which `cancel` ends."""

        async def begin() -> asyncio.Task[None]:
            return asyncio.create_task(coroutine)

        return self.call(begin())

    def cancel(self, task: asyncio.Task[None]) -> None:
        """End a task of `start`, without waiting for it."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(task.cancel)

    def stop(self) -> None:
        """End what still runs, then the thread."""
        if not self._thread.is_alive():
            return
        self.call(_end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()


async def _end_all() -> None:
    from pinnace.wire.tasks import end_tasks

    await end_tasks(asyncio.all_tasks() - {task for task in [asyncio.current_task()] if task})
