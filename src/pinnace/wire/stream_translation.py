"""A client's WebSocket led on to a streaming server that speaks SPDY/3.1: exec, attach and port-forward.

The streaming servers of containerd and CRI-O take every SPDY protocol, but of WebSocket only those before v5, and no
tunnelled SPDY. So a client's WebSocket ends here and SPDY goes on: stream by stream for exec and attach, as plain bytes
where SPDY was tunnelled. The kubelet translates, as Kubernetes' does since 1.36 (`ExtendWebSocketsToKubelet`; its API
server did before, KEP-4006): it alone knows whether its runtime needs it, and ours does not. Older protocols, which
those servers take, are translated as well: a client then finds the same server whatever runs its containers.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from itertools import count

from pinnace.machinery.meta import Obj
from pinnace.wire.http import RawConnection, Request, Response, UpgradeResponse
from pinnace.wire.port_forward import PROTOCOL, TUNNEL_PROTOCOL, PortForwardError, port_forward
from pinnace.wire.proxy import dial_spdy, join
from pinnace.wire.remote_command import STREAM_CREATION_SECONDS, Output, Reader, RemoteStreams, remote_command
from pinnace.wire.spdy_session import SpdySession, SpdyStream
from pinnace.wire.tasks import end_tasks
from pinnace.wire.websocket import WebSocket, WebSocketStream, accept, offered_subprotocols

COMMAND_PROTOCOL = "v4.channel.k8s.io"  # the newest over SPDY: v5 is what SPDY's FIN always could


async def translate_remote_command(
    request: Request,
    url: str,
    *,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
    doing: str,
) -> UpgradeResponse | Response:
    """Answer an exec or attach request over WebSocket with a session of the streaming server at `url`.

    `doing` words failures that the server tells no `Status` of. A server that does not agree to SPDY has its answer
    passed on. Raises BackendError when there is no answer.
    """
    backend = await dial_spdy(request, url, COMMAND_PROTOCOL)
    if isinstance(backend, Response):
        return backend
    spdy = SpdySession(backend)

    async def session(streams: RemoteStreams) -> Obj:
        return await _lead(spdy, streams, tty)

    answer = remote_command(request, session, stdin=stdin, stdout=stdout, stderr=stderr, tty=tty, doing=doing)
    return _holding(backend, answer, spdy.run)


async def translate_port_forward(request: Request, url: str) -> UpgradeResponse | Response:
    """The same for a port-forward request: tunnelled SPDY is unwrapped, channels become pairs of streams."""
    backend = await dial_spdy(request, url, PROTOCOL)
    if isinstance(backend, Response):
        return backend

    async def tunnelled(socket: WebSocket, _protocol: str) -> None:
        await join(WebSocketStream(socket), backend)

    if TUNNEL_PROTOCOL in offered_subprotocols(request):
        return _holding(backend, accept(request, (TUNNEL_PROTOCOL,), tunnelled))
    spdy = SpdySession(backend)
    numbers = count()

    async def dial(port: int) -> tuple[_Connection, _Connection]:
        connection = await _Connection.open(spdy, port, next(numbers))
        return connection, connection

    return _holding(backend, port_forward(request, dial), spdy.run)


def _holding(
    backend: RawConnection,
    answer: UpgradeResponse | Response,
    receive: Callable[[], Awaitable[None]] | None = None,
) -> UpgradeResponse | Response:
    """The answer to the client; with its end the backend's connection ends, which `receive` reads until then."""
    if isinstance(answer, Response):
        backend.close()
        return answer
    run = answer.run

    async def serve(connection: RawConnection) -> None:
        receiving = asyncio.ensure_future(receive()) if receive is not None else None
        try:
            await run(connection)
        finally:
            backend.close()
            if receiving is not None:
                await end_tasks([receiving])

    answer.run, answer.unsent = serve, backend.close
    return answer


