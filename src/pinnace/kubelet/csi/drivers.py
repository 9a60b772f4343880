"""The CSI drivers that are registered on this node, and what the API is told of them.

A driver is usable once the node's CSINode has it. What of its volumes this node uses is told in the node's status, so
that none is detached before it is unmounted.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Set
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from pinnace.apis.resources import CSI_DRIVERS, CSI_NODES, NODES
from pinnace.client.client import Client
from pinnace.cri.api import CriError
from pinnace.kubelet.csi import node_info
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in

if TYPE_CHECKING:
    from pinnace.kubelet.csi.driver import Driver

_log = structlog.get_logger()

TYPE = "CSIPlugin"
LEAST_PERIOD = 10.0  # seconds between questions for a driver's limit
_ATTACH_SECONDS = 120.0
_LOOK_SECONDS = 60.0  # between looks whether a driver wants to be asked
_CONFLICTS = 5  # times that a CSINode somebody else changed is read again


class CsiDrivers:
    """By name (a `plugins.sockets.Handler`). `root_dir` is the kubelet's."""

    def __init__(
        self,
        client: Client,
        node_name: str,
        root_dir: Path,
        node: Callable[[], Obj | None],
        changed: Callable[[], None],
        came: Callable[[], None] = lambda: None,
    ) -> None:
        """`node` is the node as the API has it; `changed` is called when `in_use` changes, `came` with every driver."""
        self._client = client
        self.node_name = node_name
        self.volumes_dir = root_dir / "plugins" / "kubernetes.io" / "csi"
        self._node = node
        self._changed = changed
        self._came = came
        self._drivers: dict[str, Driver] = {}
        self._using: defaultdict[str, set[str]] = defaultdict(set)  # volume -> UIDs of pods
        self._attaching: set[str] = set()  # those of them that are to be attached
        self.republishing: set[str] = set()  # UIDs of pods with volumes that are published anew at every look
        self.filled: set[Path] = set()  # where drivers have staged or published, which some do without a mount
        self._moved = asyncio.Event()  # set, and made anew, when the node's object changes
        self.locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by volume, for staging
        self.sizes: dict[str, str] = {}  # of volumes when they were mounted here, or grown
        self.not_while_mounted: set[str] = set()  # volumes whose drivers cannot grow them as long as they are in use

    # Drivers.

    def problem(self, versions: list[str]) -> str:
        """Drivers must speak CSI 1.x."""
        if any(version.removeprefix("v").partition(".")[0] == "1" for version in versions):
            return ""
        return (
            f"unsupported versions: none of the versions reported by the driver ({', '.join(versions)}) are supported"
        )

    async def registered(self, name: str, endpoint: str, _versions: list[str]) -> None:
        """Take a driver. Raises CriError, ApiError, and ValueError where it says what cannot be of the node."""
        from pinnace.kubelet.csi.driver import Driver

        driver = Driver(name, endpoint)
        try:
            info = await driver.info()
            await self._tell_node(lambda node: node_info.node_patch(node, name, info))
            await self._tell_csi_node(lambda found, node: node_info.with_driver(found, node, name, info))
        except BaseException:
            await driver.close()
            raise
        before = self._drivers.get(name)
        self._drivers[name] = driver
        self._came()
        if before is not None:
            await before.close()

    async def gone(self, name: str) -> None:
        """Let a driver go; what it has mounted stays. Raises ApiError."""
        await self._tell_csi_node(lambda found, _: node_info.without_driver(found, name) if found else None)
        await self._tell_node(lambda node: node_info.node_patch_without(node, name))
        driver = self._drivers.pop(name, None)
        if driver is not None:
            await driver.close()

    async def keep_limits(self) -> None:
        """Ask drivers that want it how many volumes the node can have, again and again until cancelled (KEP-4876)."""
        due: dict[str, float] = {}
        while True:
            await asyncio.sleep(LEAST_PERIOD)
            now = time.monotonic()
            for name in [name for name in self._drivers if due.get(name, now) <= now]:
                try:
                    due[name] = now + await self.refresh_limit(name)
                except (CriError, ApiError) as error:
                    _log.warning("cannot bring a storage driver's limit up to date", name=name, error=str(error))

    async def refresh_limit(self, name: str) -> float:
        """Ask a driver once, if it wants that; in how many seconds to do so again. Raises CriError, ApiError."""
        try:
            about = await self._client.get(CSI_DRIVERS, name)
        except ApiError as error:
            if not error.is_not_found:
                raise
            about = {}
        period = get_in(about, "spec", "nodeAllocatableUpdatePeriodSeconds")
        driver = self._drivers.get(name)
        if not period or driver is None:
            return _LOOK_SECONDS
        info = await driver.info()
        await self._tell_csi_node(lambda found, node: node_info.with_driver(found, node, name, info))
        return max(float(period), LEAST_PERIOD)

    def get(self, name: str) -> Driver | None:
        return self._drivers.get(name)

    async def close(self) -> None:
        """End the connections to all drivers; what they have mounted stays."""
        drivers, self._drivers = self._drivers, {}
        for driver in drivers.values():
            await driver.close()

    async def _tell_node(self, patch_of: Callable[[Obj], Obj | None]) -> None:
        patch = patch_of(await self._client.get(NODES, self.node_name))
        if patch is not None:
            await self._client.patch(NODES, self.node_name, patch)

    async def _tell_csi_node(self, change: Callable[[Obj | None, Obj], Obj | None]) -> None:
        for attempt in range(_CONFLICTS):
            try:
                await self._change_csi_node(change)
                return
            except ApiError as error:
                if not (error.is_conflict or error.is_already_exists) or attempt == _CONFLICTS - 1:
                    raise

    async def _change_csi_node(self, change: Callable[[Obj | None, Obj], Obj | None]) -> None:
        node = await self._client.get(NODES, self.node_name)
        found: Obj | None = None
        try:
            found = await self._client.get(CSI_NODES, self.node_name)
        except ApiError as error:
            if not error.is_not_found:
                raise
        wanted = change(found, node)
        if wanted is None or wanted == found:
            return
        if found is None:
            await self._client.create(CSI_NODES, wanted)
        else:
            await self._client.update(CSI_NODES, wanted)

    # Volumes.

    def in_use(self) -> list[str]:
        """The unique names of the volumes that this node uses and that are attached to it, for its status."""
        return sorted(self._attaching)

    def use(self, volume: str, uid: str, *, attaches: bool = True) -> None:
        """The pod is to have the volume, which its driver `attaches` to nodes."""
        self._using[volume].add(uid)
        if attaches != (volume in self._attaching):
            self._attaching ^= {volume}
            self._changed()

    def release(self, uid: str, left: Set[str]) -> None:
        """The pod has no volumes any more but those that are `left`; the others are unmounted, if they ever were."""
        self.republishing.discard(uid)
        for volume in self._using.keys() - left:
            self._using[volume].discard(uid)
        unused = [volume for volume, pods in self._using.items() if not pods]
        for volume in unused:
            self.not_while_mounted.discard(volume)
            self.sizes.pop(volume, None)
            del self._using[volume]
        if not self._attaching.isdisjoint(unused):
            self._attaching.difference_update(unused)
            self._changed()

    def node_changed(self) -> None:
        """The node's object is another now."""
        self._moved.set()
        self._moved = asyncio.Event()

    async def attached(self, volume: str) -> None:
        """Return when the node's status says that the volume is attached. Raises TimeoutError."""
        async with asyncio.timeout(_ATTACH_SECONDS):
            while not self._is_attached(volume):
                await self._moved.wait()

    def _is_attached(self, volume: str) -> bool:
        listed = get_in(self._node() or {}, "status", "volumesAttached") or ()
        return any(one.get("name") == volume for one in listed)
