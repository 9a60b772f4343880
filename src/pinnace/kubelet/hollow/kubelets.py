"""The kubelets of all hollow nodes of a process, put together: nodes, leases, pods, and the server that answers.

Relies on `client` for everything it knows; one TLS server listens once for each node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from pinnace.client.client import Client
from pinnace.client.informer import InformerFactory
from pinnace.kubelet.hollow.behaviour import Behaviour
from pinnace.kubelet.hollow.nodes import HollowLeases, HollowNode, HollowNodes
from pinnace.kubelet.hollow.pods import HollowPods
from pinnace.kubelet.hollow.server import Door, HollowServer
from pinnace.machinery.meta import Obj
from pinnace.wire.server import Server, serve
from pinnace.wire.tasks import end_tasks
from pinnace.wire.tls import TlsConfig


class HollowKubelets:
    """Nodes may be added before and while it runs. `version` is what they say they are, like v1.37.0."""

    def __init__(self, client: Client, tls: TlsConfig, version: str) -> None:
        self._tls = tls
        self._version = version
        self._informers = InformerFactory(client)
        self._behaviours: dict[str, Behaviour] = {}
        self._hosts: dict[str, str] = {}
        self._doors: dict[Door, str] = {}
        self._nodes = HollowNodes(client, self._informers)
        self._leases = HollowLeases(client, self._informers, self._nodes.nodes)
        self._pods = HollowPods(client, self._informers, self._behaviours, self._hosts)
        self._answers = HollowServer(
            self._doors, self._behaviours, lambda name: self._pods.pods.store.by_index("node", name)
        )
        self._server: Server | None = None

    @property
    def logs(self) -> dict[tuple[str, str, str], str]:
        """What containers have written, by namespace, pod and container."""
        return self._answers.logs

    async def add(
        self,
        name: str,
        *,
        capacity: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Obj] = (),
        behaviour: Behaviour | None = None,
        address: str = "127.0.0.1",
    ) -> asyncio.Future[Obj]:
        """Add a node whose kubelet listens on `address`; the future is its Node once it is Ready."""
        if self._server is None:
            self._server = await serve(self._answers.handle, tls=self._tls)
        port = self._server.bind(address)
        behaviour = behaviour or Behaviour()
        self._behaviours[name] = behaviour
        self._hosts[name] = address
        self._doors[address, port] = name
        self._pods.node_added(name)
        self._leases.queue.add(name)
        return self._nodes.add(HollowNode(name, address, port, self._version, capacity or {}, labels or {}, taints))

    def forget(self, name: str) -> None:
        """Take a node away as a machine is taken away: its Node and its pods are left to the cluster."""
        self._nodes.forget(name)
        self._behaviours.pop(name, None)
        self._hosts.pop(name, None)
        for door in [door for door, node in self._doors.items() if node == name]:
            del self._doors[door]

    async def run(self) -> None:
        """Work until cancelled."""
        self._informers.start()
        loops = (self._nodes, self._leases, self._pods)
        tasks = [asyncio.create_task(loop.run(), name=loop.name) for loop in loops]
        try:
            await asyncio.gather(*tasks)
        finally:
            await end_tasks(tasks)
            await self._informers.stop()
            if self._server is not None:
                await self._server.close(0)
