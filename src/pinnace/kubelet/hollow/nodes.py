"""Registers hollow nodes and keeps them Ready: conditions every five minutes or when others changed them, leases.

Keys are names of nodes. As with a kubelet, a node that is deleted stays away until the process begins anew.
https://kubernetes.io/docs/concepts/architecture/nodes/#heartbeats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pinnace.apis.resources import NODES
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.kubelet.hollow import status
from pinnace.kubelet.node.lease import NodeLease
from pinnace.kubelet.node.status import allocatable_of_others
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, name_of, parse_time, utc_now

HEARTBEAT = 300.0  # seconds between writes of a status that did not change
LEASE_SECONDS = 40
RETRY = 1.0  # seconds until a lease is tried again that could not be renewed


@dataclass(frozen=True, slots=True)
class HollowNode:
    """What a node is registered with."""

    name: str
    address: str  # of its kubelet
    port: int
    version: str  # v1.37.0
    capacity: Mapping[str, str] = field(default_factory=dict)  # besides and instead of `status.CAPACITY`
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Obj] = ()


def wanted_status(node: Obj, hollow: HollowNode, now: datetime) -> Obj | None:
    """What the node's status shall be, or None while the one it has will do."""
    before: Obj = node.get("status", {})
    ready = [one for one in before.get("conditions") or () if one["type"] == "Ready"]
    wanted = status.node_status({}, hollow.name, hollow.capacity, hollow.address, hollow.port, hollow.version)
    others = allocatable_of_others(before, wanted["capacity"])
    same = not others and all(
        before.get(name) == value for name, value in wanted.items() if name not in ("capacity", "allocatable")
    )
    heard = ready[0].get("lastHeartbeatTime") if ready else None
    silent = (now - parse_time(heard)).total_seconds() if heard else HEARTBEAT
    if same and ready and ready[0]["status"] == "True" and silent < HEARTBEAT - 1:
        return None
    wanted["allocatable"] = {**wanted["allocatable"], **others}
    return {**wanted, **status.healthy(before, now)}


class HollowNodes(Controller):
    """`nodes` grows and shrinks by `add` and `forget`."""

    name = "hollow-nodes"
    workers = 16

    def __init__(self, client: Client, informers: InformerFactory) -> None:
        self.nodes: dict[str, HollowNode] = {}
        self._missing: set[str] = set()  # not registered by this process yet
        self._present: dict[str, asyncio.Future[Obj]] = {}  # who waits for a node to be Ready
        super().__init__(client, informers)

    def setup(self) -> None:
        self.known = self.watch(NODES)

    def add(self, node: HollowNode) -> asyncio.Future[Obj]:
        """Register a node; the future is the Node once it is Ready."""
        self.nodes[node.name] = node
        self._missing.add(node.name)
        self._present[node.name] = asyncio.get_running_loop().create_future()
        self.queue.add(node.name)
        return self._present[node.name]

    def forget(self, name: str) -> None:
        """Leave the node to itself."""
        self.nodes.pop(name, None)
        self._missing.discard(name)

    async def reconcile(self, key: str) -> float | None:
        hollow = self.nodes.get(key)
        if hollow is None:
            return None
        node = self.known.store.get(key)
        if node is None:
            if key not in self._missing:
                return None  # somebody deleted it
            node = await self._register(hollow)
        self._missing.discard(key)
        wanted = wanted_status(node, hollow, utc_now())
        if wanted is not None:
            patch = {"status": wanted}
            node = await self.client.patch(NODES, key, patch, content_type=STRATEGIC_MERGE_PATCH, subresource="status")
        waiting = self._present.pop(key, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(node)
        return HEARTBEAT

    async def _register(self, hollow: HollowNode) -> Obj:
        try:
            return await self.client.create(NODES, status.node(hollow.name, hollow.labels, hollow.taints))
        except ApiError as error:
            if not error.is_already_exists:
                raise
        return await self.client.get(NODES, hollow.name)


class HollowLeases(Controller):
    """Renews the lease of each node at a quarter of its duration."""

    name = "hollow-leases"
    workers = 8

    def __init__(self, client: Client, informers: InformerFactory, nodes: Mapping[str, HollowNode]) -> None:
        self._nodes = nodes
        self._leases: dict[str, NodeLease] = {}
        super().__init__(client, informers)

    def setup(self) -> None:
        self.known = self.use(NODES)
        self.known.add_handler(added=lambda node: self.queue.add(name_of(node)))

    async def reconcile(self, key: str) -> float | None:
        if key not in self._nodes or self.known.store.get(key) is None:
            self._leases.pop(key, None)
            return None
        lease = self._leases.get(key)
        if lease is None:
            lease = NodeLease(self.client, key, LEASE_SECONDS, lambda: self.known.store.get(key))
            self._leases[key] = lease
        return LEASE_SECONDS / 4 if await lease.renew() else RETRY
