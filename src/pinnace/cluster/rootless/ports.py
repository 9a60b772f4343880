"""Node ports and host ports at the machine's loopback: in namespaces they answer at addresses that it does not have.

Follows the Services and the node's pods, has the keeper listen outside on their TCP ports, and passes connections on to
the node's address inside, where the rules of proxy and engine take them. Ports of UDP and SCTP answer inside only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import structlog

from pinnace.client.informer import Informer
from pinnace.cluster.profile import Profile
from pinnace.cluster.rootless import loopback
from pinnace.machinery.meta import Obj, get_in

_PIECE = 1 << 16  # bytes
_ALL = ("", "0.0.0.0")  # what host ports say that are at every address
_RETRY = 10.0  # seconds until a port that another program has is tried again

_log = structlog.get_logger()


def node_ports(service: Obj) -> Iterator[int]:
    """Those of TCP that a Service has."""
    for port in get_in(service, "spec", "ports", default=[]):
        if port.get("nodePort") and port.get("protocol", "TCP") == "TCP":
            yield port["nodePort"]


def host_ports(pod: Obj) -> Iterator[int]:
    """Those of TCP that a pod has until it ends, at all addresses of the node."""
    if get_in(pod, "status", "phase") in ("Succeeded", "Failed"):
        return
    for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]:
        for port in container.get("ports", []):
            if port.get("hostPort") and port.get("protocol", "TCP") == "TCP" and port.get("hostIP", "") in _ALL:
                yield port["hostPort"]


class PublishedPorts:
    """Runs in the node's process. `services` and `pods` are informers; of pods, only of the node's."""

    def __init__(self, profile: Profile, node_ip: str, services: Informer, pods: Informer) -> None:
        self._profile = profile
        self._node_ip = node_ip
        self._services = services
        self._pods = pods
        self._changed = asyncio.Event()
        self._refused: set[int] = set()  # that cannot be had, and were told of
        self._servers: dict[int, asyncio.Server] = {}
        self._connections: set[asyncio.Task[None]] = set()
        touch = self._touch
        for informer in (services, pods):
            informer.add_handler(added=touch, updated=touch, deleted=touch)

    def _touch(self, *_: Obj) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        await asyncio.gather(self._services.wait_synced(), self._pods.wait_synced())
        try:
            while True:
                self._changed.clear()
                await self._reconcile()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_RETRY if self._refused else None):
                        await self._changed.wait()
        finally:
            for server in self._servers.values():
                server.close()
            for connection in self._connections:
                connection.cancel()

    async def _reconcile(self) -> None:
        """Listen on what Services and pods have, and on nothing else."""
        wanted = {port for service in self._services.store.list() for port in node_ports(service)}
        wanted |= {port for pod in self._pods.store.list() for port in host_ports(pod)}
        for port in self._servers.keys() - wanted:
            self._servers.pop(port).close()
        self._refused &= wanted
        for port in wanted - self._servers.keys():
            try:
                listener = await asyncio.to_thread(loopback.ask, self._profile, port)
            except OSError as error:
                if port not in self._refused:
                    _log.warning("a port cannot be had on 127.0.0.1", port=port, error=error.strerror)
                    self._refused.add(port)
                continue
            self._refused.discard(port)
            self._servers[port] = await asyncio.start_server(partial(self._welcome, port), sock=listener)

    async def _welcome(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection(self._node_ip, port)
        except OSError:
            writer.close()  # nobody is behind the port
            return
        try:
            await asyncio.gather(_pass_on(reader, far_writer), _pass_on(far_reader, writer))
        except OSError:
            pass  # one side has broken off
        finally:
            writer.close()
            far_writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What comes in goes out; so does its end."""
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
