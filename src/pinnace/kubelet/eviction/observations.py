"""What the signals show on this machine, read from /proc and the file systems; costs a few system calls.

Memory counts as cgroups' working sets do: what the kernel can give back at once is available
(https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#eviction-signals).
"""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from pathlib import Path

from pinnace.kubelet.eviction.thresholds import Observation, Signal

PRESSURE = Path("/proc/pressure/memory")


@dataclass(frozen=True, slots=True)
class FileSystem:
    """One file system: bytes and inodes, in all and free."""

    device: int
    capacity: int
    available: int
    used: int
    inodes: int
    inodes_free: int


def file_system(path: Path | str) -> FileSystem:
    """The file system that a directory is on. Raises OSError."""
    found, device = os.statvfs(path), os.stat(path).st_dev  # noqa: PTH116 # next to its statvfs
    size = found.f_frsize
    used = (found.f_blocks - found.f_bfree) * size
    return FileSystem(device, found.f_blocks * size, found.f_bavail * size, used, found.f_files, found.f_ffree)


def memory(text: str) -> Observation:
    """From /proc/meminfo."""
    values = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        values[name] = int(value.split()[0]) * 1024
    return Observation(values["MemFree"] + values.get("Inactive(file)", 0), values["MemTotal"])


def most_processes(proc: Path) -> int:
    """How many processes and threads the kernel allows. Raises OSError."""
    kernel = proc / "sys/kernel"
    return min(int((kernel / "pid_max").read_text()), int((kernel / "threads-max").read_text()))


def processes(loadavg: str, pid_max: str, threads_max: str) -> Observation:
    """From /proc/loadavg (`running/all` is its fourth word) and what the kernel allows."""
    most = min(int(pid_max), int(threads_max))
    return Observation(most - int(loadavg.split()[3].partition("/")[2]), most)


def read_machine() -> dict[Signal, Observation]:
    """Memory and processes of the machine. Raises OSError."""
    proc = Path("/proc")
    limits = (proc / "sys/kernel/pid_max").read_text(), (proc / "sys/kernel/threads-max").read_text()
    return {
        Signal.MEMORY_AVAILABLE: memory((proc / "meminfo").read_text()),
        Signal.PID_AVAILABLE: processes((proc / "loadavg").read_text(), *limits),
    }


def read_disks(nodefs: Path, imagefs: Path, containerfs: Path | None = None) -> dict[Signal, Observation]:
    """The file systems of pods' files, of images, and of what containers write where that is one of them apart.

    A file system without a fixed number of inodes never runs out of them. Raises OSError.
    """
    found: dict[Signal, Observation] = {}
    for path, space, inodes in (
        (nodefs, Signal.NODEFS_AVAILABLE, Signal.NODEFS_INODES_FREE),
        (imagefs, Signal.IMAGEFS_AVAILABLE, Signal.IMAGEFS_INODES_FREE),
        (containerfs, Signal.CONTAINERFS_AVAILABLE, Signal.CONTAINERFS_INODES_FREE),
    ):
        if path is None:
            continue
        one = file_system(path)
        found[space] = Observation(one.available, one.capacity)
        if one.inodes:
            found[inodes] = Observation(one.inodes_free, one.inodes)
    return found


class MemoryAlarm:
    """Readable, by `fileno`, when processes wait for memory: pressure stall information of the kernel.

    A trigger shows as a priority event, which event loops do not wait for; an epoll of its own turns it into a readable
    descriptor. Raises OSError where the kernel has none. Specified by
    https://docs.kernel.org/accounting/psi.html#monitoring-for-pressure-thresholds.
    """

    def __init__(self, path: Path = PRESSURE, stalled: float = 0.1, window: float = 2.0) -> None:
        self._trigger = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        try:
            os.write(self._trigger, f"some {int(stalled * 1e6)} {int(window * 1e6)}\0".encode())
            self._poll = select.epoll()
            self._poll.register(self._trigger, select.EPOLLPRI)
        except OSError:
            os.close(self._trigger)
            raise

    def fileno(self) -> int:
        return self._poll.fileno()

    def take(self) -> bool:
        """Whether there was pressure since the last time."""
        return bool(self._poll.poll(0))

    def close(self) -> None:
        self._poll.close()
        os.close(self._trigger)
