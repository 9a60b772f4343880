"""ConfigMaps and Secrets that pods of this node refer to, read from the API server and shared for a short while.

A burst of pods that mount the same object reads it once. What is older than `MAX_AGE` is read anew, so changes reach
volumes with the next sync of their pod.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pinnace.apis.resources import CONFIG_MAPS, SECRETS
from pinnace.client.client import Client
from pinnace.machinery.errors import ApiError, not_found
from pinnace.machinery.meta import GVR, Obj

MAX_AGE = 2.0  # seconds
_Key = tuple[str, str, str]  # kind, namespace, name
_RESOURCES: dict[str, GVR] = {"ConfigMap": CONFIG_MAPS, "Secret": SECRETS}


class ObjectFetcher:
    """Reads objects for volumes and environments."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._known: dict[_Key, tuple[float, asyncio.Task[Obj]]] = {}

    async def fetch(self, kind: str, namespace: str, name: str) -> Obj:
        """The object. Raises ApiError; one that is missing is named as the kubelet names it, `configmap "x"`."""
        now = self._clock()
        key = (kind, namespace, name)
        known = self._known.get(key)
        if known is None or now - known[0] > MAX_AGE or (known[1].done() and _failed(known[1])):
            self._forget_old(now)
            task = asyncio.ensure_future(self._client.get(_RESOURCES[kind], name, namespace))
            known = self._known[key] = (now, task)
        try:
            return await asyncio.shield(known[1])
        except ApiError as error:
            if error.is_not_found:
                raise not_found(kind.lower(), name) from error
            raise

    def _forget_old(self, now: float) -> None:
        for key in [key for key, (since, task) in self._known.items() if now - since > MAX_AGE and task.done()]:
            del self._known[key]


def _failed(task: asyncio.Task[Obj]) -> bool:
    return task.cancelled() or task.exception() is not None
