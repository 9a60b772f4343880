"""Requests of this process's own components to registered servers: the garbage collector and its like see every group.

The way is the one that clients' requests take, TLS and all; what comes back is an object, or the error it tells of.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import urlencode

import orjson

from pinnace.apiserver.aggregation.backend import Backend
from pinnace.apiserver.aggregation.documents import body_of
from pinnace.apiserver.authn import User
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj
from pinnace.wire.http import Peer, Request, StreamingResponse, unframe_chunk
from pinnace.wire.tasks import end_tasks

_QUEUED = 64  # pieces of an answer that wait for their reader
_LONGEST_EVENT = 16 << 20  # bytes


async def request(
    backend: Backend, user: User, method: str, path: str, params: Mapping[str, str], body: Any, content_type: str
) -> Obj:
    """The object that the server answers with; raises ApiError."""
    sent = orjson.dumps(body) if body is not None else b""
    answer = await backend.pass_on(_request(method, path, params, sent, content_type), user)
    return _object(answer.status, await body_of(answer))


async def watch(backend: Backend, user: User, path: str, params: Mapping[str, str]) -> AsyncIterator[Obj]:
    """Events as the server sends them; raises ApiError for an ERROR event."""
    answer = await backend.pass_on(_request("GET", path, {**params, "watch": "1"}, b"", ""), user)
    if answer.status != 200 or not isinstance(answer, StreamingResponse):
        for line in _text(answer.status, await body_of(answer)).splitlines():
            yield _event(line)
        return
    rest = b""
    async with aclosing(_pieces(answer)) as pieces:
        async for piece in pieces:
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if line.strip():
                    yield _event(line)
            if len(rest) > _LONGEST_EVENT:
                raise errors.internal("an event of a registered server is too long")


def _request(method: str, path: str, params: Mapping[str, str], body: bytes, content_type: str) -> Request:
    headers = {"accept": "application/json"}
    if body:
        headers["content-type"] = content_type
    return Request(method, path, urlencode(params), headers, body, Peer(""))


def _text(status: int, body: bytes) -> bytes:
    """The body of a success; raises what the body of a failure tells of."""
    if status < 400:
        return body
    try:
        told = orjson.loads(body)
    except ValueError:
        told = None
    if isinstance(told, dict) and told.get("kind") == "Status":
        raise ApiError.from_status({"code": status, **told})
    raise errors.from_backend(status, "", "", body.decode(errors="replace"))


def _object(status: int, body: bytes) -> Obj:
    try:
        found = orjson.loads(_text(status, body))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise errors.internal("the answer of a registered server is no object")
    return found


def _event(line: bytes) -> Obj:
    event = _object(200, line)
    if event.get("type") == "ERROR":
        raise ApiError.from_status(event.get("object") or {})
    return event


async def _pieces(answer: StreamingResponse) -> AsyncGenerator[bytes, None]:
    """The body as it comes; the connection ends with the reader."""
    writer = _Queue()
    running = asyncio.ensure_future(answer.run(writer))
    running.add_done_callback(lambda _: writer.end())
    try:
        while (piece := await writer.pieces.get()) is not None:
            yield piece
            writer.taken.set()
    finally:
        writer.close()
        await end_tasks([running])


class _Queue:
    """A `Writer` whose other end is read in this process."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.taken = asyncio.Event()
        self.closed = False
        self._callbacks: list[Callable[[], None]] = []

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.pieces.put_nowait(data)

    def write_framed(self, chunk: bytes) -> None:
        self.write(unframe_chunk(chunk))

    async def drain(self) -> None:
        while self.pieces.qsize() > _QUEUED and not self.closed:
            self.taken.clear()
            await self.taken.wait()

    def on_close(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def end(self) -> None:
        self.pieces.put_nowait(None)

    def close(self) -> None:
        self.closed = True
        self.taken.set()
        for callback in self._callbacks:
            callback()
