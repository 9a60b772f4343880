"""What the node and its pods use, as `/stats/summary` shows it: CPU, memory, network, disks, volumes, processes.

Figures come from the runtime, /proc and the file systems; directories are walked in a thread and not again at once
(`disk_usage`). The shape is stats/v1alpha1 (https://kubernetes.io/docs/reference/instrumentation/node-metrics/).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnace.cri.api import ContainerStats, CriError, PodSandboxMetadata, PodSandboxStats, RuntimeService
from pinnace.kubelet.eviction.observations import FileSystem, file_system, memory, processes
from pinnace.kubelet.eviction.ranking import NOTHING, Disk
from pinnace.kubelet.pods import LABEL_CONTAINER_NAME, LABEL_POD_NAME, LABEL_POD_NAMESPACE, LABEL_POD_UID, log_directory
from pinnace.kubelet.statistics.node_metrics import node_usage
from pinnace.kubelet.statistics.pod_usage import volume_directories
from pinnace.machinery.meta import Obj, format_time, uid_of

if TYPE_CHECKING:
    from pinnace.kubelet.kubelet import Kubelet

_SECOND = 1_000_000_000


@dataclass(slots=True)
class PodDisk:
    """What of a pod is on the node's disk."""

    logs: dict[str, Disk] = field(default_factory=dict)  # by container
    volumes: dict[str, Disk] = field(default_factory=dict)
    ephemeral: frozenset[str] = frozenset()  # those that live as long as the pod, on the disk


class Rates:
    """Nanocores from counters of CPU time: what was used between two looks."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[int, int]] = {}  # name -> when, nanoseconds of CPU

    def of(self, name: str, when: int, used: int) -> int | None:
        """None at the first look, and where a counter began anew."""
        before = self._before.get(name)
        self._before[name] = (when, used)
        if before is None or when <= before[0] or used < before[1]:
            return None
        return (used - before[1]) * _SECOND // (when - before[0])

    def keep(self, names: set[str]) -> None:
        """Forget the others."""
        self._before = {name: known for name, known in self._before.items() if name in names}


def moment(nanoseconds: int) -> str:
    return format_time(datetime.fromtimestamp(nanoseconds / _SECOND, UTC))


def booted(now: int) -> int:
    """When the machine began, in nanoseconds since 1970."""
    return now - int(float(Path("/proc/uptime").read_text().split()[0]) * _SECOND)


def cpu(name: str, when: int, used: int, rates: Rates) -> Obj:
    rate = rates.of(name, when, used)
    shown: Obj = {"time": moment(when), "usageCoreNanoSeconds": used}
    return shown if rate is None else {**shown, "usageNanoCores": rate}


def memory_of(when: int, usage: int, working_set: int, rss: int) -> Obj:
    return {"time": moment(when), "usageBytes": usage, "workingSetBytes": working_set, "rssBytes": rss}


def disk(when: int, on: FileSystem | None, used: Disk) -> Obj:
    """What something takes, and the room of the file system that it is on."""
    shown: Obj = {"time": moment(when)}
    if on is not None:
        shown |= {"availableBytes": on.available, "capacityBytes": on.capacity}
        shown |= {"inodesFree": on.inodes_free, "inodes": on.inodes}
    return {**shown, "usedBytes": used.used, "inodesUsed": used.inodes}


def whole_disk(when: int, on: FileSystem) -> Obj:
    return disk(when, on, Disk(on.used, on.inodes - on.inodes_free))


def network(when: int, stats: PodSandboxStats) -> Obj | None:
    """A pod's network, the default interface first; None for the host's."""
    interfaces = [
        {
            "name": one.name,
            "rxBytes": one.rx_bytes,
            "rxErrors": one.rx_errors,
            "txBytes": one.tx_bytes,
            "txErrors": one.tx_errors,
        }
        for one in stats.interfaces
    ]
    return {"time": moment(when), **interfaces[0], "interfaces": interfaces} if interfaces else None


def container(
    stats: ContainerStats, started: int, logs: Disk, on: tuple[FileSystem | None, FileSystem | None], rates: Rates
) -> Obj:
    """One container; `on` are the file systems of logs and of what containers write."""
    when = stats.timestamp
    rootfs = Disk(stats.writable_layer_used_bytes, stats.writable_layer_inodes_used)
    return {
        "name": stats.labels.get(LABEL_CONTAINER_NAME, stats.metadata.name),
        "startTime": moment(started or when),
        "cpu": cpu(stats.id, when, stats.cpu_usage_core_nano_seconds, rates),
        "memory": memory_of(when, stats.memory_usage_bytes, stats.memory_working_set_bytes, stats.memory_rss_bytes),
        "rootfs": disk(when, on[1], rootfs),
        "logs": disk(when, on[0], logs),
    }


def pod(
    stats: PodSandboxStats,
    started: dict[str, int],
    disks: PodDisk,
    on: tuple[FileSystem | None, FileSystem | None],
    rates: Rates,
) -> Obj:
    """One pod; `started` are its containers' beginnings by id, and its own by its id, in nanoseconds since 1970."""
    labels, when = stats.labels, stats.timestamp
    containers = [
        container(one, started.get(one.id, 0), disks.logs.get(_name(one), NOTHING), on, rates)
        for one in stats.containers
    ]
    written = NOTHING
    for one in stats.containers:
        written += Disk(one.writable_layer_used_bytes, one.writable_layer_inodes_used)
    for used in (*disks.logs.values(), *(disks.volumes[name] for name in disks.ephemeral & disks.volumes.keys())):
        written += used
    shown: Obj = {
        "podRef": {
            "name": labels.get(LABEL_POD_NAME, stats.metadata.name),
            "namespace": labels.get(LABEL_POD_NAMESPACE, stats.metadata.namespace),
            "uid": labels.get(LABEL_POD_UID, stats.metadata.uid),
        },
        "startTime": moment(started.get(stats.id, 0) or when),
        "containers": containers,
        "cpu": cpu(stats.id, when, stats.cpu_usage_core_nano_seconds, rates),
        "memory": memory_of(when, stats.memory_usage_bytes, stats.memory_working_set_bytes, stats.memory_rss_bytes),
        "volume": [{"name": name, **disk(when, on[0], used)} for name, used in disks.volumes.items()],
        "ephemeral-storage": disk(when, on[0], written),
        "process_stats": {"process_count": stats.process_count},
    }
    net = network(when, stats)
    return shown if net is None else {**shown, "network": net}


