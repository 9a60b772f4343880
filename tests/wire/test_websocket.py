"""WebSockets with the `websockets` client at the other end."""

from __future__ import annotations

import asyncio

import pytest
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus

from pinnace.wire.http import Request, Response, UpgradeResponse
from pinnace.wire.websocket import WebSocket, accept
from tests.wire.conftest import PATIENCE, Connect, Pki, serving


async def echo(socket: WebSocket, protocol: str) -> None:
    socket.send(f"protocol={protocol}")
    while (message := await socket.receive()) is not None:
        if message == "stop":
            return
        if message == "fail":
            raise RuntimeError("no")
        socket.send(message)


def handler(request: Request) -> UpgradeResponse | Response:
    return accept(request, ("b", "a"), echo)


@pytest.mark.parametrize(("offered", "chosen"), [(["a", "b"], "a"), (["x", "b"], "b"), (None, "")])
async def test_clients_first_choice_among_ours_is_taken(pki: Pki, offered: list[str] | None, chosen: str) -> None:
    async with serving(handler, pki.server()) as server:
        url = f"wss://localhost:{server.addresses[0][1]}/"
        async with open_websocket(url, ssl=pki.client_context(), subprotocols=offered) as client:  # type: ignore[arg-type]
            assert await client.recv() == f"protocol={chosen}"
            assert client.subprotocol == (chosen or None)


async def test_messages_pings_and_closing() -> None:
    async with serving(handler) as server:
        url = f"ws://localhost:{server.addresses[0][1]}/"
        async with open_websocket(url, compression=None) as client:
            await client.recv()
            for message in ("text", b"bytes", b"", b"x" * 300_000):
                await client.send(message)
                assert await client.recv() == message
            await client.send(["in ", "fragments"])
            assert await client.recv() == "in fragments"
            await asyncio.wait_for(await client.ping(), PATIENCE)
            await client.send("stop")
            with pytest.raises(ConnectionClosedOK):
                await client.recv()


async def test_failure_closes_with_internal_error() -> None:
    async with serving(handler) as server, open_websocket(f"ws://localhost:{server.addresses[0][1]}/") as client:
        await client.recv()
        await client.send("fail")
        with pytest.raises(ConnectionClosedError) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011


async def test_unknown_subprotocols_are_refused() -> None:
    async with serving(handler) as server:
        with pytest.raises(InvalidStatus) as refused:
            await open_websocket(f"ws://localhost:{server.addresses[0][1]}/", subprotocols=["x"])  # type: ignore[list-item]
        assert refused.value.response.status_code == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n", 400),
        (b"Connection: Upgrade\r\nUpgrade: other\r\n", 426),
        (b"", 426),
    ],
)
async def test_broken_handshake_is_refused(connect: Connect, headers: bytes, status: int) -> None:
    async with serving(handler) as server:
        wire = await connect(server)
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + headers + b"\r\n")
        assert (await wire.response())[0] == status


async def test_broken_frames_end_the_connection(connect: Connect) -> None:
    async with serving(handler) as server:
        wire = await connect(server)
        wire.send(
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\xff\xff\xff\xff"
        )
        status, headers = await wire.head()
        assert (status, headers["sec-websocket-accept"]) == (101, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        assert b"\x03\xea" in await wire.rest()  # close code 1002
