"""systemd-logind, which tells that the machine goes down and waits for those that asked it to.

Spoken to by systemd's own programs: `systemd-inhibit` holds the lock, `busctl` follows the signal. Specified by
https://systemd.io/INHIBITOR_LOCKS/ and org.freedesktop.login1(5).
"""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import suppress
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any

import structlog

_log = structlog.get_logger()

SYSTEM_BUS = Path("/run/dbus/system_bus_socket")
DROP_IN = Path("/etc/systemd/logind.conf.d/99-kubelet.conf")
RETRY = 5.0

_DECODER = JSONDecoder()

_LOGIND = ("org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager")
# Anybody may send a signal of that name: only logind's counts.
_SIGNAL = f"type='signal',sender='{_LOGIND[0]}',interface='{_LOGIND[2]}',member='PrepareForShutdown'"


def is_there() -> bool:
    """Whether a bus and the programs that speak on it are."""
    return SYSTEM_BUS.exists() and bool(shutil.which("busctl")) and bool(shutil.which("systemd-inhibit"))


def messages(buffer: str) -> tuple[list[Any], str]:
    """The JSON values at the start of what `busctl monitor` wrote so far, which nothing need separate, and the rest."""
    found: list[Any] = []
    rest = buffer.lstrip()
    while rest:
        try:
            value, end = _DECODER.raw_decode(rest)
        except JSONDecodeError:
            break
        found.append(value)
        rest = rest[end:].lstrip()
    return found, rest


def going_down(message: Any) -> bool | None:
    """What a message of the bus says: True before the machine goes down, False when it stays, None for any other."""
    if not isinstance(message, dict) or message.get("member") != "PrepareForShutdown":
        return None
    payload = message.get("payload")
    data = payload.get("data") if isinstance(payload, dict) else None
    return data[0] if isinstance(data, list) and data and isinstance(data[0], bool) else None


def drop_in(seconds: int) -> str:
    """The configuration under which logind waits so long."""
    return f"# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={seconds}\n"


class Inhibitor:
    """Holds the machine's end up for at most so many seconds, from `async with` to its end. Raises OSError."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._processes: list[Process] = []

    async def __aenter__(self) -> Inhibitor:
        try:
            await self._have_time()
            match = f"--match={_SIGNAL}"
            self._monitor = await self._start("busctl", "--system", "--json=short", match, "monitor")
            why = (
                "--what=shutdown",
                "--mode=delay",
                "--who=kubelet",
                "--why=Kubelet needs time to handle node shutdown",
            )
            await self._start("systemd-inhibit", *why, "sleep", "infinity")
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.terminate()
        for process in self._processes:
            await process.wait()

    async def _start(self, *command: str) -> Process:
        """A program that ends with this process, however that does: what it held would be held for ever."""
        bound = ("setpriv", "--pdeathsig", "TERM", "--", *command)
        process = await asyncio.create_subprocess_exec(*bound, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
        self._processes.append(process)
        return process

    async def _have_time(self) -> None:
        """Let logind wait as long as pods may take: five seconds are what it gives by itself."""
        if await self._allowed() >= self._seconds:
            return
        DROP_IN.parent.mkdir(parents=True, exist_ok=True)
        DROP_IN.write_text(drop_in(self._seconds))
        process = await asyncio.create_subprocess_exec(
            "systemctl", "kill", "-s", "HUP", "systemd-logind", stderr=DEVNULL
        )
        await process.wait()
        if await self._allowed() < self._seconds:
            _log.warning("systemd-logind waits less than pods may take", seconds=self._seconds)

    async def _allowed(self) -> float:
        process = await asyncio.create_subprocess_exec(
            "busctl", "get-property", *_LOGIND, "InhibitDelayMaxUSec", stdout=PIPE, stderr=DEVNULL
        )
        output, _ = await process.communicate()
        words = output.split()  # t 5000000
        return int(words[1]) / 1e6 if len(words) == 2 and words[1].isdigit() else 0.0

    async def events(self) -> AsyncIterator[bool]:
        """True each time the machine is about to go down, False when it stays. Raises OSError when logind is gone."""
        assert self._monitor.stdout is not None
        buffer = ""
        while chunk := await self._monitor.stdout.read(65536):
            found, buffer = messages(buffer + chunk.decode(errors="replace"))
            for message in found:
                told = going_down(message)
                if told is not None:
                    yield told
        raise OSError("the system bus does not answer")
