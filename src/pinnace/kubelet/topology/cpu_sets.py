"""The machine's CPUs as the kernel lays them out, and sets of them as it writes them (`0-3,8`).

Read from /sys (https://docs.kernel.org/admin-guide/cputopology.html); everything else is pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


def parse_cpus(text: str) -> frozenset[int]:
    """`0-2,5` as a set. Raises ValueError."""
    found: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def format_cpus(cpus: Iterable[int]) -> str:
    """A set as the kernel writes it."""
    parts: list[str] = []
    run: list[int] = []
    for cpu in [*sorted(cpus), -1]:
        if run and cpu != run[-1] + 1:
            parts.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
        run.append(cpu)
    return ",".join(parts)


@dataclass(frozen=True, slots=True)
class Cpu:
    """One logical CPU and where it is."""

    id: int
    core: int  # unique on the machine
    socket: int
    numa: int
    cache: int = 0  # the last-level cache that it shares


@dataclass(frozen=True, slots=True)
class CpuTopology:
    """All CPUs by id."""

    cpus: dict[int, Cpu]

    @property
    def ids(self) -> frozenset[int]:
        return frozenset(self.cpus)

    @property
    def numa_nodes(self) -> tuple[int, ...]:
        return tuple(sorted({cpu.numa for cpu in self.cpus.values()}))

    @property
    def threads_per_core(self) -> int:
        return len(self.cpus) // max(1, len({cpu.core for cpu in self.cpus.values()}))

    def of_numa(self, nodes: Iterable[int]) -> frozenset[int]:
        """The CPUs of some NUMA nodes."""
        wanted = set(nodes)
        return frozenset(cpu.id for cpu in self.cpus.values() if cpu.numa in wanted)


def read_topology(root: Path = Path("/sys/devices/system")) -> CpuTopology:
    """This machine's; a CPU of which nothing is said is a core of its own."""
    online = parse_cpus((root / "cpu/online").read_text())
    nodes = {
        cpu: int(path.name.removeprefix("node"))
        for path in root.glob("node/node[0-9]*")
        for cpu in parse_cpus((path / "cpulist").read_text())
    }
    cores: dict[tuple[int, int], int] = {}
    found = {}
    for cpu in sorted(online):
        directory = root / f"cpu/cpu{cpu}"
        socket = _number(directory / "topology/physical_package_id", 0)
        core = cores.setdefault((socket, _number(directory / "topology/core_id", cpu)), len(cores))
        cache = _number(directory / "cache/index3/id", socket)
        found[cpu] = Cpu(cpu, core, socket, nodes.get(cpu, 0), cache)
    return CpuTopology(found)


def _number(path: Path, default: int) -> int:
    try:
        return max(0, int(path.read_text()))
    except (OSError, ValueError):
        return default
