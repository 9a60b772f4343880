"""Node ports at the machine's loopback: in namespaces they answer at addresses that the machine does not have.

Follows the Services, has the keeper listen outside on the TCP ports of theirs, and passes connections on to the node's
address inside, where the proxy's rules take them. Ports of UDP and SCTP answer inside only.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial

import structlog

from pinnace.apis.resources import SERVICES
from pinnace.client.informer import InformerFactory
from pinnace.cluster.profile import Profile
from pinnace.cluster.rootless import loopback
from pinnace.machinery.meta import Obj, get_in

_PIECE = 1 << 16  # bytes
_RETRY = 10.0  # seconds until a port that another program has is tried again

_log = structlog.get_logger()


def tcp_node_ports(service: Obj) -> set[int]:
    """Those that a Service has."""
    return {
        port["nodePort"]
        for port in get_in(service, "spec", "ports", default=[])
        if port.get("nodePort") and port.get("protocol", "TCP") == "TCP"
    }


class NodePorts:
    """Runs in the node's process."""

    def __init__(self, profile: Profile, node_ip: str, informers: InformerFactory) -> None:
        self._profile = profile
        self._node_ip = node_ip
        self._services = informers.informer(SERVICES)
        self._changed = asyncio.Event()
        self._servers: dict[int, asyncio.Server] = {}
        self._connections: set[asyncio.Task[None]] = set()
        touch = self._touch
        self._services.add_handler(added=touch, updated=touch, deleted=touch)

    def _touch(self, *_: Obj) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Until cancelled."""
        await self._services.wait_synced()
        try:
            while True:
                self._changed.clear()
                missing = await self._reconcile()
                with suppress(TimeoutError):
                    async with asyncio.timeout(_RETRY if missing else None):
                        await self._changed.wait()
        finally:
            for server in self._servers.values():
                server.close()
            for connection in self._connections:
                connection.cancel()

    async def _reconcile(self) -> set[int]:
        """Listen on what the Services have, and on nothing else; the ports that cannot be had."""
        wanted = {port for service in self._services.store.list() for port in tcp_node_ports(service)}
        for port in self._servers.keys() - wanted:
            self._servers.pop(port).close()
        missing = set()
        for port in wanted - self._servers.keys():
            try:
                listener = await asyncio.to_thread(loopback.ask, self._profile, port)
            except OSError as error:
                _log.warning("a node port cannot be had on 127.0.0.1", port=port, error=error.strerror)
                missing.add(port)
                continue
            self._servers[port] = await asyncio.start_server(partial(self._welcome, port), sock=listener)
        return missing

    async def _welcome(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection(self._node_ip, port)
        except OSError:
            writer.close()  # nobody is behind the Service
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
