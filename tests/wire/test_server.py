"""The server as a whole: TLS, client certificates, big transfers, time-outs, closing."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading

import pytest

from pinnace.wire.connection import Settings
from pinnace.wire.http import RawConnection, Request, Response, StreamingResponse, UpgradeResponse, Writer
from pinnace.wire.server import serve
from tests.wire.conftest import PATIENCE, Connect, Pki, serving

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


def whose_certificate(request: Request) -> Response:
    certificate = request.peer.certificate
    return Response(200, (), b"none" if certificate is None else certificate)


async def test_client_certificate_is_optional_and_shown(pki: Pki, connect: Connect) -> None:
    async with serving(whose_certificate, pki.server()) as server:
        for with_certificate in (False, True):
            wire = await connect(server, pki.client_context(with_certificate=with_certificate))
            wire.send(GET % b"/")
            expected = ssl.PEM_cert_to_DER_cert(pki.client_cert.read_text()) if with_certificate else b"none"
            assert (await wire.response())[2] == expected


async def test_certificate_of_another_authority_is_refused(pki: Pki, connect: Connect) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the refusal comes within the handshake
    context.load_cert_chain(pki.ca, pki.ca.with_suffix(".key"))
    tls = pki.server()
    async with serving(whose_certificate, type(tls)(tls.cert_file, tls.key_file, pki.client_cert)) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await connect(server, context)


async def test_standard_library_client_over_tls(pki: Pki) -> None:
    def talk(host: str, port: int) -> list[int]:
        connection = http.client.HTTPSConnection(host, port, context=pki.client_context(), timeout=PATIENCE)
        sizes = []
        for size in (0, 10, 5_000_000):
            connection.request("POST", f"/{size}", body=b"x" * 1000)
            sizes.append(len(connection.getresponse().read()))
        connection.close()
        return sizes

    def handler(request: Request) -> Response:
        return Response(200, (), b"y" * int(request.path[1:]))

    async with serving(handler, pki.server()) as server:
        assert await asyncio.to_thread(talk, *server.addresses[0]) == [0, 10, 5_000_000]


async def test_big_body_arrives_whole_over_tls(pki: Pki, connect: Connect) -> None:
    body = bytes(range(256)) * 8192
    async with serving(lambda request: Response(200, (), request.body[::-1]), pki.server()) as server:
        wire = await connect(server, pki.client_context())
        wire.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert (await wire.response())[2] == body[::-1]


async def test_raw_stream_over_tls_passes_much_both_ways(pki: Pki, connect: Connect) -> None:
    async def run(raw: RawConnection) -> None:
        while data := await raw.read():
            raw.write(data)
            await raw.drain()
        raw.close()

    upgrade = UpgradeResponse(run, (("Connection", "Upgrade"), ("Upgrade", "echo")))
    async with serving(lambda _: upgrade, pki.server()) as server:
        wire = await connect(server, pki.client_context())
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        assert (await wire.head())[0] == 101
        sent = bytes(range(256)) * 16384
        wire.send(sent)
        assert await wire.exactly(len(sent)) == sent


async def test_slow_reader_over_tls_gets_everything(pki: Pki) -> None:
    """Writes that the socket refuses half-way go on where they stopped."""
    body = bytes(range(251)) * 80_000
    answered = threading.Event()

    def read_slowly(address: tuple[str, int]) -> bytes:
        raw = socket.create_connection(address, PATIENCE)
        with pki.client_context().wrap_socket(raw, server_hostname="localhost") as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answered.wait(PATIENCE)
            parts = []
            while part := sock.recv(30_000):
                parts.append(part)
        return b"".join(parts)

    def handler(_: Request) -> Response:
        asyncio.get_running_loop().call_soon(answered.set)
        return Response(200, (), body)

    async with serving(handler, pki.server()) as server:
        received = await asyncio.to_thread(read_slowly, server.addresses[0])
        assert received.partition(b"\r\n\r\n")[2] == body


async def test_silent_handshake_and_idle_connections_are_closed(
    pki: Pki, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinnace.wire.server.SWEEP_SECONDS", 0.05)
    async with serving(lambda _: Response(), pki.server()) as server:
        idle = await connect(server, pki.client_context())
        dripping = await connect(server, pki.client_context())
        dripping.send(b"GET / HTTP/1.1\r\nHo")
        server._settings = Settings(idle_seconds=0.1, request_seconds=0.1)
        monkeypatch.setattr("pinnace.wire.server.HANDSHAKE_SECONDS", 0.05)
        silent = await connect(server)
        for wire in (silent, idle, dripping):
            assert await wire.rest() == b""
        assert server.connections == 0


async def test_close_lets_answers_finish_and_ends_idle_connections(connect: Connect) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def handler(_: Request) -> Response:
        asked.set()
        await release.wait()
        return Response(200, (), b"done")

    async with serving(handler) as server:
        idle, busy = await connect(server), await connect(server)
        busy.send(GET % b"/")
        await asyncio.wait_for(asked.wait(), PATIENCE)
        closing = asyncio.ensure_future(server.close(PATIENCE))
        assert await idle.rest() == b""
        with pytest.raises(OSError):
            await connect(server)
        release.set()
        _, headers, body = await busy.response()
        assert (headers["connection"], body, await busy.rest()) == ("close", b"done", b"")
        await asyncio.wait_for(closing, PATIENCE)


async def test_close_aborts_what_does_not_end(connect: Connect) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def run(_: Writer) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(lambda _: StreamingResponse(run)) as server:
        wire = await connect(server)
        wire.send(GET % b"/")
        await asyncio.wait_for(started.wait(), PATIENCE)
        await server.close(0.05)
        await asyncio.wait_for(ended.wait(), PATIENCE)
        assert server.connections == 0


async def test_port_in_use_is_an_error_and_leaves_nothing_open() -> None:
    async with serving(lambda _: Response()) as server:
        before = len(asyncio.all_tasks())
        with pytest.raises(OSError):
            await serve(lambda _: Response(), [("127.0.0.1", 0), server.addresses[0]])
        assert len(asyncio.all_tasks()) == before


async def test_unix_socket_has_no_address(tmp_path: object) -> None:
    path = f"{tmp_path}/s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    server = await serve(lambda request: Response(200, (), request.peer.address.encode()), sockets=[listener])
    try:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), PATIENCE)).endswith(b"Content-Length: 0\r\n\r\n")
        writer.close()
    finally:
        await server.close(0)


async def test_connections_beyond_the_limit_are_closed_at_once(connect: Connect) -> None:
    async with serving(lambda _: Response(), settings=Settings(connections=2)) as server:
        first, second = await connect(server), await connect(server)
        for wire in (first, second):
            wire.send(GET % b"/")
            assert (await wire.response())[0] == 200
        assert await (await connect(server)).rest() == b""
        first.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await first.rest()
        third = await connect(server)
        third.send(GET % b"/")
        assert (await third.response())[0] == 200


async def test_peer_that_asks_and_does_not_read_is_not_heard_until_it_does(
    pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits to be sent is bounded, also where requests are many and small and answers large."""
    monkeypatch.setattr("pinnace.wire.transport.CHOKE_BYTES", 1 << 20)
    answered, asked, size = 0, 300, 1_000_000
    body = bytes(size)

    def handler(_: Request) -> Response:
        nonlocal answered
        answered += 1
        return Response(200, (), body)

    def ask(address: tuple[str, int]) -> ssl.SSLSocket:
        raw = socket.create_connection(address, PATIENCE)
        sock = pki.client_context().wrap_socket(raw, server_hostname="localhost")
        for _ in range(asked):
            sock.sendall(GET % b"/")  # a record each
        return sock

    def read(sock: ssl.SSLSocket) -> int:
        received = 0
        with sock:
            while received < asked * size:
                received += len(sock.recv(1 << 20))
        return received

    async with serving(handler, pki.server()) as server:
        sock = await asyncio.to_thread(ask, server.addresses[0])
        await asyncio.sleep(0)
        waiting = max(transport.buffered for transport in server._connections)
        assert waiting < 4 * size
        assert answered < asked // 2
        assert await asyncio.to_thread(read, sock) >= asked * size
        assert answered == asked
