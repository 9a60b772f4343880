"""What a pod's containers get of the node before it may run: CPUs, memory and devices, near to each other.

Asks every manager where a request could be served, has the topology policy decide, and lets them allocate there
(https://kubernetes.io/docs/tasks/administer-cluster/topology-manager/). Scope `container` decides for one container
after the other, scope `pod` for all of them at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from pinnace.cri.api import LinuxContainerResources
from pinnace.kubelet.devices.choice import Numa
from pinnace.kubelet.devices.manager import DeviceManager
from pinnace.kubelet.pods import containers, init_containers, is_sidecar
from pinnace.kubelet.statistics import measures
from pinnace.kubelet.topology import cpu_manager, memory_manager
from pinnace.kubelet.topology.cpu_manager import CpuManager
from pinnace.kubelet.topology.errors import ManagerError, RefusedError
from pinnace.kubelet.topology.hints import NONE, Distances, Hint, Nodes, hints, merge
from pinnace.kubelet.topology.memory_manager import MemoryManager
from pinnace.machinery.meta import Obj, uid_of

_REFUSED = "Resources cannot be allocated with Topology locality"


@dataclass(slots=True, kw_only=True)
class ResourceManagers:
    """The managers of a node; those that its configuration does not turn on are None."""

    devices: DeviceManager
    cpu: CpuManager | None = None
    memory: MemoryManager | None = None
    policy: str = NONE
    by_pod: bool = False  # the scope is `pod`
    numa_nodes: tuple[int, ...] = (0,)
    distances: Distances | None = None  # between NUMA nodes, where they matter
    _affinities: dict[tuple[str, str], Nodes | None] = field(default_factory=dict)

    async def allocate(self, pod: Obj) -> None:
        """Give all containers what they ask for. Raises ManagerError, and nothing is held by the pod then."""
        if self.cpu is None and self.memory is None and self.policy == NONE:
            await self.devices.allocate(pod)
            return
        uid = uid_of(pod)
        if self._holds(uid):
            return  # a kubelet before this one gave it all that it needs
        try:
            if self.by_pod and self.policy != NONE:
                self._align_pod(pod)
            reusable: set[int] = set()

            def prepare(container: Obj) -> None:
                self._prepare(pod, container, reusable)

            with measures.taking_milliseconds(measures.topology_milliseconds):
                await self.devices.allocate(pod, prepare)
        except BaseException:
            self.release(uid)
            raise

    def _holds(self, uid: str) -> bool:
        """Whether a manager has given the pod something."""
        owners = self.devices.owners()
        return uid in owners or any(uid in one.owners() for one in (self.cpu, self.memory) if one is not None)

    def _prepare(self, pod: Obj, container: Obj, reusable: set[int]) -> None:
        """Decide for a container and give it CPUs and memory; CPUs of init containers may be had again."""
        uid, name = uid_of(pod), container["name"]
        if not self.by_pod and self.policy != NONE:
            self._affinities[uid, name] = self._decide([self._offers(pod, container, reusable)])
        affinity = self._affinities.get((uid, name))
        if self.cpu is not None and (count := cpu_manager.exclusive(pod, container)):
            measures.cpu_pinnings.inc()
            try:
                given = self.cpu.allocate(uid, name, count, affinity, reusable)
            except ManagerError:
                measures.cpu_pinning_errors.inc()
                raise
            is_init = any(one["name"] == name for one in init_containers(pod))
            if is_init and not is_sidecar(container):
                reusable |= given
            else:
                reusable -= given
        if self.memory is not None:
            self._pin_memory(uid, name, memory_manager.wanted(pod, container), affinity)

    def _pin_memory(self, uid: str, name: str, needs: Mapping[str, int], affinity: Nodes | None) -> None:
        if self.memory is None or not needs:
            return
        measures.memory_pinnings.inc()
        try:
            self.memory.allocate(uid, name, needs, affinity)
        except ManagerError:
            measures.memory_pinning_errors.inc()
            raise

    def _align_pod(self, pod: Obj) -> None:
        everything = [*init_containers(pod), *containers(pod)]
        decided = self._decide([self._pod_offers(pod, everything)])
        for container in everything:
            self._affinities[uid_of(pod), container["name"]] = decided

    def _decide(self, groups: list[list[list[Hint] | None]]) -> Nodes | None:
        measures.topology_requests.inc()
        hint, admitted = merge(
            [offer for group in groups for offer in group], self.numa_nodes, self.policy, self.distances
        )
        if not admitted:
            measures.topology_errors.inc()
            raise RefusedError("TopologyAffinityError", _REFUSED)
        return hint.nodes

    def _offers(self, pod: Obj, container: Obj, reusable: Collection[int]) -> list[list[Hint] | None]:
        """Every manager's hints for one container."""
        uid, name = uid_of(pod), container["name"]
        found: list[list[Hint] | None] = []
        if self.cpu is not None and (count := cpu_manager.exclusive(pod, container)):
            found.append(self.cpu.hints(count, uid, name, reusable))
        if self.memory is not None and (needs := memory_manager.wanted(pod, container)):
            found += self.memory.hints(needs, uid, name)
        return [*found, *self._device_offers(self.devices.asked(container))]

    def _pod_offers(self, pod: Obj, everything: list[Obj]) -> list[list[Hint] | None]:
        """Every manager's hints for all containers together: what main ones need, or more where an init one does."""
        uid, name = uid_of(pod), everything[0]["name"]
        mains = {id(one) for one in containers(pod)} | {id(one) for one in everything if is_sidecar(one)}
        cpus, needs, devices = 0, dict[str, int](), dict[str, int]()
        for container in everything:
            together = id(container) in mains
            count = cpu_manager.exclusive(pod, container)
            cpus = cpus + count if together else max(cpus, count)
            for total, more in (
                (needs, memory_manager.wanted(pod, container)),
                (devices, self.devices.asked(container)),
            ):
                for kind, amount in more.items():
                    total[kind] = total.get(kind, 0) + amount if together else max(total.get(kind, 0), amount)
        found: list[list[Hint] | None] = []
        if self.cpu is not None and cpus:
            found.append(self.cpu.hints(cpus, uid, name, ()))
        if self.memory is not None and needs:
            found += self.memory.hints(needs, uid, name)
        return [*found, *self._device_offers(devices)]

    def _device_offers(self, asked: dict[str, int]) -> list[list[Hint] | None]:
        found: list[list[Hint] | None] = []
        for resource, count in asked.items():
            healthy, free = self.devices.devices().get(resource, {}), self.devices.free(resource)
            if not any(healthy.values()):
                found.append(None)  # it does not say where its devices are
                continue
            found.append(hints(self.numa_nodes, _counter(healthy), _counter(free), count))
        return found

    def fixed(self) -> list[str]:
        """The resources of which Guaranteed pods cannot be given more or less as they run."""
        return [name for name, manager in (("cpu", self.cpu), ("memory", self.memory)) if manager is not None]

    def bind(self, uid: str, name: str, resources: LinuxContainerResources) -> None:
        """Add to a container's resources where it runs; who has CPUs for itself is not slowed down on them."""
        if self.cpu is not None:
            resources.cpuset_cpus = self.cpu.cpus(uid, name)
            if self.cpu.held(uid, name):
                resources.cpu_quota = resources.cpu_period = 0
        if self.memory is not None:
            resources.cpuset_mems = self.memory.nodes(uid, name)

    def of_pod(self, pod: Obj, resources: LinuxContainerResources) -> LinuxContainerResources:
        """The limits of a pod's cgroup; without one of CPU where some container has CPUs for itself."""
        if self.cpu is None or not self.cpu.has_own(uid_of(pod)):
            return resources
        return replace(resources, cpu_quota=0, cpu_period=0)

    def affinity(self, uid: str, name: str) -> Nodes | None:
        """The NUMA nodes that were decided for a container."""
        return self._affinities.get((uid, name))

    def release(self, uid: str) -> bool:
        """The pod needs nothing any more; whether shared CPUs are others now."""
        self.devices.release(uid)
        for key in [key for key in self._affinities if key[0] == uid]:
            del self._affinities[key]
        if self.memory is not None:
            self.memory.release([uid])
        return self.cpu is not None and self.cpu.release([uid])

    def keep_only(self, uids: Collection[str]) -> None:
        """Release what pods hold that are not here any more."""
        self.devices.keep_only(uids)
        owners = (self.cpu.owners() if self.cpu else set()) | (self.memory.owners() if self.memory else set())
        for uid in owners - set(uids):
            self.release(uid)


def _counter(devices: Mapping[str, Numa]) -> Callable[[Nodes], int]:
    """How many of the devices are near to some of the nodes."""
    return lambda nodes: sum(bool(near & nodes) for near in devices.values())
