"""How full the volumes of claims are, and whether their drivers call them well: looked at once a minute.

Drivers are asked (CSI's NodeGetVolumeStats); other file systems say it themselves. What drivers call abnormal becomes
an event of the pod where `CSIVolumeHealth` is on (https://kubernetes.io/docs/concepts/storage/volume-health-monitoring/).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pinnace.cri.api import CriError
from pinnace.kubelet import state_files
from pinnace.kubelet.statistics import measures, volume_measures
from pinnace.kubelet.volumes import csi_published
from pinnace.kubelet.volumes.csi_volume import GET_VOLUME_STATS, VOLUME_CONDITION
from pinnace.kubelet.volumes.persistent_volume_claim import claim_name
from pinnace.machinery.meta import Obj, format_time, namespace_of, utc_now
from pinnace.machinery.metrics import Collected, Family

if TYPE_CHECKING:
    from pinnace.kubelet.context import Node
    from pinnace.kubelet.sync.pod_worker import PodWorker

_SLOW = 10.0  # seconds after which a server of files is not waited for
_BYTES, _INODES = 1, 2  # CSI's units
_MEASURES = {
    "kubelet_volume_stats_available_bytes": ("availableBytes", "Number of available bytes in the volume"),
    "kubelet_volume_stats_capacity_bytes": ("capacityBytes", "Capacity in bytes of the volume"),
    "kubelet_volume_stats_used_bytes": ("usedBytes", "Number of used bytes in the volume"),
    "kubelet_volume_stats_inodes": ("inodes", "Maximum number of inodes in the volume"),
    "kubelet_volume_stats_inodes_free": ("inodesFree", "Number of free inodes in the volume"),
    "kubelet_volume_stats_inodes_used": ("inodesUsed", "Number of used inodes in the volume"),
}


@dataclass(frozen=True, slots=True)
class Condition:
    """What a driver says of a volume's health."""

    abnormal: bool
    message: str


# Decisions.


def of_driver(answer: Any) -> tuple[Obj, Condition | None]:
    """A driver's answer as the summary has it."""
    shown: Obj = {}
    for usage in answer.usage:
        if usage.unit == _BYTES:
            shown |= {"availableBytes": usage.available, "capacityBytes": usage.total, "usedBytes": usage.used}
        elif usage.unit == _INODES:
            shown |= {"inodesFree": usage.available, "inodes": usage.total, "inodesUsed": usage.used}
    if not answer.HasField("volume_condition"):
        return shown, None
    condition = Condition(answer.volume_condition.abnormal, answer.volume_condition.message)
    return {**shown, "volumeHealthStats": {"abnormal": condition.abnormal}}, condition


def of_file_system(found: os.statvfs_result) -> Obj:
    return {
        "availableBytes": found.f_bavail * found.f_frsize,
        "capacityBytes": found.f_blocks * found.f_frsize,
        "usedBytes": (found.f_blocks - found.f_bfree) * found.f_frsize,
        "inodes": found.f_files,
        "inodesFree": found.f_ffree,
        "inodesUsed": found.f_files - found.f_ffree,
    }


def families(volumes: Mapping[str, list[Obj]]) -> list[Family]:
    """Metrics of the volumes of claims, each once however many pods have it."""
    claims: dict[tuple[str, ...], Obj] = {}
    for entry in (one for entries in volumes.values() for one in entries):
        if "pvcRef" in entry:
            claims[entry["pvcRef"]["namespace"], entry["pvcRef"]["name"]] = entry
    found: list[Family] = []
    for name, (key, about) in _MEASURES.items():
        samples = [(labels, float(entry[key])) for labels, entry in claims.items() if key in entry]
        found.append(_gauge(name, about, samples))
    ill = [
        (labels, float(entry["volumeHealthStats"]["abnormal"]))
        for labels, entry in claims.items()
        if "volumeHealthStats" in entry
    ]
    about = (
        "Abnormal volume health status. The count is either 1 or 0. 1 indicates the volume is unhealthy, 0 indicates"
    )
    found.append(_gauge("kubelet_volume_stats_health_status_abnormal", f"{about} volume is healthy", ill))
    return found


def _gauge(name: str, about: str, samples: list[tuple[tuple[str, ...], float]]) -> Family:
    return Collected("gauge", name, about, ("namespace", "persistentvolumeclaim"), lambda: samples)


