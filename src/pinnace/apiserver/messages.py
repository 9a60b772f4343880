"""Answers as WebSocket messages, for clients that cannot read a body as it comes: browsers watch and follow logs so.

A line of a watch is a text message. A log is binary messages, or text in base64 for who asks for the subprotocol
`base64.binary.k8s.io`. https://kubernetes.io/docs/reference/using-api/api-concepts/#streams.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable

from pinnace.wire.http import AnyResponse, Request, Response, StreamingResponse, unframe_chunk
from pinnace.wire.tasks import end_tasks
from pinnace.wire.websocket import WebSocket, accept, is_websocket

BASE64 = "base64.binary.k8s.io"
SUBPROTOCOLS = ("binary.k8s.io", BASE64)

Split = Callable[[bytes], Iterable[bytes | str]]
"""The messages that a piece of the body makes."""


def lines(data: bytes) -> Iterable[bytes | str]:
    """Text, a message a line: how a watch is sent."""
    return (line.decode() for line in data.splitlines() if line)


def over_websocket(request: Request | None, answer: AnyResponse, split: Split | None = None) -> AnyResponse:
    """`answer` as messages where `request` asks for a WebSocket, else as it is; errors stay HTTP's."""
    if request is None or not is_websocket(request) or not isinstance(answer, Response | StreamingResponse):
        return answer
    if not 200 <= answer.status < 300:
        return answer

    async def serve(socket: WebSocket, subprotocol: str) -> None:
        writer = _MessageWriter(socket, split or (_base64 if subprotocol == BASE64 else _whole))
        if isinstance(answer, Response):
            writer.write(answer.body)
            return
        body = asyncio.ensure_future(answer.run(writer))
        gone = asyncio.ensure_future(_until_closed(socket))
        try:
            await asyncio.wait((body, gone), return_when=asyncio.FIRST_COMPLETED)
            if not body.done():
                writer.hang_up()
        finally:
            await end_tasks((body, gone))

    return accept(request, SUBPROTOCOLS, serve)


async def _until_closed(socket: WebSocket) -> None:
    while await socket.receive() is not None:
        pass  # clients have nothing to say here


def _whole(data: bytes) -> Iterable[bytes | str]:
    return (data,) if data else ()


def _base64(data: bytes) -> Iterable[bytes | str]:
    return (base64.b64encode(data).decode(),) if data else ()


class _MessageWriter:
    """The `Writer` of a body that goes out as messages."""

    def __init__(self, socket: WebSocket, split: Split) -> None:
        self._socket = socket
        self._split = split
        self._callbacks: list[Callable[[], None]] = []

    def write(self, data: bytes) -> None:
        for message in self._split(data):
            self._socket.send(message)

    def write_framed(self, chunk: bytes) -> None:
        self.write(unframe_chunk(chunk))

    async def drain(self) -> None:
        await self._socket.drain()

    @property
    def closed(self) -> bool:
        return self._socket.closed

    def on_close(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def hang_up(self) -> None:
        """The peer is gone."""
        for callback in self._callbacks:
            callback()
        self._callbacks.clear()
