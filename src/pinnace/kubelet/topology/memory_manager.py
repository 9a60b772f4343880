"""The Static memory manager: memory and huge pages of Guaranteed pods come from as few NUMA nodes as can hold them.

The state is in `memory_manager_state`, below the kubelet's directory (KEP-1769).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import orjson

from pinnace.kubelet import state_files
from pinnace.kubelet.pods import GUARANTEED, qos_class
from pinnace.kubelet.resources.allocation import amounts
from pinnace.kubelet.topology.cpu_sets import format_cpus
from pinnace.kubelet.topology.errors import ManagerError
from pinnace.kubelet.topology.hints import Hint, Nodes, hints
from pinnace.kubelet.topology.memory_choice import MemoryNode, free_of, release, reserve
from pinnace.machinery.meta import Obj

POLICY = "Static"
Kinds = dict[str, dict[int, MemoryNode]]
"""By kind (`memory`, `hugepages-2Mi`) the NUMA nodes."""


def wanted(pod: Obj, container: Obj) -> dict[str, int]:
    """Bytes by kind that the container is to get from chosen nodes."""
    if qos_class(pod) != GUARANTEED or pod["spec"].get("resources"):
        return {}
    requests = amounts(container.get("resources"), "requests")
    return {
        name: size for name, size in requests.items() if size and (name == "memory" or name.startswith("hugepages-"))
    }


class MemoryManager:
    """Whose memory is where."""

    def __init__(self, kinds: Kinds, state_file: Path) -> None:
        self._kinds = kinds
        self._file = state_file
        self._held: dict[tuple[str, str], dict[str, dict[int, int]]] = {}
        self._load()

    @property
    def numa_nodes(self) -> tuple[int, ...]:
        return tuple(sorted(self._kinds["memory"]))

    def nodes(self, uid: str, name: str) -> str:
        """The cpuset.mems of a container; empty where it may use all."""
        held = self._held.get((uid, name)) or {}
        return format_cpus({node for parts in held.values() for node in parts})

    def held(self, uid: str, name: str) -> Mapping[str, Mapping[int, int]]:
        """Bytes by kind and node."""
        return self._held.get((uid, name)) or {}

    def kinds(self) -> Kinds:
        return self._kinds

    def hints(self, needs: Mapping[str, int], uid: str, name: str) -> list[list[Hint] | None]:
        """For each kind where it could come from."""
        held = self._held.get((uid, name))
        if held is not None:
            return [[Hint(frozenset(parts), True)] for parts in held.values()]
        return [self._hints(kind, size) for kind, size in needs.items()]

    def _hints(self, kind: str, size: int) -> list[Hint]:
        nodes = self._kinds.get(kind)
        if nodes is None:
            return []
        return hints(
            list(nodes),
            lambda mask: sum(nodes[one].allocatable for one in mask),
            lambda mask: free_of(nodes, mask),
            size,
        )

    def allocate(self, uid: str, name: str, needs: Mapping[str, int], affinity: Nodes | None) -> None:
        """Reserve what a container needs. Raises ManagerError."""
        if not needs or (uid, name) in self._held:
            return
        chosen: dict[str, Nodes] = {}
        for kind, size in needs.items():
            nodes = self._kinds.get(kind) or {}
            if affinity is not None and free_of(nodes, affinity) >= size:
                chosen[kind] = affinity
                continue
            fitting = [hint.nodes for hint in self._hints(kind, size) if hint.nodes is not None]
            if not fitting:
                why = "failed to get the default NUMA affinity, no NUMA nodes with enough memory is available"
                raise ManagerError(f"[memorymanager] {why}")
            chosen[kind] = fitting[0]
        self._held[uid, name] = {kind: reserve(self._kinds[kind], chosen[kind], size) for kind, size in needs.items()}
        self._save()

    def release(self, uids: Iterable[str]) -> None:
        gone = set(uids)
        keys = [key for key in self._held if key[0] in gone]
        for key in keys:
            taken = self._held.pop(key)
            for kind, parts in taken.items():
                used = {node for held in self._held.values() for node in held.get(kind, ())}
                release(self._kinds[kind], parts, used)
        if keys:
            state_files.note(self._file, self._state())

    def owners(self) -> set[str]:
        return {uid for uid, _ in self._held}

    def _save(self) -> None:
        state_files.write(self._file, self._state())

    def _state(self) -> bytes:
        entries = [[uid, name, held] for (uid, name), held in self._held.items()]
        state = {"policyName": POLICY, "entries": entries}
        return orjson.dumps(state, option=orjson.OPT_NON_STR_KEYS)

    def _load(self) -> None:
        try:
            state = orjson.loads(state_files.read(self._file))
        except FileNotFoundError:
            self._save()
            return
        for uid, name, kinds in state["entries"]:
            held = {kind: {int(node): size for node, size in parts.items()} for kind, parts in kinds.items()}
            self._held[uid, name] = held
            for kind, parts in held.items():
                for node, size in parts.items():
                    self._kinds[kind][node].reserved += size
                    self._kinds[kind][node].group = frozenset(parts)
