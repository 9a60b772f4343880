"""No bytes may raise, hang or leave a connection half alive: the HTTP/1.1 core fed with anything, in any pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.wire.connection import Settings
from pinnace.wire.http import (
    AnyResponse,
    Peer,
    RawConnection,
    Request,
    Response,
    StreamingResponse,
    UpgradeResponse,
    Writer,
)
from pinnace.wire.http1 import Http1Connection

PIECES = st.sampled_from(
    [
        b"GET /now HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n",
        b"HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /stream HTTP/1.0\r\n\r\n",
        b"POST /now HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
        b"POST /later HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        b"5\r\nabcde\r\n", b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"fffffffffffffffff\r\n", b"hello",
        b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"GET /now HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"GET /fail HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: a\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n", b"\0", b"\x16\x03\x01",
        b"GET /%zz%00?%zz HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"X" * 5000,
    ]
)  # fmt: skip


class FakeChannel:
    """Remembers what was sent and whether the connection was ended."""

    def __init__(self) -> None:
        self.buffered = 0
        self.sent = bytearray()
        self.ended = False
        self.reading = True

    def write(self, data: bytes | memoryview) -> None:
        if not self.ended:
            self.sent += data

    def writelines(self, pieces: Sequence[bytes | memoryview]) -> None:
        for piece in pieces:
            self.write(piece)

    def close(self, *, linger: bool = False) -> None:
        self.ended = True

    def abort(self) -> None:
        self.ended = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    async def drain(self) -> None:
        return


async def stream(writer: Writer) -> None:
    writer.write(b"abc")
    await asyncio.sleep(0)
    writer.write(b"def")


async def echo(raw: RawConnection) -> None:
    while data := await raw.read():
        raw.write(data)
    raw.close()


def handler(request: Request) -> AnyResponse | asyncio.Future[AnyResponse]:
    if request.path == "/later":

        async def later() -> AnyResponse:
            await asyncio.sleep(0)
            return Response(200, (), request.body)

        return asyncio.ensure_future(later())
    if request.path == "/stream":
        return StreamingResponse(stream)
    if request.path == "/upgrade":
        return UpgradeResponse(echo, (("Connection", "Upgrade"), ("Upgrade", "x")))
    if request.path == "/fail":
        raise RuntimeError
    return Response(200, (), b"ok")


async def converse(pieces: list[bytes]) -> tuple[FakeChannel, Http1Connection]:
    """Feed the pieces as a transport would, then the end of the stream; give tasks their turns."""
    channel = FakeChannel()
    connection = Http1Connection(handler, Settings(header_bytes=4096, body_bytes=4096), channel, Peer("::1"))
    for piece in pieces:
        if channel.ended or not channel.reading:
            break
        connection.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(30):
        await asyncio.sleep(0)
    if not channel.ended:
        connection.eof_received()
    for _ in range(30):
        await asyncio.sleep(0)
    return channel, connection


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=60)), max_size=8), st.data())
def test_any_bytes_are_answered_or_end_the_connection(pieces: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(pieces)
    cuts: list[bytes] = []
    while whole:
        size = data.draw(st.integers(1, len(whole)))
        cuts.append(whole[:size])
        whole = whole[size:]
    channel, connection = asyncio.run(converse(cuts))

    assert channel.ended
    assert not connection.busy or connection.streaming
    assert channel.sent == b"" or channel.sent.startswith(b"HTTP/1.1 ")


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES.filter(lambda piece: piece.startswith((b"GET /now", b"GET /later"))), max_size=6))
def test_every_request_gets_one_answer(pieces: list[bytes]) -> None:
    plain = [piece for piece in pieces if b"upgrade" not in piece]
    channel, _ = asyncio.run(converse([b"".join(plain)]))
    assert channel.sent.count(b"HTTP/1.1 200 OK") == len(plain)