def _name(stats: ContainerStats) -> str:
    return stats.labels.get(LABEL_CONTAINER_NAME, stats.metadata.name)


def cpu_and_memory_only(summary: Obj) -> Obj:
    """The part that `?only_cpu_and_memory=true` asks for."""
    node = {
        name: summary["node"][name] for name in ("nodeName", "startTime", "cpu", "memory") if name in summary["node"]
    }
    kept = ("podRef", "startTime", "cpu", "memory")
    pods = [
        {
            **{name: one[name] for name in kept},
            "containers": [
                {name: c[name] for name in ("name", "startTime", "cpu", "memory")} for c in one["containers"]
            ],
        }
        for one in summary["pods"]
    ]
    return {"node": node, "pods": pods}


async def pod_stats(runtime: RuntimeService) -> list[PodSandboxStats]:
    """What every pod uses; from its containers alone where the runtime does not tell of pods."""
    try:
        try:
            return await runtime.list_pod_sandbox_stats()
        except CriError:  # also where one of them is just coming or going, for a containerd of 1.6
            return by_pod(await runtime.list_container_stats())
    except (CriError, OSError):
        return []


def by_pod(found: Iterable[ContainerStats]) -> list[PodSandboxStats]:
    """Containers added up to their pods, which nobody knows the network of."""
    pods: dict[str, PodSandboxStats] = {}
    for one in found:
        uid = one.labels.get(LABEL_POD_UID, "")
        total = pods.get(uid)
        if total is None:
            name, namespace = one.labels.get(LABEL_POD_NAME, ""), one.labels.get(LABEL_POD_NAMESPACE, "")
            metadata = PodSandboxMetadata(name=name, uid=uid, namespace=namespace)
            labels = {key: value for key, value in one.labels.items() if key != LABEL_CONTAINER_NAME}
            total = PodSandboxStats(id=f"pod{uid}", metadata=metadata, labels=labels, timestamp=one.timestamp)
            pods[uid] = total
        total.cpu_usage_core_nano_seconds += one.cpu_usage_core_nano_seconds
        total.memory_working_set_bytes += one.memory_working_set_bytes
        total.memory_usage_bytes += one.memory_usage_bytes
        total.memory_rss_bytes += one.memory_rss_bytes
        total.process_count += one.process_count
        total.containers.append(one)
    return list(pods.values())