# Looking.


class Rooms:
    """How much room file systems have. One whose server does not answer holds one thread, and nobody else."""

    def __init__(self) -> None:
        self._asked: dict[Path, asyncio.Future[os.statvfs_result]] = {}  # what was not answered yet

    async def of(self, path: Path) -> os.statvfs_result:
        """Of the file system that is mounted there. Raises OSError, TimeoutError."""
        asked = self._asked.get(path)
        if asked is None:
            asked = self._asked[path] = self._ask(path)
        async with asyncio.timeout(_SLOW):
            return await asyncio.shield(asked)

    def _ask(self, path: Path) -> asyncio.Future[os.statvfs_result]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[os.statvfs_result] = loop.create_future()

        def told(found: os.statvfs_result | OSError) -> None:
            del self._asked[path]
            if isinstance(found, OSError):
                answer.set_exception(found)
                answer.exception()  # who asked may have gone
            else:
                answer.set_result(found)

        def look() -> None:
            found: os.statvfs_result | OSError
            try:
                found = os.statvfs(path)
            except OSError as error:
                found = error
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(told, found)

        # Not one of the loop's threads: those are few, and their end is waited for when the kubelet ends.
        threading.Thread(target=look, name=f"room of {path}", daemon=True).start()
        return answer


class ClaimedVolumes:
    """Those of one node's pods; `found` has what the summary shows of them by pod UID."""

    def __init__(self, node: Node, workers: Mapping[str, PodWorker]) -> None:
        self._node = node
        self._workers = workers
        self._rooms = Rooms()
        self.found: dict[str, list[Obj]] = {}

    async def run(self) -> None:
        """Look again and again until cancelled."""
        period = self._node.options.volume_stats_period
        while period >= 0:
            await asyncio.sleep(period or 60.0)
            await self.look()

    async def look(self) -> None:
        """Bring `found` up to date."""
        found = {}
        for uid, worker in list(self._workers.items()):
            entries = [entry for volume in worker.volumes_of_claims() if (entry := await self._one(worker, *volume))]
            if entries:
                found[uid] = entries
        self.found = found

    async def _one(self, worker: PodWorker, volume: Obj, path: Path) -> Obj | None:
        try:
            shown, condition = await self._measure(path)
        except (CriError, OSError, TimeoutError):
            return None
        pod = worker.pod
        if condition is not None and condition.abnormal and self._node.options.features.enabled("CSIVolumeHealth"):
            message = f"Volume {volume['name']}: {condition.message}"
            self._node.tell(pod, "Warning", "VolumeConditionAbnormal", message)
        entry: Obj = {"name": volume["name"], "time": format_time(utc_now()), **shown}
        if not volume.get("csi"):
            entry["pvcRef"] = {"name": claim_name(pod, volume), "namespace": namespace_of(pod)}
        return entry if shown else None

    async def _measure(self, path: Path) -> tuple[Obj, Condition | None]:
        """Raises CriError, OSError, TimeoutError."""
        pods_dir, of_drivers = self._node.options.pods_dir, self._node.csi.volumes_dir
        if path.is_relative_to(pods_dir) or path.is_relative_to(of_drivers):
            data = csi_published.data_of(self._node.csi, pods_dir, path)
            if data.exists():
                return await self._ask(json.loads(state_files.read(data)))
        if not path.is_relative_to(pods_dir):
            return {}, None  # a directory of the machine's own, or a disk
        with measures.taking(volume_measures.stats_seconds, "statfs"):
            return of_file_system(await self._rooms.of(path)), None

    async def _ask(self, published: Obj) -> tuple[Obj, Condition | None]:
        driver = self._node.csi.get(published["driverName"])
        if driver is None:
            return {}, None
        can = await driver.capabilities()
        if GET_VOLUME_STATS not in can:
            return {}, None
        with measures.taking(volume_measures.stats_seconds, published["driverName"]):
            answer = await driver.call(
                "NodeGetVolumeStats",
                volume_id=published["volumeHandle"],
                volume_path=published["targetPath"],
                staging_target_path=published["stagingPath"] if VOLUME_CONDITION in can else "",
            )
        return of_driver(answer)
