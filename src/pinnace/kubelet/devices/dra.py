"""Devices that ResourceClaims were allocated: their drivers prepare them before a pod starts, and take them back after.

What was prepared is in `dra_manager_state`, so that containers started anew need not ask. Specified by
https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/ and KEP-4381.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import structlog

from pinnace.cri.api import CriError
from pinnace.kubelet import state_files
from pinnace.kubelet.devices import health
from pinnace.kubelet.devices.health import DeviceHealth
from pinnace.kubelet.devices.slices import SliceWiper
from pinnace.kubelet.go_words import rpc_error
from pinnace.machinery.meta import Obj, get_in, name_of, namespace_of, uid_of

_log = structlog.get_logger()

_STATE = "dra_manager_state"
TYPE = "DRAPlugin"
VERSIONS = ("v1.DRAPlugin", "v1beta1.DRAPlugin")
_ANSWER = 45.0  # seconds that a driver has for one claim


class PrepareError(Exception):
    """A pod's devices cannot be made ready now."""


@dataclass(slots=True)
class Prepared:
    """A claim whose devices are ready."""

    namespace: str
    name: str
    uid: str
    drivers: list[str]
    devices: list[Obj]  # requests, cdi (names), driver, pool and device
    pods: set[str] = field(default_factory=set)  # the UIDs of those that use it

    def cdi(self, request: str) -> list[str]:
        """The CDI names of a request's devices, of all where none is named; sub-requests count for their request."""
        return [name for device in self.of_request(request) for name in device["cdi"]]

    def of_request(self, request: str) -> list[Obj]:
        """The devices of a request, all where none is named."""
        return [
            device
            for device in self.devices
            if not request or not device["requests"] or request in {one.split("/")[0] for one in device["requests"]}
        ]


def _identity(device: Obj) -> tuple[str, str, str]:
    return device["driver"], device["pool"], device["device"]


def claim_names(pod: Obj) -> dict[str, str]:
    """By the name that the pod gives it, the ResourceClaim; one whose template asks for none is left out.

    Raises PrepareError where one was not made yet.
    """
    made = {one["name"]: one for one in get_in(pod, "status", "resourceClaimStatuses", default=[])}
    found = {}
    for one in pod["spec"].get("resourceClaims") or ():
        status = made.get(one["name"])
        name = one.get("resourceClaimName") or (status or {}).get("resourceClaimName")
        if name:
            found[one["name"]] = name
        elif status is None:
            raise PrepareError(f"pod claim {one['name']}: ResourceClaim not created yet")
    return found


def check(pod: Obj, claim: Obj) -> dict[str, list[Obj]]:
    """The devices of a claim that the pod may use, by driver. Raises PrepareError."""
    users = get_in(claim, "status", "reservedFor", default=[])
    if not any(user.get("uid") == uid_of(pod) for user in users):
        raise PrepareError(
            f"pod {name_of(pod)}({uid_of(pod)}) is not allowed to use resource claim {name_of(claim)}({uid_of(claim)})"
        )
    found: dict[str, list[Obj]] = {}
    for result in get_in(claim, "status", "allocation", "devices", "results", default=[]):
        found.setdefault(result["driver"], []).append(result)
    return found


FetchClaim = Callable[[str, str], Awaitable[Obj]]
"""By namespace and name. Raises ApiError."""


