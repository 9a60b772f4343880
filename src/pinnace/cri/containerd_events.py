"""What a containerd tells of containers that ended, as CRI's events: before release 1.7 its CRI service tells none.

Its own event service, on the same socket, does (https://github.com/containerd/containerd/blob/main/docs/ops.md, api
`services/events/v1`). It speaks before the CRI service has taken note, which is therefore asked until it has; on a
busy machine that may take seconds, for which the ends of others do not wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio

from pinnace.cri.api import Container, ContainerEvent, ContainerEventType, ContainerState, PodSandbox, PodSandboxState
from pinnace.machinery.message_table import message_classes
from pinnace.wire import grpc_calls
from pinnace.wire.tasks import end_tasks

Find = Callable[[str], Awaitable[Container | PodSandbox | None]]
"""A container or sandbox by its id, as the CRI service lists it."""

_PATIENCE = 60.0  # seconds for the CRI service to take note
_PAUSE, _LONGER, _LONGEST = 0.005, 1.25, 0.5  # between two questions: seconds at first, by what they grow, up to what

_CLASSES = message_classes(
    "pinnace.containerd",
    """
SubscribeRequest filters=1:*string
Any              type_url=1:string value=2:bytes
Envelope         namespace=2:string topic=3:string event=4:Any
TaskExit         container_id=1:string id=2:string
""",
)


def subscribe(channel: grpc.aio.Channel) -> Any:
    """A call that goes on answering with what `ended` reads: every process that ends in a container."""
    events = grpc_calls.stream(channel, "/containerd.services.events.v1.Events/Subscribe", _CLASSES["Envelope"])
    return events(_CLASSES["SubscribeRequest"](filters=['namespace=="k8s.io",topic=="/tasks/exit"']))


async def ended(envelopes: AsyncIterator[Any], find: Find) -> AsyncGenerator[ContainerEvent, None]:
    """A STOPPED event for every container and sandbox that ends, from now on."""
    coming = asyncio.ensure_future(anext(envelopes, None))
    noting: set[asyncio.Future[ContainerEvent | None]] = set()
    try:
        while True:
            done, _ = await asyncio.wait({coming, *noting}, return_when=asyncio.FIRST_COMPLETED)
            for noted in done & noting:
                noting.remove(noted)
                if (event := noted.result()) is not None:
                    yield event
            if coming in done:
                if (envelope := coming.result()) is None:
                    return
                noting.add(asyncio.ensure_future(_end(envelope, find)))
                coming = asyncio.ensure_future(anext(envelopes, None))
    finally:
        await end_tasks((coming, *noting))


async def _end(envelope: Any, find: Find) -> ContainerEvent | None:
    """The event for what containerd told; None for a command in a container, and for what is gone."""
    task = _CLASSES["TaskExit"].FromString(envelope.event.value)
    if task.id != task.container_id:
        return None
    found = await _noted(task.container_id, find)
    sandbox = await find(found.pod_sandbox_id) if isinstance(found, Container) else found
    if found is None or not isinstance(sandbox, PodSandbox):
        return None
    return ContainerEvent(
        container_id=found.id,
        container_event_type=ContainerEventType.STOPPED,
        created_at=time.time_ns(),
        pod_sandbox_id=sandbox.id,
        pod_uid=sandbox.metadata.uid,
    )


async def _noted(identity: str, find: Find) -> Container | PodSandbox | None:
    """Once the CRI service knows that it has ended."""
    deadline, pause = time.monotonic() + _PATIENCE, _PAUSE
    while (found := await find(identity)) is not None and time.monotonic() < deadline:
        if found.state not in (ContainerState.CREATED, ContainerState.RUNNING, PodSandboxState.READY):
            break
        await asyncio.sleep(pause)
        pause = min(pause * _LONGER, _LONGEST)
    return found
