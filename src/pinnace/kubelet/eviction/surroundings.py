"""What the eviction manager works on, of one kubelet: the machine's signals, the pods' workers, what may be removed.

Implements `Surroundings` of `manager`; decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import structlog

from pinnace.cri.api import CriError, ImageService
from pinnace.kubelet.context import Node
from pinnace.kubelet.eviction import observations
from pinnace.kubelet.eviction.manager import Eviction, EvictionManager
from pinnace.kubelet.eviction.messages import REASON
from pinnace.kubelet.eviction.observations import FileSystem, file_system
from pinnace.kubelet.eviction.ranking import Disk, PodUsage
from pinnace.kubelet.eviction.thresholds import Observation, Observations, Pressure, Signal, Threshold, parse_thresholds
from pinnace.kubelet.images.gc import ImageCollector, Tell
from pinnace.kubelet.node.machine_info import Machine
from pinnace.kubelet.node.status import NodeStatus, capacity
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.pods import amount_of
from pinnace.kubelet.runtime import gc
from pinnace.kubelet.statistics.pod_usage import UsageReader
from pinnace.kubelet.sync.pod_worker import Stage
from pinnace.kubelet.sync.pod_workers import PodWorkers
from pinnace.machinery.meta import Obj, uid_of

_log = structlog.get_logger()

_USAGE_KEPT = 60.0  # seconds


class ImageDisk:
    """The file system of images, as the runtime names it; asked once, for the answer may cost a walk of all images."""

    def __init__(self, images: ImageService, root_dir: Path) -> None:
        self._images = images
        self._root_dir = root_dir
        self.path: Path | None = None
        self._usage: tuple[float, Disk] | None = None

    async def usage(self) -> Disk:
        """What all images take, as of a minute ago at most: the answer may cost a walk of them."""
        if self._usage is None or time.monotonic() - self._usage[0] > _USAGE_KEPT:
            try:
                found = await self._images.image_fs_info()
            except (CriError, OSError):
                found = []
            used = Disk(sum(one.used_bytes for one in found), sum(one.inodes_used for one in found))
            self._usage = (time.monotonic(), used)
        return self._usage[1]

    async def find(self) -> Path:
        """A directory on it; the kubelet's own until the runtime answers."""
        if self.path is None:
            try:
                found = await self._images.image_fs_info()
            except (CriError, OSError) as error:
                _log.debug("the runtime does not tell where images are", error=str(error))
                return self._root_dir
            known = [Path(one.mountpoint) for one in found if one.mountpoint and Path(one.mountpoint).exists()]
            self.path = known[0] if known else self._root_dir
        return self.path

    def read(self) -> FileSystem | None:
        """Its room; None where it cannot be told."""
        try:
            return file_system(self.path or self._root_dir)
        except OSError:
            return None

    def is_dedicated(self) -> bool:
        """Whether pods' files are elsewhere."""
        try:
            return file_system(self.path or self._root_dir).device != file_system(self._root_dir).device
        except OSError:
            return False


def pods_memory(options: KubeletOptions, machine: Machine, thresholds: Iterable[Threshold]) -> Observation | None:
    """What all pods may use together, and how much of it must be left; None where nobody limits them."""
    limit = amount_of("memory", capacity(options, machine)[0]["memory"])
    limit -= options.reserved("memory")
    for one in thresholds:
        if one.signal is Signal.ALLOCATABLE_MEMORY_AVAILABLE:
            more = one.minimum_reclaim.of(limit) if one.minimum_reclaim is not None else 0
            return Observation(one.value.of(limit) + more, limit)
    return None


class NodeSurroundings:
    """The kubelet that an `EvictionManager` serves; `workers` are by UID, `changed` tells of other conditions."""

    def __init__(
        self,
        node: Node,
        workers: PodWorkers,
        usages: UsageReader,
        disk: ImageDisk,
        images: ImageCollector,
        tell: Tell,
        changed: Callable[[], None],
        pods_memory: Observation | None,
    ) -> None:
        self._node = node
        self._workers = workers
        self._usages = usages
        self._disk = disk
        self._images = images
        self._tell = tell
        self._changed = changed
        self._pods_memory = pods_memory  # how much must be available, and what all pods may use; None: not watched

    async def observe(self) -> Observations:
        images = await self._disk.find()
        dedicated = self.dedicated_image_fs()
        found = observations.read_machine()
        root = self._node.options.root_dir
        found |= observations.read_disks(root, images, images if dedicated else None)
        if self._pods_memory is not None:
            found[Signal.ALLOCATABLE_MEMORY_AVAILABLE] = await self._observe_pods(found[Signal.MEMORY_AVAILABLE])
        return found

    async def _observe_pods(self, machine: Observation) -> Observation:
        """Memory of all pods together. They cannot use more than the machine does: mostly that answers the question."""
        assert self._pods_memory is not None
        needed, limit = self._pods_memory
        used = machine.capacity - machine.available
        if limit - used < needed:
            pods = await self._usages.read(self.active_pods(), disk=False)
            used = sum(one.memory for one in pods.values())
        return Observation(max(0, limit - used), limit)

    def dedicated_image_fs(self) -> bool:
        return self._disk.is_dedicated()

    def active_pods(self) -> list[Obj]:
        return self._workers.running()

    async def usages(self, pods: list[Obj]) -> Mapping[str, PodUsage]:
        return await self._usages.read(pods)

    async def evict(self, pod: Obj, eviction: Eviction) -> None:
        worker = self._workers.get(uid_of(pod))
        if worker is None:
            return
        node = self._node
        node.events.event(pod, "Warning", REASON, eviction.message, annotations=eviction.annotations)
        worker.fail(REASON, eviction.message, grace=eviction.grace, disruption=eviction.message)
        await worker.ended()

    async def reclaim(self, signal: Signal) -> bool:
        """Dead containers, then unused images, for whatever disk is short that they are on."""
        if signal.condition != "DiskPressure":
            return False
        if self.dedicated_image_fs() and signal.startswith("nodefs."):
            return False  # neither is there
        live = (Stage.SYNCING, Stage.TERMINATING)
        await gc.collect_ended(self._node, {uid for uid, one in self._workers.items() if one.stage in live})
        await self._images.remove_unused()
        return True

    def threshold_met(self, resource: str) -> None:
        self._tell("Warning", "EvictionThresholdMet", f"Attempting to reclaim {resource}")

    def conditions_changed(self) -> None:
        self._changed()


def make_manager(
    node: Node,
    workers: PodWorkers,
    usages: UsageReader,
    disk: ImageDisk,
    images: ImageCollector,
    status: NodeStatus,
) -> EvictionManager:
    """The eviction manager that a kubelet's options ask for. Raises ValueError for thresholds that cannot be."""
    options = node.options
    thresholds = parse_thresholds(
        options.eviction_hard,
        options.eviction_soft,
        options.eviction_soft_grace_period,
        options.eviction_minimum_reclaim,
        enforce_pods="pods" in options.enforce_node_allocatable,
    )
    memory = pods_memory(options, status.machine, thresholds)
    return EvictionManager(
        NodeSurroundings(node, workers, usages, disk, images, status.tell, status.poke, memory),
        Pressure(thresholds, options.eviction_pressure_transition_period),
        max_pod_grace_period=options.eviction_max_pod_grace_period,
        memory_alarm=options.kernel_memcg_notification,
    )
