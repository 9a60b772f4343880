"""Connections to other servers, on the same transport as those that are accepted.

asyncio's own TLS passes every byte through two memory buffers and 256 KiB objects, at twice the CPU.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

from pinnace.wire.http import Peer
from pinnace.wire.transport import ConnectionProtocol, Transport

HANDSHAKE_SECONDS = 60.0


_WORDS = {
    errno.ECONNREFUSED: "connect: connection refused",
    errno.EHOSTUNREACH: "connect: no route to host",
    errno.ENETUNREACH: "connect: network is unreachable",
    errno.ETIMEDOUT: "connect: connection timed out",
    errno.ECONNRESET: "connect: connection reset by peer",
}


def dial_error(host: str, port: int, error: Exception) -> str:
    """Why there is no connection, as Go says it: people search for these texts."""
    if isinstance(error, socket.gaierror):
        return f"dial tcp: lookup {host}: no such host"
    where = f"dial tcp [{host}]:{port}" if ":" in host else f"dial tcp {host}:{port}"
    known = _WORDS.get(error.errno or 0) if isinstance(error, OSError) else None
    if known is None and isinstance(error, TimeoutError):
        known = "i/o timeout"
    return f"{where}: {known or error}"


async def connect(
    host: str,
    port: int,
    connected: Callable[[Transport], ConnectionProtocol],
    context: ssl.SSLContext | None = None,
    server_name: str = "",
) -> None:
    """Connect, with TLS where there is a `context`, and have `connected` make the protocol.

    The other's certificate must be `server_name`'s, if that is given, or else its host's. Raises OSError, ValueError.
    """
    sock = await _connected_socket(host, port)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            sock = context.wrap_socket(sock, server_hostname=server_name or host, do_handshake_on_connect=False)
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                await _shake_hands(sock)
    except BaseException:
        sock.close()
        raise
    loop = asyncio.get_running_loop()
    transport = Transport(loop, sock, Peer(host), lambda transport, _: connected(transport), lambda _: None)
    transport.start(HANDSHAKE_SECONDS)


async def _connected_socket(host: str, port: int) -> socket.socket:
    """To the first of the host's addresses that answers."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, address in await _addresses(host, port):
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            await loop.sock_connect(sock, address)
        except BaseException as error:
            sock.close()
            if not isinstance(error, OSError):
                raise
            failure = error
        else:
            return sock
    raise failure or OSError(f"no address of {host}")


async def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    """Families and addresses; who names an address needs no resolver."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, (host, port))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


async def _shake_hands(sock: ssl.SSLSocket) -> None:
    loop = asyncio.get_running_loop()
    fd = sock.fileno()
    while True:
        ready: asyncio.Future[None] = loop.create_future()
        try:
            sock.do_handshake()
        except ssl.SSLWantReadError:
            loop.add_reader(fd, _wake, ready)
        except ssl.SSLWantWriteError:
            loop.add_writer(fd, _wake, ready)
        else:
            return
        try:
            await ready
        finally:
            loop.remove_reader(fd)
            loop.remove_writer(fd)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
