"""Which CPUs a container gets for itself: pure (https://kubernetes.io/docs/tasks/administer-cluster/cpu-management-policies/).

Whole NUMA nodes or sockets first where so many are asked for, then whole cores, then what is left of cores in use: a
container's CPUs lie as close together as can be, and large free parts stay free.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable

from pinnace.kubelet.topology.cpu_sets import Cpu, CpuTopology

FULL_CORES = "full-pcpus-only"
ACROSS_NUMA = "distribute-cpus-across-numa"
ACROSS_CORES = "distribute-cpus-across-cores"
BY_SOCKET = "align-by-socket"
STRICT_RESERVATION = "strict-cpu-reservation"
BY_CACHE = "prefer-align-cpus-by-uncorecache"


class NotEnoughCpus(Exception):
    """Fewer CPUs are free than are asked for."""


def take(topology: CpuTopology, free: Collection[int], count: int, options: Collection[str] = ()) -> frozenset[int]:
    """So many of the free CPUs. Raises NotEnoughCpus."""
    if count > len(free):
        text = f"requested={count}, available={len(free)}"
        raise NotEnoughCpus(f"not enough cpus available to satisfy request: {text}")
    if ACROSS_NUMA in options:
        spread = _spread(topology, free, count, options)
        if spread is not None:
            return spread
    return frozenset(_Choice(topology, free, count, options).made())


def _spread(
    topology: CpuTopology, free: Collection[int], count: int, options: Collection[str]
) -> frozenset[int] | None:
    """The same number from each of as few NUMA nodes as can hold them; None where one node will do, or none fits."""
    group = topology.threads_per_core if FULL_CORES in options else 1
    rest = [option for option in options if option != ACROSS_NUMA]
    by_node = {node: frozenset(free) & topology.of_numa([node]) for node in topology.numa_nodes}
    if any(len(cpus) >= count for cpus in by_node.values()):
        return None
    for size in range(2, len(by_node) + 1):
        share, left = divmod(count, size)
        able = [node for node, cpus in by_node.items() if len(cpus) >= share + (left > 0)]
        if len(able) < size or share % group:
            continue
        found: set[int] = set()
        for position, node in enumerate(able[:size]):
            found |= take(topology, by_node[node], share + (position < left), rest)
        return frozenset(found)
    return None


class _Choice:
    """One choice being made."""

    def __init__(self, topology: CpuTopology, free: Collection[int], count: int, options: Collection[str]) -> None:
        self._topology = topology
        self._free = set(free)
        self._left = count
        self._options = options
        self._taken: set[int] = set()

    def made(self) -> set[int]:
        if ACROSS_CORES in self._options:
            self._take_one_of_each_core()
        else:
            if BY_CACHE in self._options:
                self._take_within_a_cache()
            if len({cpu.numa for cpu in self._topology.cpus.values()}) >= len(self._groups(lambda cpu: cpu.socket)):
                self._take_whole(lambda cpu: cpu.socket)
                self._take_whole(lambda cpu: cpu.numa)
            else:
                self._take_whole(lambda cpu: cpu.numa)
                self._take_whole(lambda cpu: cpu.socket)
            self._take_whole(lambda cpu: cpu.core)
        self._take_single()
        return self._taken

    def _take(self, cpus: Iterable[int]) -> None:
        for cpu in cpus:
            self._free.discard(cpu)
            self._taken.add(cpu)
            self._left -= 1

    def _groups(self, key: Callable[[Cpu], int]) -> dict[int, list[int]]:
        """The free CPUs by what they share."""
        found: dict[int, list[int]] = defaultdict(list)
        for cpu in sorted(self._free):
            found[key(self._topology.cpus[cpu])].append(cpu)
        return found

    def _size(self, key: Callable[[Cpu], int], value: int) -> int:
        return sum(key(cpu) == value for cpu in self._topology.cpus.values())

    def _take_whole(self, key: Callable[[Cpu], int]) -> None:
        """Groups of which every CPU is free, as long as no more than all of one is needed."""
        groups = self._groups(key)
        whole = [value for value, cpus in groups.items() if len(cpus) == self._size(key, value)]
        for value in sorted(whole, key=lambda value: (self._crowd(groups[value]), value)):
            if len(groups[value]) <= self._left:
                self._take(groups[value])

    def _crowd(self, cpus: list[int]) -> tuple[int, int]:
        """How many CPUs are free in the NUMA node and the socket of a group: the fewest go first."""
        first = self._topology.cpus[cpus[0]]
        numa, socket = self._groups(lambda cpu: cpu.numa), self._groups(lambda cpu: cpu.socket)
        near = 0 if any(self._topology.cpus[cpu].numa == first.numa for cpu in self._taken) else len(numa[first.numa])
        return near, len(socket[first.socket])

    def _take_within_a_cache(self) -> None:
        """All of them below one last-level cache, the fullest that has enough."""
        fitting = [cpus for cpus in self._groups(lambda cpu: cpu.cache).values() if len(cpus) >= self._left]
        if fitting:
            inner = _Choice(self._topology, min(fitting, key=len), self._left, ())
            self._take(sorted(inner.made()))

    def _take_one_of_each_core(self) -> None:
        while self._left:
            cores = self._groups(lambda cpu: cpu.core)
            self._take([cpus[0] for _, cpus in sorted(cores.items())][: self._left])

    def _take_single(self) -> None:
        """Threads of cores that are in use anyway, near to what was taken."""
        while self._left:
            cores = self._groups(lambda cpu: cpu.core)
            ordered = sorted(cores.values(), key=lambda cpus: (self._crowd(cpus), len(cpus), cpus[0]))
            self._take(ordered[0][:1])
