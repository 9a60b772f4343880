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
from pinnace.kubelet.topology.cpu_choice import OPTIONS, take
from pinnace.kubelet.topology.cpu_manager import CpuManager
from pinnace.kubelet.topology.cpu_sets import CpuTopology, parse_cpus, read_topology
from pinnace.kubelet.topology.hints import NONE, POLICIES
from pinnace.kubelet.topology.manager import ResourceManagers
from pinnace.kubelet.topology.memory_choice import MemoryNode
from pinnace.kubelet.topology.memory_manager import Kinds, MemoryManager

_SYSTEM = Path("/sys/devices/system")


def make(options: KubeletOptions, devices: DeviceManager, system: Path = _SYSTEM) -> ResourceManagers:
    """The managers of a node; ValueError for what its configuration cannot have."""
    managers = ResourceManagers(devices=devices)
    if options.topology_manager_policy not in POLICIES:
        raise ValueError(f'unknown policy: "{options.topology_manager_policy}"')
    if options.cpu_manager_policy not in ("none", cpu_manager.POLICY):
        raise ValueError(f'unknown policy: "{options.cpu_manager_policy}"')
    needed = (options.cpu_manager_policy, options.memory_manager_policy, options.topology_manager_policy)
    if needed == ("none", "None", NONE):
        return managers  # nothing of the machine need be looked at
    topology = read_topology(system)
    managers.numa_nodes = topology.numa_nodes
    managers.policy, managers.by_pod = options.topology_manager_policy, options.topology_manager_scope == "pod"
    devices.affinity = managers.affinity
    if options.cpu_manager_policy == cpu_manager.POLICY:
        chosen = policy_options(options.cpu_manager_policy_options)
        reserved = reserved_cpus(topology, options.reserved_system_cpus, options.reserved("cpu"))
        managers.cpu = CpuManager(topology, reserved, chosen, options.root_dir / "cpu_manager_state")
    if options.memory_manager_policy == memory_manager.POLICY:
        kinds = memory_kinds(system / "node", options.reserved_memory)
        managers.memory = MemoryManager(kinds, options.root_dir / "memory_manager_state")
    return managers


def policy_options(given: Mapping[str, str]) -> list[str]:
    """The options of the static CPU policy that are on. Raises ValueError."""
    for name, value in given.items():
        if name not in OPTIONS:
            raise ValueError(f'unknown cpu manager policy option: "{name}"')
        if value not in ("true", "false"):
            raise ValueError(f'bad value for option "{name}": "{value}"')
    return [name for name, value in given.items() if value == "true"]


def reserved_cpus(topology: CpuTopology, named: str, milli: int) -> frozenset[int]:
    """The CPUs that no container gets for itself: those named, else as many as are reserved for the system."""
    if named:
        return parse_cpus(named)
    if milli <= 0:
        raise ValueError("the static policy requires systemreserved.cpu + kubereserved.cpu to be greater than zero")
    return take(topology, topology.ids, -(-milli // 1000))


def memory_kinds(nodes: Path, reserved: Sequence[Mapping[str, Any]]) -> Kinds:
    """Every NUMA node's memory and huge pages beside what is reserved there. Raises ValueError."""
    if not reserved:
        raise ValueError("the Static policy of the memory manager requires reservedMemory")
    kept: dict[tuple[int, str], int] = {}
    for one in reserved:
        for kind, text in (one.get("limits") or {}).items():
            kept[int(one["numaNode"]), kind] = amount_of(kind, text)
    kinds: Kinds = {"memory": {}}
    for path in sorted(nodes.glob("node[0-9]*")):
        node = int(path.name.removeprefix("node"))
        pages = huge_pages(path / "hugepages")
        total = _total(path / "meminfo") - sum(pages.values())
        kinds["memory"][node] = MemoryNode(max(0, total - kept.get((node, "memory"), 0)))
        for kind, size in pages.items():
            kinds.setdefault(kind, {})[node] = MemoryNode(max(0, size - kept.get((node, kind), 0)))
    return kinds


def _total(path: Path) -> int:
    for line in path.read_text().splitlines():
        if "MemTotal:" in line:
            return int(line.split()[-2]) * 1024
    return 0
