"""Exec and attach: standard streams, terminal sizes and the exit status over WebSocket or SPDY/3.1.

WebSocket messages carry a channel number first (0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize; 255 closes one, from
v5 on); SPDY streams are told apart by their `streamType` header. The error channel ends with a `Status`. The
subprotocols are those of KEP-4006 and of the kubelet's streaming server.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj
from pinnace.wire.http import RawConnection, Request, Response, UpgradeResponse
from pinnace.wire.negotiation import plain, upgrade_to_spdy
from pinnace.wire.pipe import Pipe
from pinnace.wire.spdy_session import SpdySession, SpdyStream
from pinnace.wire.websocket import WebSocket, accept, is_websocket

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
STREAM_CREATION_SECONDS = 30.0

SPDY_VERSIONS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
WEBSOCKET_PROTOCOLS = (
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
)


class Reader(Protocol):
    async def read(self, limit: int = 65536) -> bytes:
        """The next bytes; empty at the end."""


class Output(Protocol):
    """stdout or stderr of the session."""

    def write(self, data: bytes) -> None:
        """Queue bytes; nothing happens when the client is gone."""

    async def drain(self) -> None:
        """Wait until the client has taken most of it."""


@dataclass(slots=True)
class RemoteStreams:
    """What the client connected; a stream that it did not ask for is None."""

    stdin: Reader | None
    stdout: Output | None
    stderr: Output | None
    resize: asyncio.Queue[tuple[int, int]]  # (columns, rows), as the client's terminal changes
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # set when the client has left


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How the command ended."""

    code: int = 0
    message: str = ""  # behind "command terminated with non-zero exit code: "


RemoteSession = Callable[[RemoteStreams], Awaitable[ExitStatus | int | Obj | None]]
"""Runs the command with the streams; returns how it ended, raises ApiError or any exception when it could not run.

A session that another server runs returns that server's `Status`. It is cancelled when the client leaves (an exec'd
process is its own affair to end or not).
"""


def status_of(outcome: ExitStatus | int | Obj | None) -> Obj:
    """The `Status` that tells a client how the command ended."""
    if isinstance(outcome, dict):
        return outcome
    if outcome is None:
        outcome = ExitStatus()
    elif isinstance(outcome, int):
        outcome = ExitStatus(outcome)
    if outcome.code == 0:
        return {"metadata": {}, "status": "Success"}
    why = outcome.message or f"exit code {outcome.code}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {why}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(outcome.code)}]},
    }


def remote_command(
    request: Request,
    session: RemoteSession,
    *,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
    doing: str = "executing command in container",
) -> UpgradeResponse | Response:
    """Answer an exec or attach request. `doing` words the failures of `session` that are no ApiError."""
    if tty:
        stderr = False  # a terminal has one output
    if not (stdin or stdout or stderr):
        return plain(400, "you must specify at least 1 of stdin, stdout, stderr")
    wanted = _Wanted(stdin, stdout, stderr, tty)

    async def over_websocket(socket: WebSocket, protocol: str) -> None:
        await _WebSocketChannels(socket, protocol, wanted).run(session, doing)

    async def over_spdy(connection: RawConnection, version: str) -> None:
        try:
            await _SpdyChannels(connection, version, wanted).run(session, doing)
        finally:
            connection.close()

    if is_websocket(request):
        return accept(request, WEBSOCKET_PROTOCOLS, over_websocket)
    return upgrade_to_spdy(request, SPDY_VERSIONS, over_spdy)


@dataclass(frozen=True, slots=True)
class _Wanted:
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


async def _outcome(session: RemoteSession, streams: RemoteStreams, doing: str) -> Obj:
    """Run the session to its `Status`."""
    try:
        return status_of(await session(streams))
    except ApiError as error:
        return error.to_status()
    except Exception as error:
        return errors.internal(f"error {doing}: {error}").to_status()