async def _taken(*streams: SpdyStream) -> None:
    """Wait until the server has taken them all. Raises ConnectionError or TimeoutError."""
    try:
        async with asyncio.timeout(STREAM_CREATION_SECONDS):
            for stream in streams:
                await stream.opened()
    except TimeoutError:
        raise TimeoutError("timed out waiting for the container runtime to take the streams") from None


# Exec and attach.


async def _lead(spdy: SpdySession, streams: RemoteStreams, tty: bool) -> Obj:
    """Carry the client's streams in those of the server until its outputs have ended; the `Status` it then tells."""
    wanted = {
        "error": True,
        "stdin": streams.stdin is not None,
        "stdout": streams.stdout is not None,
        "stderr": streams.stderr is not None,
        "resize": tty,
    }
    opened = {name: spdy.open({"streamtype": name}) for name, is_wanted in wanted.items() if is_wanted}
    await _taken(*opened.values())
    inputs, outputs = [], []
    if streams.stdin is not None:
        inputs.append(asyncio.ensure_future(_feed(streams.stdin, opened["stdin"])))
    if tty:
        inputs.append(asyncio.ensure_future(_resize(streams.resize, opened["resize"])))
    for name, sink in (("stdout", streams.stdout), ("stderr", streams.stderr)):
        if sink is not None:
            outputs.append(asyncio.ensure_future(_drain(opened[name], sink)))
    try:
        await asyncio.gather(*outputs)
        return _status(await _whole(opened["error"]))
    finally:
        await end_tasks([*inputs, *outputs])


async def _feed(source: Reader, stream: SpdyStream) -> None:
    while data := await source.read():
        stream.write(data)
        await stream.drain()
    stream.close()


async def _drain(stream: SpdyStream, sink: Output) -> None:
    while data := await stream.read():
        sink.write(data)
        await sink.drain()


async def _resize(sizes: asyncio.Queue[tuple[int, int]], stream: SpdyStream) -> None:
    while True:
        columns, rows = await sizes.get()
        stream.write(b'{"Width":%d,"Height":%d}\n' % (columns, rows))
        await stream.drain()


async def _whole(stream: SpdyStream) -> bytes:
    found = b""
    while data := await stream.read():
        found += data
    return found


def _status(told: bytes) -> Obj:
    """The `Status` of an error stream; ValueError for anything else, as of a server that died."""
    if not told:
        raise ValueError("the container runtime closed the connection and told no status")
    try:
        status = json.loads(told)
    except ValueError as error:
        raise ValueError(
            f"error stream protocol error: {error} in {json.dumps(told.decode(errors='replace'))}"
        ) from None
    if not isinstance(status, dict) or not isinstance(status.get("status"), str):
        raise ValueError("error stream protocol error: unknown error")
    return status


# Port-forward.


class _Connection:
    """A connection to a port: both ends of a pair of streams, as `port_forward` reads and writes a socket."""

    def __init__(self, data: SpdyStream, error: SpdyStream) -> None:
        self._data = data
        self._error = error

    @classmethod
    async def open(cls, spdy: SpdySession, port: int, number: int) -> _Connection:
        """Ask the server to connect. Whether it could, `read` tells."""
        pair = {"port": str(port), "requestid": str(number)}
        error, data = (spdy.open({"streamtype": kind, **pair}) for kind in ("error", "data"))
        await _taken(error, data)
        error.close()  # nothing is said to the server there
        return cls(data, error)

    async def read(self, limit: int, /) -> bytes:
        """The next bytes; at the end empty, or PortForwardError with what the server says of it."""
        data = await self._data.read(limit)
        if not data and (told := await _whole(self._error)):
            raise PortForwardError(told.decode(errors="replace"))
        return data

    def write(self, data: bytes, /) -> None:
        self._data.write(data)

    async def drain(self) -> None:
        await self._data.drain()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._data.close()

    def close(self) -> None:
        self._data.reset()
        self._error.reset()
