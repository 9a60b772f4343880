"""Asks every node's kubelet what its containers use, round after round, and keeps the answers.

Kubelets are asked at the address and port that their Node tells, over TLS with a client certificate or a token, some at
a time and spread over part of the round, so that thousands of nodes neither answer nor are read at once. It relies on
aiohttp, imported with the first round.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import structlog

from pinnace.apis.resources import NODES
from pinnace.client.client import Client
from pinnace.client.informer import Informer
from pinnace.machinery.meta import Obj, get_in, labels_of, name_of
from pinnace.metrics_server.rates import NodeHistory, PodKey, Usage, read_scrape
from pinnace.wire.tasks import end_tasks

if TYPE_CHECKING:
    import aiohttp

_log = structlog.get_logger()

KUBELET_PORT = 10250
ADDRESS_TYPES = ("InternalIP", "ExternalIP", "Hostname")  # those that metrics-server's own manifest asks for
_AT_ONCE = 32  # kubelets asked at a time
_SPREAD_PER_NODE = 0.008  # seconds by which each node more spreads a round
_KEPT = 64  # nodes up to which connections are kept: each holds a quarter of a megabyte, a new one costs milliseconds
_FIRST_RESOLUTION = 5.0  # seconds between rounds while there is nothing to tell yet


class Kubelet(NamedTuple):
    """Where a node's kubelet is asked."""

    node: str
    host: str
    port: int

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"https://{host}:{self.port}/metrics/resource"


def kubelet_of(node: Obj, address_types: Sequence[str] = ADDRESS_TYPES) -> Kubelet | None:
    """None where the Node has no address of a type wanted; the first type that it has wins."""
    addresses: dict[str, str] = {}
    for entry in get_in(node, "status", "addresses") or ():
        addresses.setdefault(entry["type"], entry["address"])
    host = next((addresses[one] for one in address_types if addresses.get(one)), "")
    port = get_in(node, "status", "daemonEndpoints", "kubeletEndpoint", "Port") or KUBELET_PORT
    return Kubelet(name_of(node), host, port) if host else None


def only_what_leads_there(node: Obj) -> Obj:
    """Transform: of a Node what says where its kubelet is, and what selectors look at."""
    status = node.get("status") or {}
    metadata = {"name": name_of(node), "labels": labels_of(node)}
    metadata |= {key: node["metadata"][key] for key in ("uid", "resourceVersion") if key in node["metadata"]}
    kept = {key: status[key] for key in ("addresses", "daemonEndpoints") if key in status}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "status": kept}


class Scraper:
    """What is known of all nodes. Usage is asked of `node_usage` and `pod_usage`."""

    def __init__(
        self,
        client: Client,
        tls: ssl.SSLContext,
        *,
        resolution: float = 15.0,
        address_types: Sequence[str] = ADDRESS_TYPES,
        token: Callable[[], str] = str,
    ) -> None:
        """`tls` is how kubelets are spoken to; `token`, unless empty, is shown to them. `resolution` is seconds."""
        self.nodes = Informer(client, NODES, transform=only_what_leads_there)
        self._tls = tls
        self._resolution = resolution
        self._address_types = address_types
        self._token = token
        self._histories: dict[str, NodeHistory] = {}  # by node
        self._node_of: dict[PodKey, str] = {}
        self._failing: set[str] = set()
        self.rounds = 0
        self.last_round = 0.0  # when the last one ended, seconds of the monotonic clock

    # What is known.

    @property
    def ready(self) -> bool:
        """Whether there is something to tell."""
        return any(history.node is not None and history.node.before is not None for history in self._histories.values())

    @property
    def timely(self) -> bool:
        """Whether rounds still come to an end."""
        return not self.rounds or time.monotonic() - self.last_round < 2 * max(self._resolution, 1.0)

    def node_usage(self, name: str) -> Usage | None:
        """None for a node that is not known well enough yet, or does not answer."""
        history = self._histories.get(name)
        return history.node.usage() if history is not None and history.node is not None else None

    def pod_usage(self, key: PodKey) -> dict[str, Usage]:
        """By container; nothing for a pod that is not known well enough yet."""
        history = self._histories.get(self._node_of.get(key, ""))
        return history.pod_usage(key) if history is not None else {}

    # Asking.

    async def run(self) -> None:
        """Watch nodes and ask their kubelets, until cancelled."""
        import aiohttp

        watching = asyncio.create_task(self.nodes.run(), name="informer nodes")
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=0, keepalive_timeout=3 * self._resolution)
        limits = aiohttp.ClientTimeout(total=max(0.9 * self._resolution, 1.0))
        try:
            async with aiohttp.ClientSession(connector=connector, timeout=limits) as session:
                await self.nodes.wait_synced()
                await self._rounds(session)
        finally:
            await end_tasks([watching])

    async def _rounds(self, session: aiohttp.ClientSession) -> None:
        while True:
            began = time.monotonic()
            await self._round(session)
            self.last_round = time.monotonic()
            self.rounds += 1
            pause = self._resolution if self.ready else min(self._resolution, _FIRST_RESOLUTION)
            await asyncio.sleep(max(began + pause - time.monotonic(), 0.1 * pause))

    async def _round(self, session: aiohttp.ClientSession) -> None:
        """Ask every kubelet once; what is known of nodes that are gone is dropped."""
        found = [kubelet_of(node, self._address_types) for node in self.nodes.store.list()]
        kubelets = [kubelet for kubelet in found if kubelet is not None]
        spread = min(self._resolution / 2, _SPREAD_PER_NODE * len(kubelets)) if len(kubelets) > 1 else 0.0
        slots = asyncio.Semaphore(_AT_ONCE)
        headers = {} if len(kubelets) <= _KEPT else {"Connection": "close"}

        async def visit(kubelet: Kubelet) -> None:
            await asyncio.sleep(random.random() * spread)
            async with slots:
                await self._ask(session, kubelet, headers)

        await asyncio.gather(*(visit(kubelet) for kubelet in kubelets))
        for name in self._histories.keys() - {kubelet.node for kubelet in kubelets}:
            del self._histories[name]
        self._node_of = {key: node for node, history in self._histories.items() for key in history.pods}

    async def _ask(self, session: aiohttp.ClientSession, kubelet: Kubelet, headers: dict[str, str]) -> None:
        """Take in what a kubelet says; a node that does not answer is not spoken of until it does."""
        import aiohttp

        try:
            token = self._token()
            if token:
                headers = {**headers, "Authorization": f"Bearer {token}"}
            async with session.get(kubelet.url, headers=headers) as answer:
                text = (await answer.read()).decode(errors="replace")
                if answer.status != 200:
                    raise OSError(f"status {answer.status}: {text[:200].strip()}")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._histories.pop(kubelet.node, None)
            if kubelet.node not in self._failing:
                _log.warning("cannot scrape node", node=kubelet.node, url=kubelet.url, error=str(error) or "timeout")
                self._failing.add(kubelet.node)
            return
        self._failing.discard(kubelet.node)
        known = self._histories.get(kubelet.node) or NodeHistory()
        self._histories[kubelet.node] = known.then(read_scrape(text, time.time()))
