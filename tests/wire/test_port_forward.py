"""Port-forward over SPDY, over SPDY in WebSocket, over channels, and with the real kubectl."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect as open_websocket

from pinnace.wire import spdy
from pinnace.wire.http import Handler, Request, Response, UpgradeResponse
from pinnace.wire.streams import Dial, port_forward
from tests.wire.conftest import PATIENCE, Connect, Pki, Wire, serving
from tests.wire.test_remote_command import KUBECTL, SpdyClient, small_api


@pytest.fixture
async def target() -> AsyncIterator[int]:
    """A TCP server that upper-cases what it gets and ends when its client has ended."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data.upper())
            await writer.drain()
        writer.write(b" bye")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def dial_to(target: int) -> Dial:
    async def dial(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if port != 80:
            raise OSError("connect: connection refused")
        return await asyncio.open_connection("127.0.0.1", target)

    return dial


def forwarding(target: int) -> Handler:
    def handler(request: Request) -> UpgradeResponse | Response:
        if request.path.endswith("/portforward"):
            return port_forward(request, dial_to(target), pod="p_default")
        return small_api(request)

    return handler


async def upgrade(wire: Wire) -> SpdyClient:
    wire.send(
        b"POST /portforward HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n"
        b"X-Stream-Protocol-Version: portforward.k8s.io\r\n\r\n"
    )
    assert (await wire.head())[0] == 101
    return SpdyClient(wire)


async def test_pairs_of_streams_are_connections(connect: Connect, target: int) -> None:
    async with serving(forwarding(target)) as server:
        client = await upgrade(await connect(server))
        for number in range(3):
            client.open(4 * number + 1, streamType="error", port="80", requestID=str(number))
            client.open(4 * number + 3, streamType="data", port="80", requestID=str(number))
        for number in range(3):
            client.send(spdy.Spdy.data(4 * number + 3, b"abc%d" % number, fin=True))
        await client.until_finished(1, 3, 5, 7, 9, 11)
        assert client.received == {
            1: b"", 3: b"ABC0 bye", 5: b"", 7: b"ABC1 bye", 9: b"", 11: b"ABC2 bye"
        }  # fmt: skip


async def test_refused_connection_is_told_on_the_error_stream(connect: Connect, target: int) -> None:
    async with serving(forwarding(target)) as server:
        client = await upgrade(await connect(server))
        client.open(1, streamType="error", port="81", requestID="0")
        client.open(3, streamType="data", port="81", requestID="0")
        await client.until_finished(1, 3)
        assert client.received[1] == b"error forwarding port 81 to pod p_default: connect: connection refused"


@pytest.mark.parametrize(
    "headers", [{"streamType": "data"}, {"streamType": "data", "port": "0"}, {"streamType": "x", "port": "80"}]
)
async def test_stream_that_makes_no_sense_is_reset(connect: Connect, target: int, headers: dict[str, str]) -> None:
    async with serving(forwarding(target)) as server:
        client = await upgrade(await connect(server))
        client.open(1, **headers)
        await client.until_finished(1)
        client.open(3, streamType="error", port="80", requestID="0")
        client.open(5, streamType="data", port="80", requestID="0")
        client.send(spdy.Spdy.data(5, b"x", fin=True))
        await client.until_finished(3, 5)


async def test_broken_framing_ends_the_connection(connect: Connect, target: int) -> None:
    async with serving(forwarding(target)) as server:
        wire = await connect(server)
        await upgrade(wire)
        wire.send(b"\x80\x02\x00\x00\x00\x00\x00\x00")
        assert (await wire.rest()).endswith(spdy.Spdy.goaway(0, 1))


async def test_channels_of_a_websocket(target: int) -> None:
    async with serving(forwarding(target)) as server:
        url = f"ws://localhost:{server.addresses[0][1]}/portforward?port=80,81"
        async with open_websocket(url, subprotocols=["v4.channel.k8s.io"]) as client:  # type: ignore[list-item]
            opening = [await client.recv() for _ in range(4)]
            expected = [bytes([channel]) + struct.pack("<H", 80 + channel // 2) for channel in range(4)]
            assert sorted(opening[:4]) == expected  # type: ignore[type-var]
            await client.send(b"\0abc")
            received = {await client.recv(), await client.recv()}
            assert received == {
                b"\0ABC", b"\3error forwarding port 81 to pod p_default: connect: connection refused"
            }  # fmt: skip


@pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")
@pytest.mark.parametrize("websockets", ["true", "false"])
async def test_kubectl_port_forward(pki: Pki, tmp_path: Path, target: int, websockets: str) -> None:
    assert KUBECTL is not None
    async with serving(forwarding(target), pki.server()) as server:
        process = await asyncio.create_subprocess_exec(
            KUBECTL, "--server", f"https://localhost:{server.addresses[0][1]}", "--certificate-authority", str(pki.ca),
            "--client-certificate", str(pki.client_cert), "--client-key", str(pki.client_key),
            "--cache-dir", str(tmp_path), "port-forward", "--address=127.0.0.1", "pod/p", ":80",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={"HOME": str(tmp_path), "KUBECONFIG": "/dev/null", "KUBECTL_PORT_FORWARD_WEBSOCKETS": websockets},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            line = (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).decode()
            assert "127.0.0.1:" in line, line
            port = int(line.split("127.0.0.1:")[1].split(" ")[0])

            async def talk(number: int) -> bytes:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"abc%d" % number * 20_000)
                writer.write_eof()
                try:
                    return await asyncio.wait_for(reader.read(), PATIENCE)
                finally:
                    writer.close()

            answers = await asyncio.gather(*(talk(number) for number in range(3)))
            assert answers == [b"ABC%d" % number * 20_000 + b" bye" for number in range(3)]
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
