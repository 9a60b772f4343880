"""Control groups of pods and containers: limits, usage, removal, on version 1, version 2 and hybrid machines.

Whichever version holds the memory controller is used; a hybrid machine is a version 1 machine here. Files and formats
are those of the kernel's cgroup-v1 and cgroup-v2 documents; shares become weights as in KEP-2254.
"""

# ruff: noqa: PTH102, PTH106, PTH110, PTH112, PTH120, PTH123, PTH208
# Descriptors, mounts and /proc files: `os` is the interface here, and pathlib would cost memory in every container.
from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from pinnace.cri.api import LinuxContainerResources
from pinnace.cri.engine import _syscalls as sys_

_V1_CONTROLLERS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "pids", "hugetlb")
_V2_CONTROLLERS = ("cpu", "cpuset", "memory", "pids", "hugetlb")

# What every container may do: make any node, use the harmless ones and its terminals.
DEVICE_RULES = (
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:1 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
)


@dataclass(slots=True)
class Usage:
    """What a cgroup uses now: nanoseconds of CPU since it began, bytes of memory."""

    cpu_nanoseconds: int = 0
    memory_usage: int = 0
    memory_working_set: int = 0
    memory_rss: int = 0
    pids: int = 0


def weight(shares: int) -> int:
    """cpu.weight for cpu.shares: 2..262144 onto 1..10000."""
    return 1 + (max(2, min(shares, 262144)) - 2) * 9999 // 262142


def _write(path: str, value: str | int) -> None:
    """Raises OSError in runc's words."""
    try:
        with open(path, "w") as file:
            file.write(str(value))
    except OSError as error:
        why = f"write {path}: {(error.strerror or '').lower()}"
        raise OSError(error.errno, f'failed to write "{value}": {why}') from None


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _table(text: str) -> dict[str, int]:
    return {
        name: int(value) for name, _, value in (line.partition(" ") for line in text.splitlines()) if value.isdigit()
    }