async def _run_while_connected(work: Awaitable[None], receive: Awaitable[None], gone: asyncio.Event) -> None:
    """Do `work` while `receive` takes what the client sends; a client that leaves cancels the work."""
    working = asyncio.ensure_future(work)
    receiving = asyncio.ensure_future(receive)
    try:
        await asyncio.wait({working, receiving}, return_when=asyncio.FIRST_COMPLETED)
        gone.set()
    finally:
        for task in (working, receiving):
            task.cancel()
        results = await asyncio.gather(working, receiving, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


class _Sizes:
    """Terminal sizes out of a stream of JSON values."""

    def __init__(self, queue: asyncio.Queue[tuple[int, int]]) -> None:
        self._queue = queue
        self._text = ""
        self._decoder = json.JSONDecoder()

    def feed(self, data: bytes) -> None:
        self._text = (self._text + data.decode("utf-8", "replace")).lstrip()[-4096:]
        while self._text:
            try:
                size, end = self._decoder.raw_decode(self._text)
            except ValueError:
                return
            self._text = self._text[end:].lstrip()
            if isinstance(size, dict):
                columns, rows = size.get("Width"), size.get("Height")
                if isinstance(columns, int) and isinstance(rows, int) and 0 < columns < 65536 and 0 < rows < 65536:
                    self._queue.put_nowait((columns, rows))


# WebSocket.


class _ChannelOutput:
    """One outgoing channel of a WebSocket."""

    def __init__(self, socket: WebSocket, channel: int, base64_text: bool) -> None:
        self._socket = socket
        self._prefix = bytes([channel])
        self._text_prefix = str(channel)
        self._base64 = base64_text

    def write(self, data: bytes) -> None:
        if self._base64:
            self._socket.send(self._text_prefix + base64.b64encode(data).decode())
        else:
            self._socket.send(self._prefix + data)

    async def drain(self) -> None:
        await self._socket.drain()


class _WebSocketChannels:
    """A session whose streams are channels of one WebSocket."""

    def __init__(self, socket: WebSocket, protocol: str, wanted: _Wanted) -> None:
        self._socket = socket
        self._closable = protocol.startswith("v5.")
        self._status_as_json = protocol.startswith(("v4.", "v5."))
        base64_text = "base64." in protocol
        self._base64 = base64_text
        self._stdin = Pipe() if wanted.stdin else None
        queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self._sizes = _Sizes(queue) if wanted.tty else None
        self._error = _ChannelOutput(socket, ERROR, base64_text)
        self._streams = RemoteStreams(
            self._stdin,
            _ChannelOutput(socket, STDOUT, base64_text) if wanted.stdout else None,
            _ChannelOutput(socket, STDERR, base64_text) if wanted.stderr else None,
            queue,
        )

    async def run(self, session: RemoteSession, doing: str) -> None:
        # the lowest channel that carries output tells the client with an empty message that the session is up
        first = self._streams.stdout or self._streams.stderr or self._error
        first.write(b"")
        await _run_while_connected(self._work(session, doing), self._receive(), self._streams.gone)

    async def _work(self, session: RemoteSession, doing: str) -> None:
        status = await _outcome(session, self._streams, doing)
        if self._status_as_json:
            self._error.write(_encode(status))
        elif status["status"] != "Success":
            self._error.write(status.get("message", "").encode())
        await self._socket.drain()

    async def _receive(self) -> None:
        while (message := await self._socket.receive()) is not None:
            channel, data = self._split(message)
            if channel == STDIN and self._stdin is not None:
                self._stdin.feed(data)
                await self._stdin.room()
            elif channel == RESIZE and self._sizes is not None:
                self._sizes.feed(data)
            elif channel == CLOSE and self._closable and data[:1] == b"\0" and self._stdin is not None:
                self._stdin.feed_eof()
        if self._stdin is not None:
            self._stdin.feed_eof()

    def _split(self, message: bytes | str) -> tuple[int, bytes]:
        """Channel and payload; channel -1 for a message that makes no sense."""
        if not message:
            return -1, b""
        raw = message.encode() if isinstance(message, str) else message
        if not self._base64:
            return raw[0], raw[1:]
        try:
            return raw[0] - ord("0"), base64.b64decode(raw[1:])
        except binascii.Error:
            return -1, b""


def _encode(status: Obj) -> bytes:
    return json.dumps(status, separators=(",", ":")).encode()


# SPDY.


class _SpdyChannels:
    """A session whose streams are SPDY streams."""

    def __init__(self, connection: RawConnection, version: str, wanted: _Wanted) -> None:
        self._session = SpdySession(connection, self._accept)
        self._status_as_json = version.startswith("v4.")
        self._wanted = wanted
        self._found: dict[str, SpdyStream] = {}
        self._complete = asyncio.Event()
        self._expected = {"error"}
        self._expected |= {name for name in ("stdin", "stdout", "stderr") if getattr(wanted, name)}
        if wanted.tty and version.startswith(("v3.", "v4.")):
            self._expected.add("resize")
        self._gone = asyncio.Event()

    def _accept(self, stream: SpdyStream) -> bool:
        kind = stream.headers.get("streamtype", "")
        if kind not in self._expected or kind in self._found:
            return False
        self._found[kind] = stream
        if len(self._found) == len(self._expected):
            self._complete.set()
        return True

    async def run(self, session: RemoteSession, doing: str) -> None:
        await _run_while_connected(self._work(session, doing), self._session.run(), self._gone)

    async def _work(self, session: RemoteSession, doing: str) -> None:
        try:
            await asyncio.wait_for(self._complete.wait(), STREAM_CREATION_SECONDS)
        except TimeoutError:
            self._session.go_away()
            return
        found = self._found
        queue: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        streams = RemoteStreams(found.get("stdin"), found.get("stdout"), found.get("stderr"), queue, self._gone)
        sizes = asyncio.ensure_future(self._read_sizes(found.get("resize"), queue))
        try:
            status = await _outcome(session, streams, doing)
        finally:
            sizes.cancel()
        if self._status_as_json:
            found["error"].write(_encode(status))
        elif status["status"] != "Success":
            found["error"].write(status.get("message", "").encode())
        for stream in found.values():
            stream.close()
        self._session.go_away()
        await self._session.drain()

    @staticmethod
    async def _read_sizes(stream: SpdyStream | None, queue: asyncio.Queue[tuple[int, int]]) -> None:
        if stream is None:
            return
        sizes = _Sizes(queue)
        while data := await stream.read():
            sizes.feed(data)