class DraManager:
    """The drivers of a node (a `plugins.sockets.Handler`) and the claims that they have prepared."""

    def __init__(
        self, root: Path, fetch: FetchClaim, slices: SliceWiper, poke: Callable[[str], None] = lambda _: None
    ) -> None:
        """`poke` is called with the UID of a pod whose devices are well or ill otherwise than before."""
        self._file = root / _STATE
        self._fetch = fetch
        self._slices = slices
        self._poke = poke
        self.health = DeviceHealth(self._health_changed)
        self._drivers: dict[str, tuple[str, str]] = {}  # name -> endpoint and version
        self._prepared: dict[str, Prepared] = {}  # by claim UID
        self._lock = asyncio.Lock()
        self._load()

    # Drivers.

    def problem(self, versions: list[str]) -> str:
        if any(version in versions for version in VERSIONS):
            return ""
        return f"none of the DRA gRPC services listed in the supported versions are supported: {versions}"

    async def registered(self, name: str, endpoint: str, versions: list[str]) -> None:
        self._drivers[name] = endpoint, next(version for version in VERSIONS if version in versions)
        self._slices.back(name)
        if health.SERVICE in versions:
            self.health.follow(name, endpoint)

    async def gone(self, name: str) -> None:
        self._drivers.pop(name, None)
        self._slices.gone(name)
        self.health.drop(name)

    async def close(self) -> None:
        await self._slices.close()
        await self.health.close()

    def _health_changed(self, driver: str) -> None:
        for uid in {uid for one in self._prepared.values() if driver in one.drivers for uid in one.pods}:
            self._poke(uid)

    # Claims.

    async def prepare(self, pod: Obj) -> None:
        """Have the devices of all claims of the pod made ready. Raises PrepareError, ApiError."""
        async with self._lock:
            for name in claim_names(pod).values():
                claim = await self._fetch(namespace_of(pod), name)
                results = check(pod, claim)
                prepared = self._prepared.get(uid_of(claim))
                if prepared is None:
                    prepared = Prepared(namespace_of(claim), name_of(claim), uid_of(claim), sorted(results), [])
                    for driver in results:
                        prepared.devices += await self._prepare(driver, prepared)
                    self._prepared[prepared.uid] = prepared
                if uid_of(pod) not in prepared.pods:
                    prepared.pods.add(uid_of(pod))
                    state_files.write(self._file, self._state())

    async def _prepare(self, driver: str, claim: Prepared) -> list[Obj]:
        answer = await self._call(driver, "NodePrepareResources", claim)
        if answer.error:
            raise PrepareError(f"NodePrepareResources failed for ResourceClaim {claim.name}: {answer.error}")
        return [
            {
                "requests": list(device.request_names),
                "cdi": list(device.cdi_device_ids),
                "driver": driver,
                "pool": device.pool_name,
                "device": device.device_name,
            }
            for device in answer.devices
        ]

    async def _call(self, driver: str, method: str, claim: Prepared) -> Any:
        """One driver's answer about one claim. Raises PrepareError."""
        if driver not in self._drivers:
            raise PrepareError(f"DRA driver {driver} is not registered")
        from pinnace.kubelet.devices.dra_messages import DRA_MESSAGES as MESSAGES
        from pinnace.kubelet.devices.dra_messages import SERVICES
        from pinnace.kubelet.plugins.service import PluginService

        endpoint, version = self._drivers[driver]
        request = MESSAGES[f"{method}Request"](
            claims=[MESSAGES["Claim"](namespace=claim.namespace, uid=claim.uid, name=claim.name)]
        )
        async with PluginService(endpoint, SERVICES[version]) as service:
            try:
                answer = await service.call(method, request, MESSAGES[f"{method}Response"], _ANSWER)
            except CriError as error:
                raise PrepareError(f"{method}: {rpc_error(error)}") from error
        for entry in answer.claims:
            if entry.key == claim.uid:
                return entry.value
        raise PrepareError(f"{method} skipped claim {claim.uid}")

    def cdi_devices(self, pod: Obj, container: Obj) -> list[str]:
        """The CDI names of what a container uses of the pod's claims."""
        claims = (container.get("resources") or {}).get("claims") or ()
        if not claims:
            return []
        names = claim_names(pod)
        found: list[str] = []
        for one in claims:
            for prepared in self._prepared.values():
                if (prepared.namespace, prepared.name) == (namespace_of(pod), names.get(one["name"])):
                    found += [name for name in prepared.cdi(one.get("request") or "") if name not in found]
        return found

    def health_of(self, pod: Obj, container: Obj) -> list[Obj]:
        """How the devices are that a container has of the pod's claims."""
        try:
            names = claim_names(pod)
        except PrepareError:
            return []
        found = []
        for one in (container.get("resources") or {}).get("claims") or ():
            request, key = one.get("request") or "", (namespace_of(pod), names.get(one["name"]))
            devices = [
                (f"{device['driver']}/{device['pool']}/{device['device']}", self.health.of(*_identity(device)))
                for prepared in self._prepared.values()
                if (prepared.namespace, prepared.name) == key
                for device in prepared.of_request(request)
            ]
            if devices:
                name = f"claim:{one['name']}" + (f"/{request}" if request else "")
                found.append(health.resource_status(name, devices))
        return found

    async def unprepare(self, pod_uid: str) -> None:
        """The pod runs no more: give back what nobody else uses; what fails is tried again by `keep_only`."""
        async with self._lock:
            for prepared in [one for one in self._prepared.values() if pod_uid in one.pods]:
                if prepared.pods == {pod_uid}:
                    await self._unprepare(prepared)
                    del self._prepared[prepared.uid]
                else:
                    prepared.pods.discard(pod_uid)
                state_files.note(self._file, self._state())

    async def _unprepare(self, claim: Prepared) -> None:
        for driver in claim.drivers:
            answer = await self._call(driver, "NodeUnprepareResources", claim)
            if answer.error:
                raise PrepareError(f"NodeUnprepareResources failed for ResourceClaim {claim.name}: {answer.error}")

    async def keep_only(self, uids: Collection[str]) -> None:
        """Give back what pods hold that are not here any more."""
        for uid in {uid for one in self._prepared.values() for uid in one.pods} - set(uids):
            try:
                await self.unprepare(uid)
            except PrepareError as error:
                _log.warning("cannot give devices back", pod=uid, error=str(error))

    # The state.

    def _state(self) -> bytes:
        kept = [
            [one.namespace, one.name, one.uid, one.drivers, one.devices, sorted(one.pods)]
            for one in self._prepared.values()
        ]
        return orjson.dumps(kept)

    def _load(self) -> None:
        try:
            for namespace, name, uid, drivers, devices, pods in orjson.loads(state_files.read(self._file)):
                self._prepared[uid] = Prepared(namespace, name, uid, drivers, devices, set(pods))
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError) as error:
            _log.warning("cannot read which devices are prepared", error=str(error))
