"""A device plugin in memory that speaks v1beta1 over gRPC, as a vendor's would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from pinnace.kubelet.devices.messages import DEVICE_PLUGIN, PLUGIN, PLUGIN_METHODS, REGISTRATION


class FakePlugin:
    """Offers `devices` (id to NUMA node) of `resource`; every answer to Allocate names them to the container."""

    def __init__(self, directory: Path, resource: str, devices: dict[str, int], **options: bool) -> None:
        self.directory = directory
        self.resource = resource
        self.devices = devices
        self.sick: set[str] = set()
        self.options = options
        self.calls: list[tuple[str, list[str]]] = []
        self.refuse = ""
        self.cdi = False
        self._changed = asyncio.Event()
        self._server = grpc.aio.server()
        self.endpoint = resource.replace("/", "-") + ".sock"

    async def start(self) -> None:
        """Serve, and register with the kubelet of the directory."""
        handlers = {method: self._handler(method) for method in PLUGIN_METHODS}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(DEVICE_PLUGIN, handlers),))
        self._server.add_insecure_port(f"unix://{self.directory / self.endpoint}")
        await self._server.start()
        await self.register()

    async def register(self, version: str = "v1beta1") -> None:
        channel = grpc.aio.insecure_channel(
            f"unix://{self.directory / 'kubelet.sock'}", options=(("grpc.use_local_subchannel_pool", 1),)
        )
        try:
            call: Any = channel.unary_unary(
                f"/{REGISTRATION}/Register", lambda message: message.SerializeToString(), PLUGIN["Empty"].FromString
            )
            names = {"endpoint": self.endpoint, "resource_name": self.resource}
            await call(PLUGIN["RegisterRequest"](version=version, **names), timeout=60)
        finally:
            await channel.close(None)

    async def stop(self) -> None:
        self._changed.set()
        await self._server.stop(0)

    def sicken(self, *devices: str) -> None:
        """Devices turn unhealthy."""
        self.sick.update(devices)
        self._changed.set()

    def _handler(self, method: str) -> Any:
        request, answer = (PLUGIN[name] for name in PLUGIN_METHODS[method])
        kind = grpc.unary_stream_rpc_method_handler if method == "ListAndWatch" else grpc.unary_unary_rpc_method_handler
        made: Any = kind
        answers = {
            "GetDevicePluginOptions": self._tell_options,
            "ListAndWatch": self._list_and_watch,
            "GetPreferredAllocation": self._prefer,
            "Allocate": self._allocate,
            "PreStartContainer": self._pre_start,
        }
        return made(answers[method], request.FromString, answer.SerializeToString)

    async def _tell_options(self, _request: Any, _context: Any) -> Any:
        return PLUGIN["DevicePluginOptions"](**self.options)

    async def _list_and_watch(self, _request: Any, _context: Any) -> AsyncIterator[Any]:
        while True:
            self._changed.clear()
            listed = []
            for name, node in self.devices.items():
                topology = PLUGIN["TopologyInfo"](nodes=[PLUGIN["NUMANode"](ID=node)])
                health = "Unhealthy" if name in self.sick else "Healthy"
                listed.append(PLUGIN["Device"](ID=name, health=health, topology=topology))
            yield PLUGIN["ListAndWatchResponse"](devices=listed)
            await self._changed.wait()

    async def _prefer(self, request: Any, _context: Any) -> Any:
        [asked] = request.container_requests
        self.calls.append(("prefer", list(asked.available_deviceIDs)))
        chosen = sorted(asked.available_deviceIDs, reverse=True)[: asked.allocation_size]
        one = PLUGIN["ContainerPreferredAllocationResponse"](deviceIDs=chosen)
        return PLUGIN["PreferredAllocationResponse"](container_responses=[one])

    async def _allocate(self, request: Any, context: Any) -> Any:
        [asked] = request.container_requests
        self.calls.append(("allocate", list(asked.devices_ids)))
        if self.refuse:
            await context.abort(grpc.StatusCode.UNKNOWN, self.refuse)
        null = PLUGIN["DeviceSpec"](container_path="/dev/fake0", host_path="/dev/null", permissions="rw")
        etc = PLUGIN["Mount"](container_path="/plugin", host_path="/etc", read_only=True)
        one = PLUGIN["ContainerAllocateResponse"](
            envs={"FAKE_DEVICES": ",".join(asked.devices_ids)},
            annotations={"fake": "yes"},
            devices=[] if self.cdi else [null],
            mounts=[etc],
            cdi_devices=[PLUGIN["CDIDevice"](name=f"{self.resource}={name}") for name in asked.devices_ids]
            if self.cdi
            else [],
        )
        return PLUGIN["AllocateResponse"](container_responses=[one])

    async def _pre_start(self, request: Any, _context: Any) -> Any:
        self.calls.append(("start", list(request.devices_ids)))
        return PLUGIN["PreStartContainerResponse"]()
