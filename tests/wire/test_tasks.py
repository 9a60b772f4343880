"""Tasks are ended for certain, and have time for what they do at their end."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from pinnace.wire import tasks
from pinnace.wire.tasks import end_tasks


async def test_a_task_that_loses_its_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_AGAIN_SECONDS", 0.01)
    begun = asyncio.Event()
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        begun.set()
        for _ in range(2):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await begun.wait()

    await end_tasks([task])

    assert task.cancelled()
    assert lost == 2


async def test_what_a_task_does_at_its_end_is_waited_for() -> None:
    begun = asyncio.Event()
    said: list[str] = []

    async def careful() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(said.append, "goodbye")

    task = asyncio.create_task(careful())
    await begun.wait()

    await end_tasks([task])

    assert said == ["goodbye"]


async def test_what_tasks_raise_is_dropped() -> None:
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def failing() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    async def failed() -> None:
        raise ValueError

    await end_tasks([])
    failing_task, failed_task = asyncio.create_task(failing()), asyncio.create_task(failed())
    await asyncio.wait([failed_task])

    await end_tasks(task for task in (failing_task, failed_task))

    del failing_task, failed_task
    gc.collect()
    assert told == []
