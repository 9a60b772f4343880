"""Programs of the machine that mount, format and attach; what they say is told in the words that Kubernetes uses.

util-linux's `mount` finds helpers such as `mount.nfs` itself (https://man7.org/linux/man-pages/man8/mount.8.html).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Iterable
from pathlib import Path

from pinnace.cri.programs import find_program, search_path
from pinnace.kubelet.volumes.context import VolumeError


class ProgramError(Exception):
    """A program failed, or is missing: str() says so as Go does; `status` is None for one that is missing."""

    def __init__(self, why: str, output: str = "", status: int | None = None) -> None:
        super().__init__(why)
        self.output = output
        self.status = status


async def run(*command: str, timeout: float | None = None) -> str:
    """What a program prints, errors too. Raises ProgramError, and TimeoutError after so many seconds."""
    program = find_program(command[0])
    if program is None:
        raise ProgramError("executable file not found in $PATH")
    environment = os.environ | {"PATH": search_path(), "LC_ALL": "C"}
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            program, *command[1:], stdout=PIPE, stderr=STDOUT, env=environment, start_new_session=True
        )
    )
    try:
        process = await asyncio.shield(starting)
        async with asyncio.timeout(timeout):
            output = (await process.communicate())[0].decode("utf-8", "replace")
    finally:
        process = await starting  # asyncio would kill the program alone, and wait for its helpers
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # with the helpers that it waits for
            await process.wait()
    if process.returncode:
        signalled = process.returncode < 0
        why = f"signal: {-process.returncode}" if signalled else f"exit status {process.returncode}"
        raise ProgramError(why, output, process.returncode)
    return output


async def mount(source: str, target: Path, kind: str, options: Iterable[str]) -> None:
    """Mount a file system by its helper. Raises VolumeError."""
    chosen = ",".join(options)
    arguments = [*(("-t", kind) if kind else ()), *(("-o", chosen) if chosen else ()), source, str(target)]
    try:
        await run("mount", *arguments)
    except ProgramError as error:
        given = " ".join(arguments)
        what = f"Mounting command: mount\nMounting arguments: {given}\nOutput: {error.output}"
        why = f'exec: "mount": {error}' if error.status is None else str(error)
        raise VolumeError(f"mount failed: {why}\n{what}") from error


def joined(*options: Iterable[str]) -> list[str]:
    """Mount options of several origins, each once."""
    return sorted({option for some in options for option in some})
