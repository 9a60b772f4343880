"""Makes the managers that a kubelet's configuration asks for, and refuses what cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pinnace.kubelet.devices.manager import DeviceManager
from pinnace.kubelet.node.machine_info import huge_pages
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.pods import amount_of
from pinnace.kubelet.topology import cpu_manager, memory_manager
from pinnace.kubelet.topology.cpu_choice import BY_SOCKET, take
from pinnace.kubelet.topology.cpu_manager import CpuManager
from pinnace.kubelet.topology.cpu_sets import CpuTopology, parse_cpus, read_topology
from pinnace.kubelet.topology.hints import NONE, POLICIES, SINGLE, Distances
from pinnace.kubelet.topology.manager import ResourceManagers
from pinnace.kubelet.topology.memory_choice import MemoryNode
from pinnace.kubelet.topology.memory_manager import Kinds, MemoryManager
from pinnace.kubelet.topology.policy_options import cpu_options, topology_options
from pinnace.machinery.quantity import Quantity

_SYSTEM = Path("/sys/devices/system")


def make(options: KubeletOptions, devices: DeviceManager, system: Path = _SYSTEM) -> ResourceManagers:
    """The managers of a node; ValueError for what its configuration cannot have."""
    managers = ResourceManagers(devices=devices)
    check(options)
    needed = (options.cpu_manager_policy, options.memory_manager_policy, options.topology_manager_policy)
    if needed == ("none", "None", NONE):
        return managers  # nothing of the machine need be looked at
    topology = read_topology(system)
    managers.numa_nodes = topology.numa_nodes
    managers.policy, managers.by_pod = options.topology_manager_policy, options.topology_manager_scope == "pod"
    devices.affinity = managers.affinity
    aligned = topology_options(options.topology_manager_policy_options, options.features)
    if managers.policy != NONE and len(topology.numa_nodes) > aligned.most_nodes:
        raise ValueError(f"unsupported on machines with more than {aligned.most_nodes} NUMA Nodes")
    if aligned.closest:
        managers.distances = numa_distances(system / "node")
    if options.cpu_manager_policy == cpu_manager.POLICY:
        chosen = cpu_options(options.cpu_manager_policy_options, options.features)
        if BY_SOCKET in chosen:
            _check_sockets(topology, managers.policy)
        reserved = reserved_cpus(topology, options.reserved_system_cpus, options.reserved("cpu"))
        managers.cpu = CpuManager(topology, reserved, chosen, options.root_dir / "cpu_manager_state")
    if options.memory_manager_policy == memory_manager.POLICY:
        kinds = memory_kinds(system / "node", options.reserved_memory)
        has = sum(node.allocatable for node in kinds["memory"].values())
        _check_reserved(options, sum(_reserved(options.reserved_memory, "memory").values()), has)
        managers.memory = MemoryManager(kinds, options.root_dir / "memory_manager_state")
    return managers


def check(options: KubeletOptions) -> None:
    """Raise ValueError for policies that there are not, or that do not have these options, on whatever machine."""
    if options.topology_manager_policy not in POLICIES:
        raise ValueError(f'unknown policy: "{options.topology_manager_policy}"')
    if options.cpu_manager_policy not in ("none", cpu_manager.POLICY):
        raise ValueError(f'unknown policy: "{options.cpu_manager_policy}"')
    if options.topology_manager_policy != NONE:
        topology_options(options.topology_manager_policy_options, options.features)
    if options.cpu_manager_policy == cpu_manager.POLICY:
        cpu_options(options.cpu_manager_policy_options, options.features)


def reserved_cpus(topology: CpuTopology, named: str, milli: int) -> frozenset[int]:
    """The CPUs that no container gets for itself: those named, else as many as are reserved for the system."""
    if named:
        return parse_cpus(named)
    if milli <= 0:
        raise ValueError("the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero")
    return take(topology, topology.ids, -(-milli // 1000))


def memory_kinds(nodes: Path, reserved: Sequence[Mapping[str, Any]]) -> Kinds:
    """Every NUMA node's memory and huge pages beside what is reserved there. Raises ValueError."""
    if not any(_reserved(reserved, "memory").values()):
        raise ValueError("[memorymanager] you should specify the system reserved memory")
    kinds: Kinds = {"memory": {}}
    for path in sorted(nodes.glob("node[0-9]*")):
        node = int(path.name.removeprefix("node"))
        pages = huge_pages(path / "hugepages")
        total = _total(path / "meminfo") - sum(pages.values())
        for kind, size in {"memory": total, **pages}.items():
            kept = _reserved(reserved, kind).get(node, 0)
            kinds.setdefault(kind, {})[node] = MemoryNode(max(0, size - kept))
    for one in reserved:
        if int(one["numaNode"]) not in kinds["memory"]:
            where = f"a NUMA node {one['numaNode']} that does not exist on this machine"
            raise ValueError(f"the reserved memory configuration references {where}")
    return kinds


def _reserved(reserved: Sequence[Mapping[str, Any]], kind: str) -> dict[int, int]:
    """Bytes by NUMA node."""
    found: dict[int, int] = {}
    for one in reserved:
        if (text := (one.get("limits") or {}).get(kind)) is not None:
            found[int(one["numaNode"])] = amount_of(kind, text)
    return found


def _check_reserved(options: KubeletOptions, named: int, left: int) -> None:
    """What is reserved by node is to be what is reserved in all, with what evictions keep free. Raises ValueError."""
    expected = options.reserved("memory") + options.kept_free("memory", named + left)
    if named != expected:
        said, wanted = (str(Quantity(amount, "binary")) for amount in (named, expected))
        why = f'is not equal to the value "{wanted}" determined by Node Allocatable feature'
        raise ValueError(f'the total amount "{said}" of type "memory" {why}')


def _check_sockets(topology: CpuTopology, policy: str) -> None:
    if policy == SINGLE:
        what = f"Topology manager {SINGLE} policy is incompatible with CPUManager {BY_SOCKET} policy option"
        raise ValueError(what)
    if len({cpu.socket for cpu in topology.cpus.values()}) > len(topology.numa_nodes):
        where = "hardware where number of sockets are more than number of NUMA"
        raise ValueError(f"Align by socket is not compatible with {where}")


def numa_distances(nodes: Path) -> Distances:
    """How far NUMA nodes are from each other, as the kernel tells. Raises ValueError."""
    paths = {int(path.name.removeprefix("node")): path for path in nodes.glob("node[0-9]*")}
    ids = sorted(paths)
    found: dict[tuple[int, int], int] = {}
    for node in ids:
        listed = (paths[node] / "distance").read_text().split()
        found.update({(node, other): int(text) for other, text in zip(ids, listed, strict=True)})
    return found


def _total(path: Path) -> int:
    for line in path.read_text().splitlines():
        if "MemTotal:" in line:
            return int(line.split()[-2]) * 1024
    return 0
