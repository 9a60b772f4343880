"""The static CPU manager: CPUs for containers of Guaranteed pods that ask for whole ones, the rest for all others.

The state is in a file of Kubernetes' own form (`cpu_manager_state`): a kubelet started anew keeps everybody's CPUs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path

import orjson

from pinnace.kubelet import state_files
from pinnace.kubelet.pods import GUARANTEED, qos_class
from pinnace.kubelet.topology.cpu_choice import BY_SOCKET, FULL_CORES, STRICT_RESERVATION, NotEnoughCpus, take
from pinnace.kubelet.topology.cpu_sets import CpuTopology, format_cpus, parse_cpus
from pinnace.kubelet.topology.errors import ManagerError, RefusedError
from pinnace.kubelet.topology.hints import Hint, Nodes, hints
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity

POLICY = "static"


def exclusive(pod: Obj, container: Obj) -> int:
    """How many CPUs the container gets for itself."""
    text = ((container.get("resources") or {}).get("requests") or {}).get("cpu")
    if text is None or qos_class(pod) != GUARANTEED or pod["spec"].get("resources"):
        return 0
    milli = Quantity.parse(str(text)).milli_value()
    return 0 if milli % 1000 else milli // 1000


class CpuManager:
    """Whose CPUs are whose."""

    def __init__(
        self, topology: CpuTopology, reserved: Collection[int], options: Collection[str], state_file: Path
    ) -> None:
        self.topology = topology
        self.reserved = frozenset(reserved)
        self._options = options
        self._file = state_file
        self._held: dict[tuple[str, str], frozenset[int]] = {}  # by pod UID and container
        self._load()

    @property
    def shared(self) -> frozenset[int]:
        """The CPUs of containers that have none for themselves."""
        kept = self.reserved if STRICT_RESERVATION in self._options else frozenset()
        return self.topology.ids - self.exclusive - kept

    @property
    def allocatable(self) -> frozenset[int]:
        return self.topology.ids - self.reserved

    @property
    def exclusive(self) -> frozenset[int]:
        """The CPUs that some container has for itself."""
        return frozenset(cpu for cpus in self._held.values() for cpu in cpus)

    def held(self, uid: str, name: str) -> frozenset[int]:
        """The CPUs that a container has for itself."""
        return self._held.get((uid, name), frozenset())

    def cpus(self, uid: str, name: str) -> str:
        """The cpuset of a container."""
        return format_cpus(self.held(uid, name) or self.shared)

    def has_own(self, uid: str) -> bool:
        """Whether some container of the pod has CPUs for itself."""
        return any(key[0] == uid for key in self._held)

    def _free(self, reusable: Collection[int]) -> frozenset[int]:
        return (self.shared - self.reserved) | frozenset(reusable)

    def hints(self, needed: int, uid: str, name: str, reusable: Collection[int]) -> list[Hint]:
        """Where so many CPUs could come from."""
        held = self._held.get((uid, name))
        if held is not None:
            nodes = frozenset(self.topology.cpus[cpu].numa for cpu in held)
            return [Hint(nodes, True)]
        free = self._free(reusable)
        found = hints(
            self.topology.numa_nodes,
            lambda mask: len(self.topology.of_numa(mask)),
            lambda mask: len(self.topology.of_numa(mask) & free),
            needed,
        )
        return [Hint(one.nodes, self._within_socket(one)) for one in found] if BY_SOCKET in self._options else found

    def _within_socket(self, hint: Hint) -> bool:
        sockets = {cpu.socket for cpu in self.topology.cpus.values() if cpu.numa in (hint.nodes or ())}
        return hint.preferred or len(sockets) == 1

    def allocate(
        self, pod_uid: str, name: str, count: int, affinity: Nodes | None, reusable: Collection[int]
    ) -> frozenset[int]:
        """CPUs for a container: of the chosen NUMA nodes first, then of others. Raises RefusedError, ManagerError."""
        held = self._held.get((pod_uid, name))
        if held is not None:
            return held
        threads = self.topology.threads_per_core
        if FULL_CORES in self._options and count % threads:
            text = f"SMT Alignment Error: requested {count} cpus not multiple cpus per core = {threads}"
            raise RefusedError("SMTAlignmentError", text)
        free = self._free(reusable)
        try:
            found = frozenset[int]()
            if affinity is not None:
                near = free & self.topology.of_numa(affinity)
                found = take(self.topology, near, min(count, len(near)), self._options)
            found |= take(self.topology, free - found, count - len(found), self._options)
        except NotEnoughCpus as error:
            raise ManagerError(str(error)) from None
        self._held[pod_uid, name] = found
        self._save()
        return found

    def release(self, uids: Iterable[str]) -> bool:
        """Give back what pods have; whether they had any."""
        gone = set(uids)
        keys = [key for key in self._held if key[0] in gone]
        for key in keys:
            del self._held[key]
        if keys:
            state_files.note(self._file, self._state())
        return bool(keys)

    def owners(self) -> set[str]:
        return {uid for uid, _ in self._held}

    def _save(self) -> None:
        state_files.write(self._file, self._state())

    def _state(self) -> bytes:
        entries: dict[str, dict[str, str]] = {}
        for (uid, name), cpus in self._held.items():
            entries.setdefault(uid, {})[name] = format_cpus(cpus)
        state = {"policyName": POLICY, "defaultCpuSet": format_cpus(self.shared), "entries": entries}
        return orjson.dumps(state)

    def _load(self) -> None:
        """Raises ValueError where the file is another policy's, or of another machine."""
        try:
            state = orjson.loads(state_files.read(self._file))
        except FileNotFoundError:
            self._save()
            return
        if state.get("policyName") != POLICY:
            raise ValueError(
                f'configured policy "{POLICY}" differs from state checkpoint policy "{state.get("policyName")}"'
            )
        for uid, containers in (state.get("entries") or {}).items():
            for name, text in containers.items():
                cpus = parse_cpus(text)
                if not cpus <= self.topology.ids:
                    raise ValueError(f"{self._file} names CPUs that this machine does not have")
                self._held[uid, name] = cpus
