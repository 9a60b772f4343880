"""What a containerd tells of ends becomes CRI's events when its CRI service knows them, each as soon as it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from pinnace.cri import containerd_events
from pinnace.cri.api import (
    Container,
    ContainerMetadata,
    ContainerState,
    CriError,
    ImageSpec,
    PodSandbox,
    PodSandboxMetadata,
    PodSandboxState,
)

LIMIT = 30.0
BOX = PodSandbox(
    id="box",
    metadata=PodSandboxMetadata(name="web", uid="u-1", namespace="shop"),
    state=PodSandboxState.READY,
    created_at=1,
)
TaskExit = containerd_events._CLASSES["TaskExit"]


class Containerd:
    """Tells of ends by `told`; `known` is what its CRI service knows."""

    def __init__(self, *containers: str) -> None:
        self.told: asyncio.Queue[Any] = asyncio.Queue()
        self.known: dict[str, Container | PodSandbox] = {"box": BOX}
        self.known |= {name: container(name, ContainerState.RUNNING) for name in containers}
        self.closed = False

    def tell(self, container_id: str, command: str = "") -> None:
        end = TaskExit(container_id=container_id, id=command or container_id)
        self.told.put_nowait(SimpleNamespace(event=SimpleNamespace(value=end.SerializeToString())))

    def note(self, name: str) -> None:
        self.known[name] = container(name, ContainerState.EXITED)

    async def envelopes(self) -> AsyncIterator[Any]:
        try:
            while (envelope := await self.told.get()) is not None:
                yield envelope
        finally:
            self.closed = True

    async def find(self, identity: str) -> Container | PodSandbox | None:
        return self.known.get(identity)


def container(name: str, state: ContainerState) -> Container:
    return Container(
        id=name,
        pod_sandbox_id="box",
        metadata=ContainerMetadata(name=name),
        image=ImageSpec(image="i"),
        image_ref="i",
        state=state,
        created_at=1,
    )


async def test_an_end_that_is_noted_late_holds_up_no_other() -> None:
    containerd = Containerd("late", "soon")
    async with (
        asyncio.timeout(LIMIT),
        aclosing(containerd_events.ended(containerd.envelopes(), containerd.find)) as ends,
    ):
        containerd.tell("late")
        containerd.tell("soon")
        containerd.note("soon")
        first = await anext(ends)
        containerd.note("late")
        second = await anext(ends)

    assert [(one.container_id, one.pod_sandbox_id, one.pod_uid) for one in (first, second)] == [
        ("soon", "box", "u-1"),
        ("late", "box", "u-1"),
    ]
    assert containerd.closed


async def test_sandboxes_end_and_commands_and_what_is_gone_are_not_told_of() -> None:
    containerd = Containerd("runs")
    async with (
        asyncio.timeout(LIMIT),
        aclosing(containerd_events.ended(containerd.envelopes(), containerd.find)) as ends,
    ):
        containerd.tell("runs", "a-command")
        containerd.tell("removed")
        containerd.tell("box")
        containerd.known["box"] = replace(BOX, state=PodSandboxState.NOTREADY)

        assert (await anext(ends)).container_id == "box"

        containerd.told.put_nowait(None)
        with pytest.raises(StopAsyncIteration):
            await anext(ends)


async def test_a_runtime_that_is_lost_ends_the_events() -> None:
    async def lost(_: str) -> None:
        raise CriError("UNAVAILABLE", "connection refused")

    containerd = Containerd()
    async with asyncio.timeout(LIMIT), aclosing(containerd_events.ended(containerd.envelopes(), lost)) as ends:
        containerd.tell("box")
        with pytest.raises(CriError, match="connection refused"):
            await anext(ends)

    assert containerd.closed
