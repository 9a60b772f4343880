"""WebSockets led on by SPDY: what a client sees is what a server that speaks WebSocket itself would tell it."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.client import connect as open_websocket
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Frame
from websockets.protocol import State
from websockets.uri import parse_uri

from pinnace.wire import spdy
from pinnace.wire.http import AnyResponse, Handler, RawConnection, Request, Response, UpgradeResponse
from pinnace.wire.negotiation import upgrade_to_spdy
from pinnace.wire.pipe import CAPACITY
from pinnace.wire.proxy import BackendError
from pinnace.wire.remote_command import RemoteStreams, remote_command
from pinnace.wire.server import Server
from pinnace.wire.spdy_session import SpdySession, SpdyStream
from pinnace.wire.stream_translation import translate_port_forward, translate_remote_command
from tests.wire.conftest import PATIENCE, Connect, serving
from tests.wire.test_port_forward import forwarding, target
from tests.wire.test_remote_command import ALL, EXIT_3, SUCCESS, handler, messages, next_message, websocket

__all__ = ["target"]  # a fixture

V4 = "v4.channel.k8s.io"
V5 = "v5.channel.k8s.io"
STREAMS = ("stdin", "stdout", "stderr", "tty")


@asynccontextmanager
async def translating(runtime: Handler) -> AsyncIterator[Server]:
    """A server in front of `runtime`, which hears nothing but SPDY."""

    def only_spdy(request: Request) -> AnyResponse | Awaitable[AnyResponse]:
        assert request.headers["upgrade"] == "SPDY/3.1"
        return runtime(request)

    async with serving(only_spdy) as behind:
        url = f"http://127.0.0.1:{behind.addresses[0][1]}"

        async def lead(request: Request) -> AnyResponse:
            to = f"{url}{request.path}?{request.query}"
            if request.path == "/portforward":
                return await translate_port_forward(request, to)
            stdin, stdout, stderr, tty = (request.params().get(name) == "true" for name in STREAMS)
            try:
                return await translate_remote_command(
                    request,
                    to,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    tty=tty,
                    doing="executing command in container",
                )
            except BackendError as error:
                return Response(502, (), str(error).encode())

        async with serving(lead) as server:
            yield server


def over_spdy(serve: Callable[[RawConnection], Awaitable[None]]) -> Handler:
    """A runtime of a test's own behind the upgrade."""

    def answer(request: Request) -> UpgradeResponse | Response:
        async def run(connection: RawConnection, _version: str) -> None:
            try:
                await serve(connection)
            finally:
                connection.close()

        return upgrade_to_spdy(request, (V4, "portforward.k8s.io"), run)

    return answer


# Exec and attach.


async def test_v5_half_closes_stdin_and_reports_success() -> None:
    async with translating(handler) as server, websocket(server, V5) as client:
        assert await next_message(client) == b"\x01"
        await client.send(b"\0hello")
        assert await next_message(client) == b"\x01HELLO"
        await client.send(b"\xff\0")
        *output, status = await messages(client)
        assert output == [b"\x025"]
        assert (status[:1], json.loads(status[1:])) == (b"\x03", SUCCESS)


@pytest.mark.parametrize("protocol", [V4, V5])
async def test_the_status_of_the_runtime_is_told_as_it_is(protocol: str) -> None:
    async with translating(handler) as server, websocket(server, protocol) as client:
        await client.send(b"\0exit 3")
        assert json.loads((await messages(client))[-1][1:]) == EXIT_3


async def test_before_v4_the_error_is_plain_text() -> None:
    async with translating(handler) as server, websocket(server, "channel.k8s.io") as client:
        await client.send(b"\0exit 3")
        assert (await messages(client))[-1] == b"\x03command terminated with non-zero exit code: exit code 3"


async def test_base64_channels_are_text() -> None:
    async with translating(handler) as server, websocket(server, "v4.base64.channel.k8s.io") as client:
        await client.send("0" + base64.b64encode(b"abc").decode())
        assert await next_message(client) + await next_message(client) == b"11" + base64.b64encode(b"ABC")


async def test_only_the_streams_asked_for_are_there() -> None:
    async with translating(handler) as server, websocket(server, V4, "stdout=true") as client:
        await client.send(b"\0ignored")
        assert [message[:3] for message in await messages(client)] == [b"\x01", b"\x01hi", b'\x03{"']


async def test_terminal_size_comes_through() -> None:
    async with translating(handler) as server, websocket(server, V5, ALL + "&tty=true") as client:
        await client.send(b'\x04{"Width":120,"Height":40}')
        await client.send(b"\0size")
        assert b"\x01120 x 40" in await messages(client)


