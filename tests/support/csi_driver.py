"""A CSI driver of one node whose volumes are directories, as the hostpath driver of the CSI project does it.

Block volumes are files behind loop devices. Tests run it within themselves, or in a pod as a program of its own:
`python -m tests.support.csi_driver --root KUBELET --store DIRECTORY [--limit N] NAME`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from pinnace.kubelet.csi.messages import MESSAGES, NODE
from pinnace.kubelet.plugins.messages import REGISTRATION, REGISTRATION_MESSAGES
from pinnace.kubelet.volumes.mounts import bind, unmount

STAGE, STATS, EXPAND, CONDITION, MOUNT_GROUP = 1, 2, 3, 4, 6
METHODS = (
    *("NodeGetInfo", "NodeGetCapabilities", "NodeStageVolume", "NodeUnstageVolume", "NodePublishVolume"),
    *("NodeUnpublishVolume", "NodeExpandVolume", "NodeGetVolumeStats"),
)
BLOCK_SIZE = 4 << 20
ILL = ".ill"  # a file in a volume that makes the driver call it abnormal


class FakeCsiDriver:
    """Registers in the kubelet's directory `root`; volumes are below `store`. `refuse` has an error by method."""

    def __init__(
        self,
        root: Path,
        store: Path,
        name: str = "dir.csi.example.org",
        can: tuple[int, ...] = (STAGE,),
        limit: int = 5,
    ) -> None:
        self.name = name
        self.can = can
        self.limit = limit  # volumes that the node can have
        self.segments = {"topology.dir.csi/node": "n1"}
        self.mounts = True  # without, volumes are handed out in ways of the driver's own, as for virtual machines
        self.refuse: dict[str, str] = {}
        self.code = grpc.StatusCode.INTERNAL  # of what is refused
        self.calls: list[tuple[str, Any]] = []
        self.told: list[str] = []  # what registering ended with; empty for well
        self._store = store
        self._socket = root / "plugins_registry" / f"{name.partition('.')[0]}.sock"  # paths of sockets must be short
        self._endpoint = store.with_name(f"{self._socket.stem}-csi.sock")
        self._server = grpc.aio.server()
        self._heard = asyncio.Condition()

    async def start(self) -> None:
        for path in (self._socket, self._endpoint):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)  # one who was killed left it
        serve = {name: self._handler(name, f"{name}Request", f"{name}Response", MESSAGES) for name in METHODS}
        registration = {
            "GetInfo": self._handler("GetInfo", "InfoRequest", "PluginInfo", REGISTRATION_MESSAGES),
            "NotifyRegistrationStatus": self._handler(
                "Notify", "RegistrationStatus", "RegistrationStatusResponse", REGISTRATION_MESSAGES
            ),
        }
        generic = grpc.method_handlers_generic_handler
        services = generic(NODE, serve), generic(REGISTRATION, registration)
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
        async with asyncio.timeout(60), self._heard:
            await self._heard.wait_for(lambda: len(self.called(method)) >= times)
        return self.called(method)[-1]

    def _handler(self, name: str, request: str, answer: str, messages: dict[str, Any]) -> Any:
        async def work(asked: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            self.calls.append((name, asked))
            async with self._heard:
                self._heard.notify_all()
            if name in self.refuse:
                await context.abort(self.code, self.refuse[name])
            found: dict[str, Any] = getattr(self, f"_{name}", lambda _: {})(asked)
            return messages[answer](**found)

        decode, encode = messages[request].FromString, lambda message: message.SerializeToString()
        return grpc.unary_unary_rpc_method_handler(work, decode, encode)

    # The methods, by their names in the protocol.
    # ruff: noqa: N802

    def _GetInfo(self, _asked: Any) -> dict[str, Any]:
        return {
            "type": "CSIPlugin",
            "name": self.name,
            "endpoint": str(self._endpoint),
            "supported_versions": ["1.0.0"],
        }

    def _Notify(self, asked: Any) -> dict[str, Any]:
        self.told.append(asked.error)
        return {}

    def _NodeGetInfo(self, _asked: Any) -> dict[str, Any]:
        topology = {"segments": self.segments}
        return {"node_id": "here", "max_volumes_per_node": self.limit, "accessible_topology": topology}

    def _NodeGetCapabilities(self, _asked: Any) -> dict[str, Any]:
        return {"capabilities": [{"rpc": {"type": number}} for number in self.can]}

    def _NodeStageVolume(self, asked: Any) -> dict[str, Any]:
        if self.mounts and not asked.volume_capability.HasField("block"):
            bind(str(self._directory(asked.volume_id)), Path(asked.staging_target_path))
        return {}

    def _NodePublishVolume(self, asked: Any) -> dict[str, Any]:
        target = Path(asked.target_path)
        if asked.volume_capability.HasField("block"):
            target.touch()
            bind(self._device(asked.volume_id), target)
        elif not os.path.ismount(target):
            target.mkdir(parents=True, exist_ok=True)
            if not self.mounts:
                return {}
            bind(asked.staging_target_path or str(self._directory(asked.volume_id)), target)
        return {}

    def _NodeUnpublishVolume(self, asked: Any) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError):  # never made
            unmount(Path(asked.target_path))
        if device := self._attached(asked.volume_id):
            subprocess.run(["losetup", "-d", device], check=True)
        return {}

    def _NodeUnstageVolume(self, asked: Any) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError):
            unmount(Path(asked.staging_target_path))
        return {}

    def _NodeExpandVolume(self, asked: Any) -> dict[str, Any]:
        size = asked.capacity_range.required_bytes
        (self._directory(asked.volume_id) / ".size").write_text(str(size))
        return {"capacity_bytes": size}

    def _NodeGetVolumeStats(self, asked: Any) -> dict[str, Any]:
        ill = (self._directory(asked.volume_id) / ILL).exists()
        usage = {"available": 600, "total": 1000, "used": 400, "unit": 1}
        return {
            "usage": [usage],
            "volume_condition": {"abnormal": ill, "message": "it is ill" if ill else "it is well"},
        }

    def _directory(self, volume: str) -> Path:
        directory = self._store / volume
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _device(self, volume: str) -> str:
        """The loop device of a block volume."""
        image = self._directory(volume) / "disk"
        if not image.exists():
            image.touch()
            os.truncate(image, BLOCK_SIZE)
        if device := self._attached(volume):
            return device
        made = subprocess.run(["losetup", "-f", "--show", image], check=True, capture_output=True, text=True)
        return made.stdout.strip()

    def _attached(self, volume: str) -> str:
        image = self._store / volume / "disk"
        if not image.exists():
            return ""
        found = subprocess.run(["losetup", "-j", image], check=True, capture_output=True, text=True)
        return found.stdout.partition(":")[0]


class Telling(FakeCsiDriver):
    """Writes down in the store what it is asked, a JSON document a line."""

    async def start(self) -> None:
        self._store.mkdir(parents=True, exist_ok=True)
        await super().start()

    def _handler(self, name: str, request: str, answer: str, messages: dict[str, Any]) -> Any:
        made = super()._handler(name, request, answer, messages)
        work = made.unary_unary

        async def tell(asked: Any, context: Any) -> Any:
            from google.protobuf.json_format import MessageToDict

            answered = await work(asked, context)
            told = {"method": name, **MessageToDict(asked, preserving_proto_field_name=True)}
            with (self._store / "calls").open("a") as file:
                file.write(json.dumps(told) + "\n")
            return answered

        return made._replace(unary_unary=tell)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("names", nargs="+")
    wanted = parser.parse_args()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    can = (STAGE, STATS, EXPAND, CONDITION)
    drivers = [Telling(wanted.root, wanted.store, name, can, wanted.limit) for name in wanted.names]
    for driver in drivers:
        driver.segments = {}
        await driver.start()
    await ended.wait()
    for driver in drivers:
        await driver.stop()


if __name__ == "__main__":
    asyncio.run(main())
