"""What the scheduler offers the plugins of a profile: the cluster as it sees it, and ways to act on it.

Kubernetes calls this the framework handle. A plugin is made with it and may keep it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from pinnace.client.client import Client
from pinnace.client.events import EventRecorder
from pinnace.client.store import ObjectStore
from pinnace.machinery.meta import GVR, Obj
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.evaluation import Evaluator
from pinnace.scheduler.extender import Extender
from pinnace.scheduler.framework import Rejection
from pinnace.scheduler.metrics import Metrics
from pinnace.scheduler.node import NodeInfo
from pinnace.scheduler.nominations import Nominations
from pinnace.scheduler.pod import PodShape


@dataclass(slots=True)
class Handle:
    """One for each profile."""

    client: Client
    cache: Cache
    nominations: Nominations
    objects: Callable[[GVR], ObjectStore]  # what is watched of a resource
    recorder: EventRecorder
    begin: Callable[[Coroutine[Any, Any, None]], None]  # work in the background, ended with the scheduler
    activate: Callable[[str], None]  # try the pod of that key again now
    metrics: Metrics
    extenders: Sequence[Extender]
    until: Callable[[Callable[[], bool]], Coroutine[Any, Any, None]]  # wait until something holds of what is watched
    evaluator: Evaluator = field(init=False)  # known once all plugins are made

    def fits(self, shape: PodShape) -> Callable[[NodeInfo], Rejection | None]:
        """Asks every filter about a node as the cache has it: why it is not for pods of that shape, or None."""
        return self.evaluator.asking(shape)

    def say(self, about: Obj, type: str, reason: str, message: str) -> None:  # noqa: A002
        """An event about the object of that reference."""
        self.recorder.event_about(about, type, reason, message)