async def test_the_command_hears_that_the_client_has_left() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def wait_for_ever(_: RemoteStreams) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def runtime(request: Request) -> UpgradeResponse | Response:
        return remote_command(request, wait_for_ever, stdin=True, stdout=True, stderr=True, tty=False)

    async with translating(runtime) as server:
        async with websocket(server, V5):
            await asyncio.wait_for(started.wait(), PATIENCE)
        await asyncio.wait_for(ended.wait(), PATIENCE)


async def test_a_command_that_writes_more_than_is_read_has_to_wait() -> None:
    written = 0
    stuck = asyncio.Event()

    async def flood(streams: RemoteStreams) -> None:
        nonlocal written
        assert streams.stdout is not None
        for _ in range(1024):
            streams.stdout.write(b"x" * 65536)
            try:
                await asyncio.wait_for(streams.stdout.drain(), 0.2)
            except TimeoutError:
                stuck.set()
                await streams.stdout.drain()
            written += 65536

    def runtime(request: Request) -> UpgradeResponse | Response:
        return remote_command(request, flood, stdin=False, stdout=True, stderr=False, tty=False)

    async with translating(runtime) as server:
        url = f"ws://localhost:{server.addresses[0][1]}/exec?stdout=true"
        async with open_websocket(url, subprotocols=[V5], compression=None, max_queue=1) as client:  # type: ignore[list-item]
            await asyncio.wait_for(stuck.wait(), PATIENCE)
            assert written < 1024 * 65536
            received = await messages(client)
    assert sum(len(message) - 1 for message in received[:-1]) == 1024 * 65536


async def test_stdin_that_is_not_read_holds_the_client_back() -> None:
    read_on, total = asyncio.Event(), 0

    async def read_late(streams: RemoteStreams) -> None:
        nonlocal total
        assert streams.stdin is not None
        await read_on.wait()
        while data := await streams.stdin.read():
            total += len(data)

    def runtime(request: Request) -> UpgradeResponse | Response:
        return remote_command(request, read_late, stdin=True, stdout=True, stderr=False, tty=False)

    async def send(client: object) -> None:
        for _ in range(512):
            await client.send(b"\0" + b"x" * 65536)  # type: ignore[attr-defined]
        await client.send(b"\xff\0")  # type: ignore[attr-defined]

    async with translating(runtime) as server, websocket(server, V5, "stdin=true&stdout=true") as client:
        sending = asyncio.create_task(send(client))
        await asyncio.wait({sending}, timeout=0.2)
        assert not sending.done()
        read_on.set()
        assert json.loads((await messages(client))[-1][1:]) == SUCCESS
        await sending
    assert total == 512 * 65536


DEATHS = {
    b"": "the container runtime closed the connection and told no status",
    b"oh": 'error stream protocol error: Expecting value: line 1 column 1 (char 0) in "oh"',
    b"[]": "error stream protocol error: unknown error",
}


@pytest.mark.parametrize("told", DEATHS)
async def test_a_runtime_that_tells_no_status_has_failed(told: bytes) -> None:
    async def die(connection: RawConnection) -> None:
        complete = asyncio.Event()

        def take(stream: SpdyStream) -> bool:
            if stream.headers["streamtype"] == "error":
                stream.write(told)
                complete.set()
            return True

        session = SpdySession(connection, take)
        receiving = asyncio.ensure_future(session.run())
        await complete.wait()
        await session.drain()
        connection.close()
        await receiving

    async with translating(over_spdy(die)) as server, websocket(server, V5, "stdout=true") as client:
        status = json.loads((await messages(client))[-1][1:])
        assert status["message"] == f"Internal error occurred: error executing command in container: {DEATHS[told]}"


async def test_a_stream_that_the_runtime_refuses_is_an_error() -> None:
    async def refuse(connection: RawConnection) -> None:
        framing = spdy.Spdy()
        seen: list[spdy.Event] = []
        while len(seen) < 2:
            seen += framing.receive(await connection.read())
        connection.write(framing.syn_reply(1, []) + spdy.Spdy.rst_stream(3, spdy.REFUSED_STREAM))
        while await connection.read():
            pass

    async with translating(over_spdy(refuse)) as server, websocket(server, V5, "stdout=true") as client:
        status = json.loads((await messages(client))[-1][1:])
        words = "error executing command in container: the stdout stream was refused"
        assert status["message"] == f"Internal error occurred: {words}"


async def test_an_answer_instead_of_an_upgrade_is_passed_on() -> None:
    def runtime(_request: Request) -> Response:
        return Response(404, (("Content-Type", "text/plain"),), b"unknown token")

    async with translating(runtime) as server:
        with pytest.raises(InvalidStatus) as refused:
            await websocket(server, V5)
        assert (refused.value.response.status_code, refused.value.response.body) == (404, b"unknown token")


