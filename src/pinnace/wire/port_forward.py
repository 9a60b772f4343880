"""Port-forward: TCP connections to a pod's ports, carried in SPDY streams, in SPDY over WebSocket, or in channels.

Over SPDY every connection is a pair of streams, `data` and `error`, with the headers `port` and `requestID`; new
clients put the same frames into WebSocket messages (`SPDY/3.1+portforward.k8s.io`, KEP-4006); old browsers' clients
speak channels, two for every port of the query (https://kubernetes.io/docs/reference/kubernetes-api/).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from pinnace.wire.http import RawConnection, Request, Response, UpgradeResponse
from pinnace.wire.negotiation import plain, upgrade_to_spdy
from pinnace.wire.pipe import Pipe
from pinnace.wire.spdy_session import ByteStream, SpdySession, SpdyStream
from pinnace.wire.tasks import end_tasks
from pinnace.wire.websocket import WebSocket, WebSocketStream, accept, is_websocket, offered_subprotocols

PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
CHANNEL_PROTOCOLS = ("v4.channel.k8s.io", "portforward.k8s.io")
PAIR_SECONDS = 30.0  # between the two streams of a connection


class Reader(Protocol):
    """What comes from a port, as an asyncio.StreamReader gives it."""

    async def read(self, limit: int, /) -> bytes: ...


class Writer(Protocol):
    """What goes to a port, as an asyncio.StreamWriter takes it."""

    def write(self, data: bytes, /) -> None: ...

    async def drain(self) -> None: ...

    def can_write_eof(self) -> bool: ...

    def write_eof(self) -> None: ...

    def close(self) -> None: ...


class PortForwardError(Exception):
    """Why a connection failed in the words that the client is told, as another server has them already."""


Dial = Callable[[int], Awaitable[tuple[Reader, Writer]]]
"""Connects to a port inside the pod; any exception becomes the error that the client shows."""


def port_forward(
    request: Request, dial: Dial, *, pod: str = "", ports: Sequence[int] = ()
) -> UpgradeResponse | Response:
    """Answer a port-forward request; `pod` names the pod in errors ("web_default, uid 1234").

    `ports` are those of a client that speaks in channels, where its request does not name them itself.
    """

    async def over_spdy(connection: RawConnection, _version: str) -> None:
        try:
            await _Forwarder(connection, dial, pod).run()
        finally:
            connection.close()

    async def tunnelled(socket: WebSocket, _protocol: str) -> None:
        await _Forwarder(WebSocketStream(socket), dial, pod).run()

    if not is_websocket(request):
        return upgrade_to_spdy(request, (PROTOCOL,), over_spdy)
    if TUNNEL_PROTOCOL in offered_subprotocols(request):
        return accept(request, (TUNNEL_PROTOCOL,), tunnelled)
    wanted = ports or _query_ports(request)
    if wanted is None:
        return plain(400, "query parameter 'port' is required and must be a list of port numbers")

    async def in_channels(socket: WebSocket, _protocol: str) -> None:
        await _forward_channels(socket, wanted, dial, pod)

    return accept(request, CHANNEL_PROTOCOLS, in_channels)


def _query_ports(request: Request) -> list[int] | None:
    texts = [text for name in ("ports", "port") for value in request.param_list(name) for text in value.split(",")]
    if not texts or not all(text.isdecimal() and 0 < int(text) < 65536 for text in texts):
        return None
    return [int(text) for text in texts]


def _failure(port: int, pod: str, error: Exception) -> bytes:
    if isinstance(error, PortForwardError):
        return str(error).encode()
    where = f" to pod {pod}" if pod else ""
    return f"error forwarding port {port}{where}: {error}".encode()


async def _copy(
    read: Callable[[], Awaitable[bytes]], write: Callable[[bytes], None], drain: Callable[[], Awaitable[None]]
) -> None:
    while data := await read():
        write(data)
        await drain()


async def _join(
    reader: Reader,
    writer: Writer,
    from_client: Callable[[], Awaitable[bytes]],
    to_client: Callable[[bytes], None],
    drain_client: Callable[[], Awaitable[None]],
) -> None:
    """Copy both ways until the pod's side has ended; the client's end of input is passed on as a half-close."""

    async def inward() -> None:
        with suppress(OSError):
            await _copy(from_client, writer.write, writer.drain)
            if writer.can_write_eof():
                writer.write_eof()

    inwards = asyncio.ensure_future(inward())
    try:
        with suppress(ConnectionError):
            await _copy(lambda: reader.read(65536), to_client, drain_client)
    finally:
        await end_tasks([inwards])
        writer.close()


class _Forwarder:
    """Pairs the streams of a SPDY connection and forwards each pair."""

    def __init__(self, connection: ByteStream, dial: Dial, pod: str) -> None:
        self._session = SpdySession(connection, self._accept)
        self._dial = dial
        self._pod = pod
        self._halves: dict[str, tuple[SpdyStream, asyncio.TimerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        try:
            await self._session.run()
        finally:
            for _, timer in self._halves.values():
                timer.cancel()
            await end_tasks(self._tasks)

    def _accept(self, stream: SpdyStream) -> bool:
        kind, port = stream.headers.get("streamtype", ""), stream.headers.get("port", "")
        if kind not in ("data", "error") or not (port.isdecimal() and 0 < int(port) < 65536):
            return False
        # clients of long ago send no requestID: the error stream comes first, the data stream has the next number
        pair_id = stream.headers.get("requestid") or f"#{stream.stream_id - (2 if kind == 'data' else 0)}"
        other = self._halves.pop(pair_id, None)
        if other is None:
            timer = asyncio.get_running_loop().call_later(PAIR_SECONDS, self._give_up, pair_id)
            self._halves[pair_id] = stream, timer
            return True
        first, timer = other
        timer.cancel()
        if first.headers.get("streamtype") == kind:
            first.reset()
            return False
        data, error = (stream, first) if kind == "data" else (first, stream)
        task = asyncio.ensure_future(self._forward(int(data.headers["port"]), data, error))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    def _give_up(self, pair_id: str) -> None:
        stream, _ = self._halves.pop(pair_id)
        stream.reset()

    async def _forward(self, port: int, data: SpdyStream, error: SpdyStream) -> None:
        try:
            reader, writer = await self._dial(port)
            await _join(reader, writer, data.read, data.write, data.drain)
        except Exception as failure:
            error.write(_failure(port, self._pod, failure))
        finally:
            data.close()
            error.close()
            data.incoming.discard()
            error.incoming.discard()


async def _forward_channels(socket: WebSocket, ports: Sequence[int], dial: Dial, pod: str) -> None:
    """Two channels for every port, `2n` data and `2n+1` error; each opens with the port as two bytes."""
    pipes = [Pipe() for _ in ports]
    for index, port in enumerate(ports):
        for channel in (2 * index, 2 * index + 1):
            socket.send(bytes([channel]) + struct.pack("<H", port))

    async def forward(index: int, port: int) -> None:
        prefix = bytes([2 * index])
        try:
            reader, writer = await dial(port)
            await _join(reader, writer, pipes[index].read, lambda data: socket.send(prefix + data), socket.drain)
        except Exception as failure:
            socket.send(bytes([2 * index + 1]) + _failure(port, pod, failure))
        finally:
            pipes[index].discard()

    tasks = [asyncio.ensure_future(forward(index, port)) for index, port in enumerate(ports)]
    try:
        while (message := await socket.receive()) is not None:
            raw = message.encode() if isinstance(message, str) else message
            if raw and raw[0] % 2 == 0 and raw[0] // 2 < len(pipes):
                pipe = pipes[raw[0] // 2]
                pipe.feed(raw[1:])
                await pipe.room()
    finally:
        await end_tasks(tasks)
