"""What pods use now: figures of the runtime for their containers, and what their logs and volumes take on the disk.

Directories are walked in a thread, and only for pods that somebody asks about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

from pinnace.cri.api import ContainerStats, CriError, RuntimeService
from pinnace.kubelet.eviction.ranking import ContainerUsage, Disk, PodUsage
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.pods import LABEL_CONTAINER_NAME, LABEL_POD_UID, log_directory
from pinnace.kubelet.statistics.disk_usage import Meter
from pinnace.machinery.meta import Obj, uid_of


class UsageReader:
    """Measures pods of one node."""

    def __init__(self, runtime: RuntimeService, options: KubeletOptions) -> None:
        self._runtime = runtime
        self._options = options
        self._meter = Meter()

    async def read(self, pods: Iterable[Obj], *, disk: bool = True) -> dict[str, PodUsage]:
        """By UID; pods of which the runtime knows nothing are left out. Without `disk` nothing is walked."""
        wanted = {uid_of(pod): pod for pod in pods}
        try:
            stats = await self._runtime.list_container_stats()
        except (CriError, OSError):
            return {}
        found: dict[str, PodUsage] = {}
        for one in stats:
            uid = one.labels.get(LABEL_POD_UID, "")
            if uid in wanted:
                add_container(found.setdefault(uid, PodUsage()), one)
        if disk:
            await asyncio.to_thread(self._walk, [(wanted[uid], usage) for uid, usage in found.items()])
        return found

    def _walk(self, pods: list[tuple[Obj, PodUsage]]) -> None:
        for pod, usage in pods:
            logs = log_directory(self._options.pod_logs_dir, pod)
            for one in usage.containers:
                one.logs = self._meter.measure(logs / one.name)
            usage.volumes = {
                name: self._meter.measure(path) for name, path in volume_directories(self._options.pods_dir, pod)
            }
        self._meter.forget()

    def volume(self, path: Path) -> Disk:
        """What a volume's directory takes; for a thread to call."""
        return self._meter.measure(path)


def add_container(usage: PodUsage, stats: ContainerStats) -> None:
    """Count a container to its pod."""
    usage.processes += stats.process_count
    usage.containers.append(
        ContainerUsage(
            name=stats.labels.get(LABEL_CONTAINER_NAME, stats.metadata.name),
            memory=stats.memory_working_set_bytes,
            rootfs=Disk(stats.writable_layer_used_bytes, stats.writable_layer_inodes_used),
        )
    )


_ON_DISK = {
    "emptyDir": "empty-dir",
    "configMap": "configmap",
    "secret": "secret",
    "downwardAPI": "downward-api",
    "projected": "projected",
}


def volume_directories(pods_dir: Path, pod: Obj) -> list[tuple[str, Path]]:
    """Volumes that the kubelet made for a pod, by name, and where they are."""
    found = []
    for volume in pod["spec"].get("volumes") or ():
        for kind, plugin in _ON_DISK.items():
            if kind in volume:
                path = pods_dir / uid_of(pod) / "volumes" / f"kubernetes.io~{plugin}" / volume["name"]
                found.append((volume["name"], path))
    return found
