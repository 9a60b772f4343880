"""A CSI driver of one node whose volumes are directories, as the hostpath driver of the CSI project does it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from pinnace.kubelet.csi.messages import MESSAGES, NODE
from pinnace.kubelet.plugins.messages import REGISTRATION_MESSAGES
from pinnace.kubelet.volumes.mounts import bind, unmount

STAGE, EXPAND = 1, 3


class FakeCsiDriver:
    """Registers in the kubelet's directory `root`; volumes are below `store`. `refuse` has an error by method."""

    def __init__(
        self, root: Path, store: Path, name: str = "dir.csi.example.org", can: tuple[int, ...] = (STAGE,)
    ) -> None:
        self.name = name
        self.can = can
        self.segments = {"topology.dir.csi/node": "n1"}
        self.refuse: dict[str, str] = {}
        self.calls: list[tuple[str, Any]] = []
        self.told: list[str] = []  # what registering ended with; empty for well
        self._store = store
        self._socket = root / "plugins_registry" / "dir.sock"
        self._endpoint = store.with_suffix(".sock")
        self._server = grpc.aio.server()
        self._heard = asyncio.Condition()

    async def start(self) -> None:
        for path in (self._socket, self._endpoint):
            path.parent.mkdir(parents=True, exist_ok=True)
        methods = (
            *("NodeGetInfo", "NodeGetCapabilities", "NodeStageVolume", "NodeUnstageVolume"),
            *("NodePublishVolume", "NodeUnpublishVolume", "NodeExpandVolume"),
        )
        serve = {name: self._handler(name, f"{name}Request", f"{name}Response", MESSAGES) for name in methods}
        registration = {
            "GetInfo": self._handler("GetInfo", "InfoRequest", "PluginInfo", REGISTRATION_MESSAGES),
            "NotifyRegistrationStatus": self._handler(
                "Notify", "RegistrationStatus", "RegistrationStatusResponse", REGISTRATION_MESSAGES
            ),
        }
        generic = grpc.method_handlers_generic_handler
        services = generic(NODE, serve), generic("pluginregistration.Registration", registration)
        self._server.add_generic_rpc_handlers(services)
        self._server.add_insecure_port(f"unix://{self._endpoint}")
        self._server.add_insecure_port(f"unix://{self._socket}")
        await self._server.start()

    async def stop(self) -> None:
        """Go, and take the sockets along."""
        await self._server.stop(0)
        for path in (self._socket, self._endpoint):
            path.unlink(missing_ok=True)

    def called(self, method: str) -> list[Any]:
        return [request for name, request in self.calls if name == method]

    async def hear(self, method: str, times: int = 1) -> Any:
        """Wait until a method was called so often; the last of its requests."""
        async with asyncio.timeout(30), self._heard:
            await self._heard.wait_for(lambda: len(self.called(method)) >= times)
        return self.called(method)[-1]

    def _handler(self, name: str, request: str, answer: str, messages: dict[str, Any]) -> Any:
        async def work(asked: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            self.calls.append((name, asked))
            async with self._heard:
                self._heard.notify_all()
            if name in self.refuse:
                await context.abort(grpc.StatusCode.INTERNAL, self.refuse[name])
            found: dict[str, Any] = getattr(self, f"_{name}", lambda _: {})(asked)
            return messages[answer](**found)

        decode, encode = messages[request].FromString, lambda message: message.SerializeToString()
        return grpc.unary_unary_rpc_method_handler(work, decode, encode)

    def _GetInfo(self, _asked: Any) -> dict[str, Any]:  # noqa: N802 - the methods' names
        return {
            "type": "CSIPlugin",
            "name": self.name,
            "endpoint": str(self._endpoint),
            "supported_versions": ["1.0.0"],
        }

    def _Notify(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        self.told.append(asked.error)
        return {}

    def _NodeGetInfo(self, _asked: Any) -> dict[str, Any]:  # noqa: N802
        topology = {"segments": self.segments}
        return {"node_id": "here", "max_volumes_per_node": 5, "accessible_topology": topology}

    def _NodeGetCapabilities(self, _asked: Any) -> dict[str, Any]:  # noqa: N802
        return {"capabilities": [{"rpc": {"type": number}} for number in self.can]}

    def _NodeStageVolume(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        source = self._store / asked.volume_id
        source.mkdir(parents=True, exist_ok=True)
        bind(str(source), Path(asked.staging_target_path))
        return {}

    def _NodePublishVolume(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        target = Path(asked.target_path)
        target.mkdir(parents=True, exist_ok=True)
        source = asked.staging_target_path or str(self._store / asked.volume_id)
        Path(source).mkdir(parents=True, exist_ok=True)
        bind(source, target)
        return {}

    def _NodeUnpublishVolume(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        with contextlib.suppress(FileNotFoundError):  # never made
            unmount(Path(asked.target_path))
        return {}

    def _NodeUnstageVolume(self, asked: Any) -> dict[str, Any]:  # noqa: N802
        unmount(Path(asked.staging_target_path))
        return {}