async def test_a_handshake_that_fails_leaves_the_runtime_no_connection() -> None:
    left = asyncio.Event()

    async def wait_for_the_end(connection: RawConnection) -> None:
        while await connection.read():
            pass
        left.set()

    async with translating(over_spdy(wait_for_the_end)) as server:
        with pytest.raises(InvalidStatus) as refused:
            await websocket(server, "v9.channel.k8s.io")
        assert refused.value.response.status_code == 400
        await asyncio.wait_for(left.wait(), PATIENCE)


# Port-forward.


def port_websocket(server: Server, protocol: str, query: str = "") -> open_websocket:
    url = f"ws://localhost:{server.addresses[0][1]}/portforward{query}"
    return open_websocket(url, subprotocols=[protocol], compression=None)  # type: ignore[list-item]


async def test_channels_are_pairs_of_streams(target: int) -> None:
    async with translating(forwarding(target)) as server, port_websocket(server, V4, "?port=80,81") as client:
        opening = [await next_message(client) for _ in range(4)]
        assert sorted(opening) == [bytes([channel]) + struct.pack("<H", 80 + channel // 2) for channel in range(4)]
        await client.send(b"\0abc")
        assert {await next_message(client), await next_message(client)} == {
            b"\0ABC", b"\3error forwarding port 81 to pod p_default: connect: connection refused"
        }  # fmt: skip


async def test_much_goes_through_a_channel(target: int) -> None:
    async with translating(forwarding(target)) as server, port_websocket(server, V4, "?port=80") as client:
        for _ in range(2):
            await next_message(client)
        sent, received = b"abc" * CAPACITY, b""
        sending = asyncio.create_task(client.send(b"\0" + sent))
        while len(received) < len(sent):
            received += (await next_message(client))[1:]
        await sending
        assert received == sent.upper()


async def test_tunnelled_spdy_is_unwrapped(connect: Connect, target: int) -> None:
    async with translating(forwarding(target)) as server:
        wire = await connect(server)
        wire.send(
            b"GET /portforward HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            b"Sec-WebSocket-Protocol: SPDY/3.1+portforward.k8s.io\r\n\r\n"
        )
        status, headers = await wire.head()
        assert (status, headers["sec-websocket-protocol"]) == (101, "SPDY/3.1+portforward.k8s.io")
        client, framing = ClientProtocol(parse_uri("ws://a/"), state=State.OPEN), spdy.Spdy()
        pair = [("port", "80"), ("requestid", "0")]
        client.send_binary(framing.syn_stream(1, [("streamtype", "error"), *pair]))
        client.send_binary(framing.syn_stream(3, [("streamtype", "data"), *pair]))
        client.send_binary(spdy.Spdy.data(3, b"abc", fin=True))
        wire.send(b"".join(client.data_to_send()))
        received = b""
        ended: set[int] = set()
        while ended != {1, 3}:
            client.receive_data(await asyncio.wait_for(wire.reader.read(65536), PATIENCE))
            for message in client.events_received():
                assert isinstance(message, Frame)
                for event in framing.receive(bytes(message.data)):
                    if isinstance(event, spdy.DataReceived):
                        received += event.data
                        ended |= {event.stream_id} if event.fin else set()
        assert received == b"ABC bye"


# The client's end of SPDY.


async def test_a_client_opens_odd_streams_and_answers_pings_of_the_server() -> None:
    async def serve(connection: RawConnection) -> None:
        framing = spdy.Spdy()
        seen: list[spdy.Event] = []
        connection.write(spdy.Spdy.ping(2))
        connection.write(framing.syn_stream(2, [("streamtype", "pushed")]))
        while len(seen) < 4:
            seen += framing.receive(await connection.read())
        opened = [(event.stream_id, event.headers) for event in seen if isinstance(event, spdy.StreamOpened)]
        assert opened == [(1, {"streamtype": "error"}), (3, {"streamtype": "stdout"})]
        assert spdy.PingReceived(2) in seen
        assert spdy.StreamReset(2, spdy.REFUSED_STREAM) in seen
        for stream_id in (1, 3):
            connection.write(framing.syn_reply(stream_id, [], fin=stream_id == 3))
        connection.write(spdy.Spdy.data(1, json.dumps(SUCCESS).encode(), fin=True))
        await connection.drain()

    async with translating(over_spdy(serve)) as server, websocket(server, V5, "stdout=true") as client:
        assert json.loads((await messages(client))[-1][1:]) == SUCCESS
