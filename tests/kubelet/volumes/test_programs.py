"""Programs of the machine as the kubelet runs them."""

from __future__ import annotations

import asyncio
import os
import select
from pathlib import Path

import pytest

from pinnace.kubelet.volumes import programs


async def test_a_program_that_is_given_up_takes_along_what_it_has_started(tmp_path: Path) -> None:
    told = tmp_path / "helper"
    os.mkfifo(told)
    program = tmp_path / "mount.example"
    program.write_text(f"#!/bin/sh\nsleep 1000 &\necho $! > {told}\nwait\n")
    program.chmod(0o755)

    running = asyncio.create_task(programs.run(str(program)))
    helper = os.pidfd_open(int(await asyncio.to_thread(told.read_text)))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    poll = select.poll()
    poll.register(helper, select.POLLIN)
    ended = await asyncio.to_thread(poll.poll, 60_000)
    os.close(helper)
    assert ended
