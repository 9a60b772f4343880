"""CPUs, memory and hints: the pure rules by which the node's managers choose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.kubelet.topology.configured import memory_kinds, numa_distances, reserved_cpus
from pinnace.kubelet.topology.cpu_choice import (
    ACROSS_CORES,
    ACROSS_NUMA,
    BY_CACHE,
    FULL_CORES,
    NotEnoughCpus,
    take,
)
from pinnace.kubelet.topology.cpu_sets import Cpu, CpuTopology, format_cpus, parse_cpus, read_topology
from pinnace.kubelet.topology.hints import Hint, hints, merge
from pinnace.kubelet.topology.memory_choice import MemoryNode, free_of, release, reserve


def machine(sockets: int = 2, cores: int = 4, threads: int = 2, caches: int = 1) -> CpuTopology:
    """As many machines number them: the first threads of all cores, then the second ones. A NUMA node a socket."""
    found = {}
    for thread in range(threads):
        for core in range(sockets * cores):
            cpu = thread * sockets * cores + core
            socket = core // cores
            found[cpu] = Cpu(cpu, core, socket, socket, socket * caches + core % cores * caches // cores)
    return CpuTopology(found)


TWO = machine()  # socket 0: 0-3,8-11; socket 1: 4-7,12-15


@given(st.frozensets(st.integers(0, 300)))
def test_cpu_sets_are_written_and_read(cpus: frozenset[int]) -> None:
    assert parse_cpus(format_cpus(cpus)) == cpus


@pytest.mark.parametrize(("cpus", "text"), [((), ""), ((3,), "3"), ((0, 1, 2, 5, 7, 8), "0-2,5,7-8")])
def test_cpu_sets_are_written_as_the_kernel_does(cpus: tuple[int, ...], text: str) -> None:
    assert format_cpus(cpus) == text


@pytest.mark.parametrize(
    ("free", "count", "options", "taken"),
    [
        ("0-15", 1, (), "0"),
        ("0-15", 2, (), "0,8"),  # both threads of a core
        ("0-15", 3, (), "0-1,8"),
        ("0-15", 8, (), "0-3,8-11"),  # a whole socket
        ("0-15", 10, (), "0-4,8-12"),
        ("1-15", 8, (), "4-7,12-15"),  # the socket that is whole
        ("1-15", 2, (), "1,9"),  # a core of the fuller socket
        ("1-15", 1, (), "8"),  # the thread whose core is in use
        ("0-15", 4, (ACROSS_CORES,), "0-3"),
        ("0-15", 12, (ACROSS_NUMA, FULL_CORES), "0-2,4-6,8-10,12-14"),
        ("0-15", 4, (ACROSS_NUMA,), "0-1,8-9"),  # one node will do
    ],
)
def test_cpus_lie_close_together(free: str, count: int, options: Any, taken: str) -> None:
    assert format_cpus(take(TWO, parse_cpus(free), count, options)) == taken


def test_cpus_of_one_cache_are_preferred() -> None:
    many = machine(sockets=1, cores=4, threads=2, caches=2)  # caches: 0-1,4-5 and 2-3,6-7
    assert format_cpus(take(many, parse_cpus("1-7"), 4, (BY_CACHE,))) == "2-3,6-7"
    assert format_cpus(take(many, parse_cpus("1-7"), 2, (BY_CACHE,))) == "1,5"


@given(
    st.frozensets(st.integers(0, 15)),
    st.integers(0, 16),
    st.sets(st.sampled_from([ACROSS_NUMA, ACROSS_CORES, BY_CACHE])),
)
def test_exactly_as_many_free_cpus_are_taken_as_there_are_asked_for(
    free: frozenset[int], count: int, options: set[str]
) -> None:
    if count > len(free):
        with pytest.raises(NotEnoughCpus, match=f"requested={count}, available={len(free)}"):
            take(TWO, free, count, options)
        return
    taken = take(TWO, free, count, options)
    assert len(taken) == count
    assert taken <= free


def test_the_machine_tells_its_topology(tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/online").write_text("0-3\n")
    for cpu, (socket, core) in enumerate([(0, 0), (1, 0), (0, 0), (1, 0)]):
        directory = tmp_path / f"cpu/cpu{cpu}/topology"
        directory.mkdir(parents=True)
        (directory / "physical_package_id").write_text(f"{socket}\n")
        (directory / "core_id").write_text(f"{core}\n")
    for node, cpus in ((0, "0,2"), (1, "1,3")):
        (tmp_path / f"node/node{node}").mkdir(parents=True)
        (tmp_path / f"node/node{node}/cpulist").write_text(f"{cpus}\n")
    found = read_topology(tmp_path)
    assert [(cpu.core, cpu.socket, cpu.numa) for cpu in found.cpus.values()] == [
        (0, 0, 0),
        (1, 1, 1),
        (0, 0, 0),
        (1, 1, 1),
    ]
    assert (found.threads_per_core, found.numa_nodes) == (2, (0, 1))


def test_cpus_are_reserved_by_name_or_number() -> None:
    assert format_cpus(reserved_cpus(TWO, "0-1", 0)) == "0-1"
    assert format_cpus(reserved_cpus(TWO, "", 1500)) == "0,8"
    with pytest.raises(ValueError, match="to be greater than zero"):
        reserved_cpus(TWO, "", 0)


def of(*nodes: int) -> frozenset[int]:
    return frozenset(nodes)


def test_hints_name_every_set_of_nodes_that_would_do() -> None:
    free = {0: 2, 1: 4}
    found = hints((0, 1), lambda mask: 4 * len(mask), lambda mask: sum(free[node] for node in mask), 4)
    assert found == [Hint(of(1), True), Hint(of(0, 1), False)]


NEAR_0, NEAR_1, BOTH = Hint(of(0), True), Hint(of(1), True), Hint(of(0, 1), False)


@pytest.mark.parametrize(
    ("offers", "policy", "hint", "admitted"),
    [
        ([[NEAR_0], [NEAR_1]], "none", Hint(None, True), True),
        ([[NEAR_0, BOTH], [NEAR_0, NEAR_1, BOTH]], "restricted", NEAR_0, True),
        ([[NEAR_0], [NEAR_1]], "best-effort", Hint(of(0, 1), False), True),
        ([[NEAR_0], [NEAR_1]], "restricted", Hint(of(0, 1), False), False),
        ([[BOTH]], "restricted", BOTH, False),
        ([[Hint(of(0, 1), True)]], "restricted", Hint(of(0, 1), True), True),
        ([[Hint(of(0, 1), True)]], "single-numa-node", Hint(None, False), False),
        ([[NEAR_1, BOTH], None], "single-numa-node", NEAR_1, True),
        ([None], "single-numa-node", Hint(None, True), True),
        ([[]], "restricted", Hint(of(0, 1), False), False),
        ([], "restricted", Hint(of(0, 1), True), True),
    ],
)
def test_what_managers_agree_on(offers: Any, policy: str, hint: Hint, admitted: bool) -> None:
    assert merge(offers, (0, 1), policy) == (hint, admitted)


# Nodes 0 and 2 are near to each other, 1 and 3 likewise.
NEAR = {(a, b): 10 if a == b else 11 if (a - b) % 2 == 0 else 21 for a in range(4) for b in range(4)}
PAIRS = [Hint(of(a, b), True) for a, b in ((0, 1), (0, 2), (1, 3), (2, 3))]


@pytest.mark.parametrize(
    ("offer", "distances", "chosen"),
    [
        (PAIRS, None, of(0, 1)),
        (PAIRS, NEAR, of(0, 2)),
        (PAIRS[2:], NEAR, of(1, 3)),
        ([*PAIRS, Hint(of(3), True)], NEAR, of(3)),  # fewer nodes are nearer than any
    ],
)
def test_nodes_near_to_each_other_are_preferred_where_that_is_asked(offer: Any, distances: Any, chosen: Any) -> None:
    hint, _ = merge([offer], range(4), "best-effort", distances)
    assert hint.nodes == chosen


def test_where_nothing_is_preferred_there_are_as_many_nodes_as_the_neediest_must_have() -> None:
    """One that needs two nodes is not served by the one that another would be content with."""
    devices = [Hint(of(0), False), Hint(of(1), False), Hint(of(0, 1), False)]
    cpus = [Hint(of(0, 1), False), Hint(of(1, 2), False)]
    assert merge([devices, cpus], range(3), "best-effort") == (Hint(of(0, 1), False), True)


def test_the_machine_tells_the_distances_of_its_nodes(tmp_path: Path) -> None:
    for node, text in ((0, "10 21"), (2, "21 10")):
        (tmp_path / f"node{node}").mkdir()
        (tmp_path / f"node{node}/distance").write_text(f"{text}\n")
    assert numa_distances(tmp_path) == {(0, 0): 10, (0, 2): 21, (2, 0): 21, (2, 2): 10}


def test_memory_comes_from_nodes_that_serve_no_other_group() -> None:
    nodes = {node: MemoryNode(10) for node in range(3)}
    pair = reserve(nodes, (0, 1), 15)
    assert pair == {0: 10, 1: 5}
    assert [free_of(nodes, mask) for mask in ((0, 1), (1,), (1, 2), (2,))] == [5, 0, 0, 10]
    release(nodes, pair, ())
    assert free_of(nodes, (1, 2)) == 20


def test_memory_beside_what_is_reserved_can_be_had(tmp_path: Path) -> None:
    node = tmp_path / "node0"
    pages = node / "hugepages/hugepages-2048kB"
    pages.mkdir(parents=True)
    (pages / "nr_hugepages").write_text("2\n")
    (node / "meminfo").write_text("Node 0 MemTotal:       102400 kB\n")
    reserved = [{"numaNode": 0, "limits": {"memory": "10Mi"}}]
    kinds = memory_kinds(tmp_path, reserved)
    assert kinds["memory"][0].free == (100 - 4 - 10) << 20
    assert kinds["hugepages-2Mi"][0].free == 4 << 20
    with pytest.raises(ValueError, match="you should specify the system reserved memory"):
        memory_kinds(tmp_path, [])
    with pytest.raises(ValueError, match="references a NUMA node 1 that does not exist on this machine"):
        memory_kinds(tmp_path, [{"numaNode": 1, "limits": {"memory": "10Mi"}}])
