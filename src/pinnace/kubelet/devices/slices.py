"""Takes back what drivers of dynamic resources advertised of this node and cannot serve any more: their ResourceSlices.

All of them when the kubelet starts, for no driver has registered then; a driver's a while after it went, for it may
only be updated. KEP-4381, https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/.
"""

from __future__ import annotations

import asyncio

import structlog

from pinnace.apis.resources import RESOURCE_SLICES
from pinnace.client.client import Client
from pinnace.machinery.errors import ApiError
from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()

GRACE = 30.0  # seconds that a driver has to come back in
_AGAIN = 5.0


class SliceWiper:
    """Of one node; `grace` in seconds."""

    def __init__(self, client: Client, node_name: str, grace: float = GRACE) -> None:
        self._client = client
        self._node_name = node_name
        self._grace = grace
        self._tasks: dict[str, asyncio.Task[None]] = {}  # by driver; empty for all of them

    def started(self) -> None:
        """The kubelet has: no driver is there yet."""
        self._wipe("", 0.0)

    def gone(self, driver: str) -> None:
        """A driver went."""
        self._wipe(driver, self._grace)

    def back(self, driver: str) -> None:
        """A driver is there."""
        task = self._tasks.pop(driver, None)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        await end_tasks(self._tasks.values())

    def _wipe(self, driver: str, delay: float) -> None:
        self.back(driver)
        self._tasks[driver] = asyncio.create_task(self._delete(driver, delay), name=f"slices of {driver or 'all'}")

    async def _delete(self, driver: str, delay: float) -> None:
        await asyncio.sleep(delay)
        selector = f"spec.nodeName={self._node_name}" + (f",spec.driver={driver}" if driver else "")
        while True:
            try:
                await self._client.delete_collection(RESOURCE_SLICES, field_selector=selector)
                return
            except ApiError as error:
                if error.is_not_found:
                    return  # this API server knows no such thing
                _log.info("cannot delete the slices of drivers that are gone", driver=driver, error=error.message)
            await asyncio.sleep(_AGAIN)
