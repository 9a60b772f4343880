"""How the devices are that containers have: what device plugins and drivers say of them, as a container's status tells.

Drivers of claims that offer it are followed (dra-health v1alpha1); what one said counts for so long, then its devices
are unknown. Specified by KEP-4680 and https://kubernetes.io/docs/concepts/cluster-administration/device-health/.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import structlog

from pinnace.cri.api import CriError
from pinnace.machinery.meta import Obj
from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()

SERVICE = "v1alpha1.DRAResourceHealth"
GATE = "ResourceHealthStatus"
HEALTHY, UNHEALTHY, UNKNOWN = "Healthy", "Unhealthy", "Unknown"
_WORDS = {1: HEALTHY, 2: UNHEALTHY}  # what drivers say by number; all else is unknown
_HOLDS = 30.0  # seconds that a driver's word counts where it does not say it
_AGAIN = 5.0  # seconds until a driver that stopped telling is asked again


class Said(NamedTuple):
    """What a driver said of a device, and until when that counts."""

    health: str
    until: float


def resource_status(name: str, devices: Iterable[tuple[str, str]]) -> Obj:
    """An entry of a container's `allocatedResourcesStatus`, of devices and their health."""
    return {
        "name": name,
        "resources": [{"resourceID": device, "health": health} for device, health in sorted(devices)],
    }


class DeviceHealth:
    """What the drivers of one node say; `changed` is called with a driver's name when that is another."""

    def __init__(self, changed: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._changed = changed
        self._clock = clock
        self._said: dict[str, dict[tuple[str, str], Said]] = {}  # driver -> pool and device
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def follow(self, driver: str, endpoint: str) -> None:
        """Hear from now on what a driver says."""
        self.drop(driver)
        self._tasks[driver] = asyncio.create_task(self._follow(driver, endpoint), name=f"health of {driver}")

    def drop(self, driver: str) -> None:
        """The driver is gone, and with it what it said."""
        task = self._tasks.pop(driver, None)
        if task is not None:
            task.cancel()
        if self._said.pop(driver, None):
            self._changed(driver)

    async def close(self) -> None:
        await end_tasks(self._tasks.values())

    def of(self, driver: str, pool: str, device: str) -> str:
        """How a device is."""
        said = self._said.get(driver, {}).get((pool, device))
        return said.health if said is not None and self._clock() < said.until else UNKNOWN

    async def _follow(self, driver: str, endpoint: str) -> None:
        from pinnace.kubelet.devices.dra_messages import HEALTH_MESSAGES as MESSAGES
        from pinnace.kubelet.plugins.service import PluginService

        request, answer = MESSAGES["NodeWatchResourcesRequest"](), MESSAGES["NodeWatchResourcesResponse"]
        while True:
            try:
                async with PluginService(endpoint, SERVICE) as service:
                    async for message in service.follow("NodeWatchResources", request, answer):
                        self.take(driver, message.devices)
            except CriError as error:
                if error.code == "UNIMPLEMENTED":
                    return
                _log.info("a driver tells no more how its devices are", driver=driver, error=str(error))
            await asyncio.sleep(_AGAIN)

    def take(self, driver: str, devices: Iterable[Any]) -> None:
        """Note what a driver says of devices now; of others it says what it said before."""
        now, known = self._clock(), self._said.setdefault(driver, {})
        before = {key: said.health for key, said in known.items()}
        for one in devices:
            holds = one.health_check_timeout_seconds or _HOLDS
            key = one.device.pool_name, one.device.device_name
            known[key] = Said(_WORDS.get(one.health, UNKNOWN), now + holds)
        if {key: said.health for key, said in known.items()} != before:
            self._changed(driver)
