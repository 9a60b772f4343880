"""Device plugins as they come and go: their registration, the devices they list, and the calls to them (gRPC).

Imported when the first plugin connects. The protocol is
https://kubernetes.io/docs/concepts/extend-kubernetes/compute-storage-net/device-plugins/.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import structlog

from pinnace.kubelet.devices.messages import DEVICE_PLUGIN, PLUGIN, PLUGIN_METHODS, REGISTRATION, VERSION
from pinnace.kubelet.plugins.service import PluginService
from pinnace.wire.grpc_calls import serve

_log = structlog.get_logger()

_REACH = 10.0  # seconds that a plugin has to answer at its socket


class Plugin:
    """One plugin's socket. Calls raise CriError."""

    def __init__(self, socket: Path) -> None:
        self._service = PluginService(socket, DEVICE_PLUGIN)
        self.preferred = False  # whether it wants to choose
        self.pre_start = False  # whether it wants to be told before a container starts

    async def _call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        return await self._service.call(method, request, PLUGIN[PLUGIN_METHODS[method][1]], timeout)

    async def connect(self) -> None:
        """Ask for its options; raises TimeoutError where nobody listens."""
        await self._service.ready(_REACH)
        options = await self._call("GetDevicePluginOptions", PLUGIN["Empty"](), _REACH)
        self.preferred, self.pre_start = options.get_preferred_allocation_available, options.pre_start_required

    async def watch(self) -> AsyncIterator[dict[str, tuple[bool, frozenset[int]]]]:
        """Every list of devices: by id, whether it is healthy and which NUMA nodes it is near to."""
        answer = PLUGIN["ListAndWatchResponse"]
        async for message in self._service.follow("ListAndWatch", PLUGIN["Empty"](), answer):
            yield {
                device.ID: (device.health == "Healthy", frozenset(node.ID for node in device.topology.nodes))
                for device in message.devices
            }

    async def prefer(self, available: Iterable[str], included: Iterable[str], size: int) -> list[str]:
        one = {"available_deviceIDs": list(available), "must_include_deviceIDs": list(included)}
        asked = PLUGIN["ContainerPreferredAllocationRequest"](**one, allocation_size=size)
        request = PLUGIN["PreferredAllocationRequest"](container_requests=[asked])
        answer = await self._call("GetPreferredAllocation", request)
        return list(answer.container_responses[0].deviceIDs) if answer.container_responses else []

    async def allocate(self, ids: Iterable[str]) -> dict[str, Any]:
        """What a container with these devices needs: envs, mounts, devices, annotations and cdi_devices."""
        asked = PLUGIN["ContainerAllocateRequest"](devices_ids=list(ids))
        answer = await self._call("Allocate", PLUGIN["AllocateRequest"](container_requests=[asked]))
        if not answer.container_responses:
            raise ValueError("no containers return in allocation response")
        one = answer.container_responses[0]
        return {
            "envs": dict(one.envs),
            "annotations": dict(one.annotations),
            "mounts": [[mount.container_path, mount.host_path, mount.read_only] for mount in one.mounts],
            "devices": [[spec.container_path, spec.host_path, spec.permissions] for spec in one.devices],
            "cdi_devices": [device.name for device in one.cdi_devices],
        }

    async def starting(self, ids: Iterable[str]) -> None:
        request = PLUGIN["PreStartContainerRequest"](devices_ids=list(ids))
        await self._call("PreStartContainer", request, 30.0)

    async def close(self) -> None:
        await self._service.close()


Register = Callable[[str, str], str]
"""A plugin's resource and the name of its socket; an error in words, or nothing."""


async def serve_registration(socket: Path, register: Register) -> grpc.aio.Server:
    """Serve v1beta1.Registration at a socket."""

    async def handle(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        error = register(request.resource_name, request.endpoint) if request.version == VERSION else ""
        if request.version != VERSION:
            text = 'requested API version "%s" is not supported by kubelet. Supported version is ["%s"]'
            error = text % (request.version, VERSION)
        if error:
            await context.abort(grpc.StatusCode.UNKNOWN, error)
        return PLUGIN["Empty"]()

    return await serve(socket, REGISTRATION, {"Register": (PLUGIN["RegisterRequest"], handle)})
