"""What containers use where their runtime does not tell: read from the cgroups of their first processes.

A containerd tells nothing of a container that it started while some hierarchy of cgroups was mounted nowhere, as when
another program's was just going. It lists also those that have ended, which use nothing any more. The runtime and its
containers are on this machine; it says which processes those are (`info` of a verbose `ContainerStatus`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from pinnace.cri.api import ContainerStats
from pinnace.cri.engine.cgroups import Cgroups

Info = Callable[[str], Awaitable[str]]
"""What a runtime says of a container beyond CRI: JSON, empty where nothing."""


class ContainerUsage:
    """Completes statistics."""

    def __init__(self, info: Info) -> None:
        self._info = info
        self._cgroups = Cgroups("")

    async def complete(self, found: list[ContainerStats]) -> list[ContainerStats]:
        """The same with the figures that are missing, without the containers that have ended."""
        return [one for one in found if one.timestamp or await self._measure(one)]

    async def _measure(self, stats: ContainerStats) -> bool:
        """Fill in the figures; whether the container runs."""
        path = self._find(await self._info(stats.id))
        if not path:
            return False
        usage = self._cgroups.usage(path)
        stats.timestamp = time.time_ns()
        stats.cpu_usage_core_nano_seconds = usage.cpu_nanoseconds
        stats.memory_usage_bytes = usage.memory_usage
        stats.memory_working_set_bytes = usage.memory_working_set
        stats.memory_rss_bytes = usage.memory_rss
        stats.process_count = usage.pids
        return True

    def _find(self, info: str) -> str:
        """The cgroup of a container's first process; empty where it has ended."""
        try:
            lines = Path(f"/proc/{int(json.loads(info)['pid'])}/cgroup").read_text().splitlines()
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        controller = "" if self._cgroups.version == 2 else "memory"
        return next((path for _, names, path in map(_fields, lines) if controller in names.split(",")), "")


def _fields(line: str) -> list[str]:
    """Of /proc/PID/cgroup: the hierarchy's number, its controllers, the path."""
    return line.split(":", 2)