class Cgroups:
    """The cgroups below a prefix; `mount` is where the hierarchies are."""

    def __init__(self, prefix: str = "", mount: str = "/sys/fs/cgroup") -> None:
        self._prefix = prefix.strip("/")
        self._mount = mount

    @cached_property
    def version(self) -> int:
        """2, 1 (also where the two are mixed), or 0 where there are none."""
        if "memory" in _read(f"{self._mount}/cgroup.controllers").split():
            return 2
        return 1 if os.path.isdir(f"{self._mount}/memory") else 0

    @cached_property
    def _hierarchies(self) -> dict[str, str]:
        """Controller -> directory of its hierarchy; controllers mounted together share one."""
        if self.version == 2:
            return dict.fromkeys(_V2_CONTROLLERS, self._mount)
        if self.version == 0:
            return {}
        found = {name: os.path.realpath(f"{self._mount}/{name}") for name in _V1_CONTROLLERS}
        return {name: path for name, path in found.items() if os.path.isdir(path)}

    def _relative(self, path: str) -> str:
        return "/".join(part for part in (self._prefix, path.strip("/")) if part)

    def path(self, path: str) -> str:
        """A cgroup's path from the root of its hierarchy."""
        return f"/{self._relative(path)}"

    def directory(self, controller: str, path: str) -> str:
        """The absolute directory of a cgroup in one hierarchy; empty where the controller is missing."""
        base = self._hierarchies.get(controller)
        return f"{base}/{self._relative(path)}" if base else ""

    def directories(self, path: str) -> list[str]:
        """One directory for every hierarchy."""
        return list(dict.fromkeys(f"{base}/{self._relative(path)}" for base in self._hierarchies.values()))

    def _everywhere(self, path: str) -> list[str]:
        """Its directories also in hierarchies that are not ours to use, where other runtimes make cgroups too."""
        if self.version != 1:
            return self.directories(path)
        return [f"{self._mount}/{name}/{self._relative(path)}" for name in os.listdir(self._mount)]

    def create(self, path: str) -> list[str]:
        """Make a cgroup and its missing parents; its directories."""
        for base in dict.fromkeys(self._hierarchies.values()):
            self._make(base, self._relative(path))
        return self.directories(path)

    def _make(self, base: str, relative: str) -> None:
        directory = f"{base}/{relative}"
        if os.path.isdir(directory):
            return
        current = base
        for part in relative.split("/"):
            parent, current = current, f"{current}/{part}"
            if self.version == 2:
                self._delegate(parent)
            try:
                os.mkdir(current)
            except FileExistsError:
                continue
            if base == self._hierarchies.get("cpuset") and self.version == 1:
                for name in ("cpuset.cpus", "cpuset.mems"):  # a new cpuset is empty and takes no process
                    _write(f"{current}/{name}", _read(f"{parent}/{name}"))

    def _delegate(self, directory: str) -> None:
        have = _read(f"{directory}/cgroup.controllers").split()
        on = _read(f"{directory}/cgroup.subtree_control").split()
        for name in _V2_CONTROLLERS:
            if name in have and name not in on:
                with contextlib.suppress(OSError):
                    _write(f"{directory}/cgroup.subtree_control", f"+{name}")

    def missing(self, path: str) -> list[str]:
        """Those of a cgroup's directories that are not there."""
        return [directory for directory in self.directories(path) if not os.path.isdir(directory)]

    def limit(self, path: str, resources: LinuxContainerResources) -> None:
        """Apply limits; zero and empty fields change nothing. OSError where the kernel refuses one."""
        (self._limit_v2 if self.version == 2 else self._limit_v1)(path, resources)

    def _limit_v1(self, path: str, resources: LinuxContainerResources) -> None:
        cpu = self.directory("cpu", path)
        if cpu:
            if resources.cpu_shares:
                _write(f"{cpu}/cpu.shares", max(2, resources.cpu_shares))
            if resources.cpu_quota or resources.cpu_period:
                _write(f"{cpu}/cpu.cfs_period_us", resources.cpu_period or 100_000)
            if resources.cpu_quota:
                _write(f"{cpu}/cpu.cfs_quota_us", resources.cpu_quota)
        memory = self.directory("memory", path)
        if memory and (resources.memory_limit_in_bytes or resources.memory_swap_limit_in_bytes):
            limit = resources.memory_limit_in_bytes or _number(_read(f"{memory}/memory.limit_in_bytes"))
            self._limit_memory_v1(memory, limit, resources.memory_swap_limit_in_bytes or limit)
        pids = self.directory("pids", path)
        if pids and resources.pids_limit:
            _write(f"{pids}/pids.max", resources.pids_limit if resources.pids_limit > 0 else "max")
        self._limit_huge_pages(self.directory("hugetlb", path), "limit_in_bytes", resources)
        cpuset = self.directory("cpuset", path)
        if cpuset and resources.cpuset_cpus:
            _write(f"{cpuset}/cpuset.cpus", resources.cpuset_cpus)
        if cpuset and resources.cpuset_mems:
            _write(f"{cpuset}/cpuset.mems", resources.cpuset_mems)

    def _limit_memory_v1(self, memory: str, limit: int, with_swap: int) -> None:
        """Memory, and memory plus swap; which goes first depends on the direction, for the second is never less."""
        limits = [("memory.limit_in_bytes", limit), ("memory.memsw.limit_in_bytes", with_swap)]
        if limit < 0 or limit > _number(_read(f"{memory}/memory.limit_in_bytes")):
            limits.reverse()
        for name, value in limits:
            if os.path.exists(f"{memory}/{name}"):
                _write(f"{memory}/{name}", value)

    @staticmethod
    def _limit_huge_pages(directory: str, file: str, resources: LinuxContainerResources) -> None:
        """Pages in use and pages reserved, where the kernel has the controller, counts them, and has the size."""
        for one in resources.hugepage_limits:
            for counted in ("", "rsvd."):
                path = f"{directory}/hugetlb.{one.page_size}.{counted}{file}"
                if directory and os.path.exists(path):
                    _write(path, one.limit)

    def _limit_v2(self, path: str, resources: LinuxContainerResources) -> None:
        directory = f"{self._mount}/{self._relative(path)}"
        if resources.cpu_shares:
            _write(f"{directory}/cpu.weight", weight(resources.cpu_shares))
        if resources.cpu_quota or resources.cpu_period:
            before = (_read(f"{directory}/cpu.max").split() or ["max"])[0]
            quota = before if not resources.cpu_quota else "max" if resources.cpu_quota < 0 else resources.cpu_quota
            _write(f"{directory}/cpu.max", f"{quota} {resources.cpu_period or 100_000}")
        limit, with_swap = resources.memory_limit_in_bytes, resources.memory_swap_limit_in_bytes
        if limit:
            _write(f"{directory}/memory.max", "max" if limit < 0 else limit)
            swap = "max" if with_swap < 0 or limit < 0 else max(0, with_swap - limit)
            self._limit_swap(directory, str(swap))
        for name, value in resources.unified.items():
            if name == "memory.swap.max":
                self._limit_swap(directory, value)
            else:
                _write(f"{directory}/{name}", value)
        if resources.pids_limit:
            _write(f"{directory}/pids.max", resources.pids_limit if resources.pids_limit > 0 else "max")
        if resources.cpuset_cpus:
            _write(f"{directory}/cpuset.cpus", resources.cpuset_cpus)
        if resources.cpuset_mems:
            _write(f"{directory}/cpuset.mems", resources.cpuset_mems)
        self._limit_huge_pages(directory, "max", resources)

    @staticmethod
    def _limit_swap(directory: str, value: str) -> None:
        """Where the kernel counts swap space: some are told not to, and have none to limit."""
        if os.path.exists(f"{directory}/memory.swap.max"):
            _write(f"{directory}/memory.swap.max", value)

    def allow_devices(self, path: str, rules: list[str]) -> None:
        """Allow only these devices (`c 1:3 rwm`); an empty list allows all.

        In a user namespace there is nothing to forbid: nobody can make devices there, and the kernel takes no rules.
        """
        if not rules or sys_.in_user_namespace():
            return
        if self.version == 2:
            from pinnace.cri.engine import devices

            devices.attach(f"{self._mount}/{self._relative(path)}", rules)
            return
        directory = self.directory("devices", path)
        if directory:
            _write(f"{directory}/devices.deny", "a")
            for rule in rules:
                _write(f"{directory}/devices.allow", rule)

    def pids(self, path: str) -> set[int]:
        """The processes in a cgroup and below it."""
        found: set[int] = set()
        for directory in self.directories(path)[:1]:
            for where, _, _ in os.walk(directory):
                found.update(int(line) for line in _read(f"{where}/cgroup.procs").split())
        return found

    def remove(self, path: str, timeout: float = 2) -> None:
        """Remove an empty cgroup and what is below it; waits while the last processes are being taken down."""
        deadline = time.monotonic() + timeout
        for directory in self.directories(path):
            for where, _, _ in os.walk(directory, topdown=False):
                while True:
                    try:
                        os.rmdir(where)
                    except FileNotFoundError:
                        pass
                    except OSError:
                        if time.monotonic() < deadline:
                            time.sleep(0.002)
                            continue
                    break

    def remove_if_empty(self, path: str) -> None:
        """Remove a cgroup that holds neither processes nor other cgroups; else nothing happens."""
        if not path.strip("/"):
            return
        for directory in self._everywhere(path):
            with contextlib.suppress(OSError):
                os.rmdir(directory)

    def usage(self, path: str) -> Usage:
        """What it uses now; zeros for a cgroup that is gone."""
        if self.version == 2:
            directory = f"{self._mount}/{self._relative(path)}"
            stat = _table(_read(f"{directory}/memory.stat"))
            total = _number(_read(f"{directory}/memory.current"))
            cpu = _table(_read(f"{directory}/cpu.stat")).get("usage_usec", 0) * 1000
            inactive, rss = stat.get("inactive_file", 0), stat.get("anon", 0)
            pids = _number(_read(f"{directory}/pids.current"))
        else:
            memory = self.directory("memory", path)
            stat = _table(_read(f"{memory}/memory.stat"))
            total = _number(_read(f"{memory}/memory.usage_in_bytes"))
            cpu = _number(_read(f"{self.directory('cpuacct', path)}/cpuacct.usage"))
            inactive, rss = stat.get("total_inactive_file", 0), stat.get("total_rss", 0)
            pids = _number(_read(f"{self.directory('pids', path)}/pids.current"))
        return Usage(cpu, total, max(0, total - inactive), rss, pids)

    def counters(self, path: str) -> dict[str, dict[str, int]]:
        """The numbers of every file that metrics are made of, by its name."""
        from pinnace.cri.engine import metrics

        found = {}
        for controller, names in metrics.FILES.items():
            directory = self.directory("cpu" if self.version == 2 else controller, path)
            for name in names:
                text = _read(f"{directory}/{name}") if directory else ""
                if text:
                    found[name] = metrics.parse(text)
        return found

    def destroy(self, parents: Iterable[str] = ()) -> None:
        """Remove everything below the prefix, and the prefix; without one the empty cgroups that led to `parents`."""
        if not self._prefix:
            for parent in parents:
                while parent.strip("/"):
                    self.remove_if_empty(parent)
                    parent = os.path.dirname(parent)
            return
        for top in self._everywhere(""):
            for where, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(where)
