"""Keeps running containers on the CPUs that are theirs: those without CPUs of their own share what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from pinnace.cri.api import CriError, LinuxContainerResources, RuntimeService
from pinnace.kubelet.runtime.status import RuntimeCache, container_name
from pinnace.kubelet.topology.cpu_manager import CpuManager

_log = structlog.get_logger()

PERIOD = 10.0  # seconds, as cpuManagerReconcilePeriod


class Rebinding:
    """Looks at all containers when `poke` says so, and every ten seconds."""

    def __init__(self, runtime: RuntimeService, cache: RuntimeCache, cpu: Callable[[], CpuManager | None]) -> None:
        self._runtime = runtime
        self._cache = cache
        self._cpu = cpu
        self._bound: dict[str, str] = {}  # container id -> cpuset
        self._due = asyncio.Event()

    def poke(self) -> None:
        self._due.set()

    async def run(self) -> None:
        cpu = self._cpu()
        while cpu is not None:
            self._due.clear()
            await self._bind_all(cpu)
            try:
                async with asyncio.timeout(PERIOD):
                    await self._due.wait()
            except TimeoutError:
                continue

    async def _bind_all(self, cpu: CpuManager) -> None:
        running = [(uid, one) for uid, pod in list(self._cache.pods.items()) for one in pod.running()]
        self._bound = {one.id: self._bound[one.id] for _, one in running if one.id in self._bound}
        for uid, one in running:
            cpus = cpu.cpus(uid, container_name(one))
            present = self._bound.get(one.id) or (one.resources.cpuset_cpus if one.resources else "")
            if present == cpus or not cpus:
                continue
            try:
                await self._runtime.update_container_resources(one.id, LinuxContainerResources(cpuset_cpus=cpus))
                self._bound[one.id] = cpus
            except CriError as error:
                _log.warning("cannot bind a container to its CPUs", container=one.id, error=error.message)