class Summary:
    """The summaries of one kubelet."""

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._rates = Rates()

    async def read(self) -> Obj:
        """The node and its pods now."""
        kubelet = self._kubelet
        found = await pod_stats(kubelet.node.runtime)
        disks = await asyncio.to_thread(self._walk, kubelet.pods())
        root = _try(kubelet.options.root_dir)
        await kubelet.image_disk.find()
        on = (root, kubelet.image_disk.read())
        started = self._started()
        pods = [pod(one, started, disks.get(one.metadata.uid, PodDisk()), on, self._rates) for one in found]
        for shown in pods:
            shown["volume"] += kubelet.claimed_volumes.found.get(shown["podRef"]["uid"], [])
        node = await self._node(found, root)
        self._rates.keep({"node", "pods", *(one.id for one in found), *(c.id for one in found for c in one.containers)})
        return {"node": node, "pods": pods}

    def _started(self) -> dict[str, int]:
        """When containers and sandboxes began."""
        found: dict[str, int] = {}
        for one in self._kubelet.node.cache.pods.values():
            found |= {status.id: status.started_at for status in one.containers}
            found |= {box.id: box.created_at for box in one.sandboxes}
        return found

    def _walk(self, pods: Iterable[Obj]) -> dict[str, PodDisk]:
        options, measure = self._kubelet.options, self._kubelet.usages.volume
        found = {}
        for one in pods:
            logs = log_directory(options.pod_logs_dir, one)
            names = [each["name"] for kind in ("initContainers", "containers") for each in one["spec"].get(kind) or ()]
            volumes = {name: measure(path) for name, path in volume_directories(options.pods_dir, one)}
            in_memory = {
                volume["name"]
                for volume in one["spec"].get("volumes") or ()
                if (volume.get("emptyDir") or {}).get("medium") == "Memory"
            }
            found[uid_of(one)] = PodDisk(
                {name: measure(logs / name) for name in names}, volumes, frozenset(volumes.keys() - in_memory)
            )
        return found

    async def _node(self, found: list[PodSandboxStats], root: FileSystem | None) -> Obj:
        now = time.time_ns()
        used, working_set = node_usage()
        meminfo = memory(Path("/proc/meminfo").read_text())
        node: Obj = {
            "nodeName": self._kubelet.options.node_name,
            "startTime": moment(booted(now)),
            "cpu": cpu("node", now, used, self._rates),
            "memory": {
                **memory_of(now, working_set, working_set, working_set),
                "availableBytes": meminfo.available,
            },
            "systemContainers": [self._all_pods(now, found)],
            "rlimit": _rlimit(now),
        }
        if root is not None:
            node["fs"] = whole_disk(now, root)
        images = self._kubelet.image_disk.read()
        if images is not None:
            image_fs = disk(now, images, await self._kubelet.image_disk.usage())
            node["runtime"] = {"imageFs": image_fs, "containerFs": image_fs}
        return node

    def _all_pods(self, now: int, found: list[PodSandboxStats]) -> Obj:
        """What all pods use together, which Kubernetes shows as a container."""
        usage = sum(one.memory_usage_bytes for one in found)
        working_set, rss = (
            sum(one.memory_working_set_bytes for one in found),
            sum(one.memory_rss_bytes for one in found),
        )
        return {
            "name": "pods",
            "startTime": moment(now),
            "cpu": cpu("pods", now, sum(one.cpu_usage_core_nano_seconds for one in found), self._rates),
            "memory": memory_of(now, usage, working_set, rss),
        }


def _rlimit(now: int) -> dict[str, Any]:
    kernel = Path("/proc/sys/kernel")
    loadavg = Path("/proc/loadavg").read_text()
    seen = processes(loadavg, (kernel / "pid_max").read_text(), (kernel / "threads-max").read_text())
    return {"time": moment(now), "maxpid": seen.capacity, "curproc": seen.capacity - seen.available}


def _try(path: Path) -> FileSystem | None:
    try:
        return file_system(path)
    except OSError:
        return None
