"""What the monitor reads of processes and cgroups, and the small files in which it remembers them.

/proc as proc(5) says. Imports are few, as the monitor's are.
"""

# ruff: noqa: PTH104, PTH123
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import Any

_PF_EXITING = 0x4  # in the kernel's flags of a process


def write_json(path: str, value: Any) -> None:
    """Replace a file atomically."""
    temporary = f"{path}.tmp"
    with open(temporary, "w") as file:
        json.dump(value, file)
    os.rename(temporary, path)


def read_json(path: str) -> Any:
    """A file's JSON; None if it is not there or not whole."""
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if there is none."""
    return int(stat_fields(pid)[19]) if stat_fields(pid) else 0


def stat_fields(pid: int) -> list[str]:
    """/proc/<pid>/stat from the third field (state) on."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def is_ending(pid: int) -> bool:
    """Whether a process has ended or is about to: the init of a PID namespace ends after all others there."""
    fields = stat_fields(pid)
    return not fields or fields[0] in "ZX" or bool(int(fields[6]) & _PF_EXITING)


def exit_code(status: int) -> int:
    """A wait status as shells and Kubernetes show it: 128 + n for signal n."""
    return 128 + (status & 0x7F) if status & 0x7F else status >> 8 & 0xFF


def oom_kills(cgroups: list[str]) -> int:
    """How many processes of these cgroups the kernel killed for memory."""
    total = 0
    for path in cgroups:
        for name in ("memory.events", "memory.oom_control"):
            try:
                with open(f"{path}/{name}") as file:
                    total += sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
            except (OSError, ValueError):
                continue
    return total


def kill_cgroup(cgroups: list[str], number: int) -> bool:
    """Signal every process in a container's cgroups; whether there was one."""
    found: set[int] = set()
    if number == signal.SIGKILL:
        for path in cgroups:
            with contextlib.suppress(OSError), open(f"{path}/cgroup.kill", "w") as file:  # version 2: all of it at once
                file.write("1")
    for path in cgroups:
        try:
            with open(f"{path}/cgroup.procs") as file:
                found.update(int(line) for line in file)
        except OSError:
            continue
        if found:
            break  # the hierarchies hold the same processes
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(found)


def descendants(pid: int) -> list[int]:
    """The processes that a process has started and those that they have, as of now."""
    found: list[int] = []
    pending = [pid]
    while pending:
        one = pending.pop()
        try:
            with open(f"/proc/{one}/task/{one}/children") as file:
                pending += (children := [int(child) for child in file.read().split()])
        except OSError:
            continue
        found += children
    return found
