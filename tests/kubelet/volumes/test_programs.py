"""Programs of the machine as the kubelet runs them."""

from __future__ import annotations

import asyncio
import os
import select
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

import pytest

from pinnace.kubelet.volumes import programs


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """Where the script tells the number of its helper."""
    os.mkfifo(tmp_path / "helper")
    return tmp_path / "helper"


@pytest.fixture
def script(tmp_path: Path, told: Path) -> Path:
    program = tmp_path / "mount.example"
    program.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! > {told}\nwait\n")
    program.chmod(0o755)
    return program


async def ended(helper: int) -> bool:
    """Whether a process ends within a minute, by its descriptor."""
    poll = select.poll()
    poll.register(helper, select.POLLIN)
    found = await asyncio.to_thread(poll.poll, 60_000)
    os.close(helper)
    return bool(found)


async def test_a_program_that_is_given_up_takes_along_what_it_has_started(script: Path, told: Path) -> None:
    running = asyncio.create_task(programs.run(str(script)))
    helper = os.pidfd_open(int(await asyncio.to_thread(told.read_text)))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert await ended(helper)


async def test_a_program_that_is_given_up_before_it_is_known_takes_along_what_it_has_started(
    script: Path, told: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, start = asyncio.Event(), asyncio.create_subprocess_exec

    async def start_slowly(*command: str, **options: Any) -> Process:
        process = await start(*command, **options)
        await known.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_slowly)
    running = asyncio.create_task(programs.run(str(script)))
    helper = os.pidfd_open(int(await asyncio.to_thread(told.read_text)))
    running.cancel()
    await asyncio.sleep(0)  # it has heard of it
    known.set()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert await ended(helper)
