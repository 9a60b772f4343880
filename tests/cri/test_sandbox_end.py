"""The end of a container is told once its sandbox's is known, where both ended together."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from pinnace.cri import sandbox_end
from pinnace.cri.sandbox_end import Sandbox, noted

LIMIT = 30.0


@pytest.fixture
def dead() -> Iterator[int]:
    """A process that has ended and that nobody has waited for."""
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        yield process.pid


def told(pid: object, *, ready: bool = True, shared: bool = True) -> Sandbox:
    return Sandbox(ready, shared, json.dumps({"pid": pid}))


async def asked(*answers: Sandbox | None) -> int:
    """How often a runtime that answers so was asked; its last answer again and again."""
    left = list(answers)
    count = 0

    async def ask() -> Sandbox | None:
        nonlocal count
        count += 1
        return left.pop(0) if len(left) > 1 else left[0]

    async with asyncio.timeout(LIMIT):
        await noted(ask)
    return count


@pytest.mark.parametrize(
    "answer",
    [
        None,
        told(os.getpid()),
        told(0, ready=False),
        told(0, shared=False),
        Sandbox(True, True, ""),
        Sandbox(True, True, "[]"),
    ],
    ids=["gone", "alive", "known to have ended", "not shared", "untold", "of another form"],
)
async def test_most_containers_end_alone(answer: Sandbox | None) -> None:
    assert await asked(answer) == 1


async def test_a_sandbox_that_ended_is_waited_for_until_that_is_known(dead: int) -> None:
    assert await asked(told(dead), told(0), told(0, ready=False)) == 3
    assert await asked(told(dead), None) == 2


async def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_end, "PATIENCE", 0.02)

    assert await asked(told(0)) >= 1
