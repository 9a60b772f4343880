"""The pods' network where a containerd attaches them to it: the embedded engine's, but for the pods' own ends.

CNI's `bridge` plugin makes those. The bridge, what leaves it under the node's address and the host ports are made here,
by the code that makes them for the engine: the plugins for that need iptables, and leave chains behind. Host ports are
noted as an annotation of the sandbox, so that the runtime itself tells them to a node that is started anew.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from pinnace.cri.api import CriError, PodSandboxConfig, PodSandboxState, PortMapping
from pinnace.cri.engine.network import BridgeNetwork, NetworkError
from pinnace.cri.remote import RemoteRuntimeService

ANNOTATION = "pinnace.io/host-ports"


class BridgedRuntime(RemoteRuntimeService):
    """A containerd whose CNI network is our bridge."""

    def __init__(self, endpoint: str, network: BridgeNetwork) -> None:
        super().__init__(endpoint)
        self._network = network

    async def restore(self) -> None:
        """Learn the host ports of the sandboxes that are there."""
        found = {}
        for one in await self.list_pod_sandbox():
            if one.state is PodSandboxState.READY and ANNOTATION in one.annotations:
                ports = [PortMapping(**port) for port in json.loads(one.annotations[ANNOTATION])]
                found[one.id] = (await self.pod_sandbox_status(one.id)).ips, ports
        self._network.restore(found)

    async def update_runtime_config(self, pod_cidr: str) -> None:
        self._network.configure([cidr for cidr in pod_cidr.split(",") if cidr])
        if self._network.configured:
            await self._do(self._network.prepare)
        await super().update_runtime_config(pod_cidr)

    async def run_pod_sandbox(self, config: PodSandboxConfig, runtime_handler: str = "") -> str:
        ports = [port for port in config.port_mappings if port.host_port]
        if not ports:
            return await super().run_pod_sandbox(config, runtime_handler)
        noted = {**config.annotations, ANNOTATION: json.dumps([asdict(port) for port in ports])}
        sandbox = await super().run_pod_sandbox(replace(config, annotations=noted), runtime_handler)
        addresses = (await self.pod_sandbox_status(sandbox)).ips
        await self._do(self._network.map_ports, sandbox, addresses, ports)
        return sandbox

    async def stop_pod_sandbox(self, pod_sandbox_id: str) -> None:
        await super().stop_pod_sandbox(pod_sandbox_id)
        await self._do(self._network.unmap_ports, pod_sandbox_id)

    @staticmethod
    async def _do(work: Callable[..., None], *arguments: Any) -> None:
        try:
            await asyncio.to_thread(work, *arguments)
        except (NetworkError, OSError) as error:
            raise CriError("UNKNOWN", f"setting up the network of a sandbox: {error}") from error
