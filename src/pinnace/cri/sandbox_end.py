"""Waits until a runtime has noted that a sandbox ended together with its containers.

Where a pod shares its processes, the kernel ends them all with the first process of the sandbox, and a containerd tells
of the containers first. Who then started them again would do so in a sandbox that is no more. That it is no more is
known from its first process, which is on this machine: its number is in the `info` of a verbose `PodSandboxStatus`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pinnace.cri.engine.procfs import is_ending

PATIENCE = 2.0  # seconds for the runtime to take note


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a runtime says of one: whether it is ready, whether its containers share its processes, and more as JSON."""

    ready: bool
    shares_processes: bool
    info: str


async def noted(ask: Callable[[], Awaitable[Sandbox | None]]) -> None:
    """Return at once unless the sandbox has ended and the runtime, that `ask` asks, does not know it yet."""
    deadline = time.monotonic() + PATIENCE
    while (found := await ask()) is not None and time.monotonic() < deadline:
        if not (found.ready and found.shares_processes and _has_ended(found.info)):
            break
        await asyncio.sleep(0.005)


def _has_ended(info: str) -> bool:
    """Whether its first process has, or is about to when all others have; where none is told, nothing is known."""
    try:
        pid = json.loads(info)["pid"]
    except (ValueError, KeyError, TypeError):
        return False
    return not isinstance(pid, int) or is_ending(pid)
