"""A driver of dynamic resources in memory, as a vendor's would register and answer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from pinnace.kubelet.devices import health
from pinnace.kubelet.devices.dra_messages import DRA_MESSAGES, HEALTH_MESSAGES, SERVICES
from pinnace.kubelet.plugins.messages import REGISTRATION_MESSAGES


class FakeDriver:
    """Registers in the kubelet's directory `root`; `fail` is what preparing answers with.

    One of the version `health.SERVICE` tells what `say` is called with.
    """

    def __init__(self, root: Path, name: str, versions: tuple[str, ...] = ("v1.DRAPlugin",)) -> None:
        self._health: asyncio.Queue[Any] = asyncio.Queue()
        self.root = root
        self.name = name
        self.versions = versions
        self.fail = ""
        self.calls: list[tuple[str, str]] = []  # method and claim
        self.told: list[str] = []  # what registering ended with; empty for well
        self.heard = asyncio.Event()  # set once the kubelet has told
        self._server = grpc.aio.server()

    async def start(self) -> None:
        registry = self.root / "plugins_registry"
        registry.mkdir(parents=True, exist_ok=True)
        socket = registry / f"{self.name}.sock"
        made: Any = grpc.unary_unary_rpc_method_handler
        registration = {
            "GetInfo": self._handler(made, self._info, "InfoRequest", "PluginInfo", REGISTRATION_MESSAGES),
            "NotifyRegistrationStatus": self._handler(
                made, self._notified, "RegistrationStatus", "RegistrationStatusResponse", REGISTRATION_MESSAGES
            ),
        }
        methods = {
            name: self._handler(made, getattr(self, work), f"{name}Request", f"{name}Response", DRA_MESSAGES)
            for name, work in (("NodePrepareResources", "_prepare"), ("NodeUnprepareResources", "_unprepare"))
        }
        handlers = [grpc.method_handlers_generic_handler("pluginregistration.Registration", registration)]
        handlers += [grpc.method_handlers_generic_handler(service, methods) for service in SERVICES.values()]
        watch = self._handler(
            grpc.unary_stream_rpc_method_handler,
            self._watch,
            "NodeWatchResourcesRequest",
            "NodeWatchResourcesResponse",
            HEALTH_MESSAGES,
        )
        handlers.append(grpc.method_handlers_generic_handler(health.SERVICE, {"NodeWatchResources": watch}))
        self._server.add_generic_rpc_handlers(tuple(handlers))
        self._server.add_insecure_port(f"unix://{socket}")
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)

    @staticmethod
    def _handler(made: Any, work: Any, request: str, answer: str, messages: dict[str, Any]) -> Any:
        return made(work, messages[request].FromString, messages[answer].SerializeToString)

    async def _info(self, _request: Any, _context: Any) -> Any:
        return REGISTRATION_MESSAGES["PluginInfo"](
            type="DRAPlugin",
            name=self.name,
            endpoint=str(self.root / "plugins_registry" / f"{self.name}.sock"),
            supported_versions=self.versions,
        )

    async def _notified(self, request: Any, _context: Any) -> Any:
        self.told.append(request.error)
        self.heard.set()
        return REGISTRATION_MESSAGES["RegistrationStatusResponse"]()

    def say(self, device: str, health: int) -> None:
        """A device is well (1) or not (2), or one does not know (0)."""
        which = HEALTH_MESSAGES["DeviceIdentifier"](pool_name="pool", device_name=device)
        self._health.put_nowait(HEALTH_MESSAGES["DeviceHealth"](device=which, health=health))

    async def _watch(self, _request: Any, _context: Any) -> Any:
        while True:
            yield HEALTH_MESSAGES["NodeWatchResourcesResponse"](devices=[await self._health.get()])

    async def _prepare(self, request: Any, _context: Any) -> Any:
        entries = []
        for claim in request.claims:
            self.calls.append(("prepare", claim.name))
            devices = [
                DRA_MESSAGES["Device"](
                    request_names=[name],
                    pool_name="pool",
                    device_name=name,
                    cdi_device_ids=[f"{self.name}/gpu={claim.name}-{name}"],
                )
                for name in ("first", "second")
            ]
            value = DRA_MESSAGES["NodePrepareResourceResponse"](devices=[] if self.fail else devices, error=self.fail)
            entries.append(DRA_MESSAGES["PreparedEntry"](key=claim.uid, value=value))
        return DRA_MESSAGES["NodePrepareResourcesResponse"](claims=entries)

    async def _unprepare(self, request: Any, _context: Any) -> Any:
        entries = []
        for claim in request.claims:
            self.calls.append(("unprepare", claim.name))
            value = DRA_MESSAGES["NodeUnprepareResourceResponse"]()
            entries.append(DRA_MESSAGES["UnpreparedEntry"](key=claim.uid, value=value))
        return DRA_MESSAGES["NodeUnprepareResourcesResponse"](claims=entries)
