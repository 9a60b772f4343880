"""Requests passed on to another server: answers, streams, errors and upgraded connections come back as they were."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

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
from pinnace.wire.proxy import BackendError, http_proxy, upgrade_proxy
from pinnace.wire.server import Server
from tests.wire.conftest import PATIENCE, Connect, Pki, serving


async def show(request: Request) -> Response:
    seen = {"method": request.method, "path": request.raw_path, "query": request.query, **request.headers}
    seen["body"] = request.body.decode()
    return Response(418, (("X-Backend", "yes"), ("Connection", "X-Hop"), ("X-Hop", "1")), json.dumps(seen).encode())


async def count(writer: Writer) -> None:
    for number in range(3):
        writer.write(b"line %d\n" % number)


async def shout(raw: RawConnection) -> None:
    raw.write(b"ready ")
    while data := await raw.read():
        raw.write(data.upper())
        await raw.drain()
    raw.close()


def backend_handler(request: Request) -> AnyResponse | asyncio.Future[AnyResponse]:
    if request.path == "/stream":
        return StreamingResponse(count, 200, (("Content-Type", "text/plain"),))
    if request.path == "/shout":
        return UpgradeResponse(shout, (("Connection", "Upgrade"), ("Upgrade", "shout")))
    if request.path == "/big":
        return Response(200, (), b"z" * 3_000_000)
    return asyncio.ensure_future(show(request))  # type: ignore[arg-type]


def proxy_to(backend: Server, pki: Pki):  # type: ignore[no-untyped-def]
    base = f"https://localhost:{backend.addresses[0][1]}"
    context = pki.client_context(with_certificate=True)

    async def handler(request: Request) -> AnyResponse:
        url = base + request.raw_path + (f"?{request.query}" if request.query else "")
        if "upgrade" in request.headers:
            return await upgrade_proxy(request, url, context)
        return await http_proxy(request, url, context, (("X-Added", "1"),))

    return handler


async def test_request_and_answer_pass_without_credentials_and_hop_headers(pki: Pki, connect: Connect) -> None:
    async with serving(backend_handler, pki.server()) as backend, serving(proxy_to(backend, pki)) as front:
        wire = await connect(front)
        wire.send(
            b"POST /a%2Fb?q=1 HTTP/1.1\r\nHost: front\r\nAuthorization: Bearer x\r\nX-Kept: k\r\n"
            b"X-Gone: g\r\nImpersonate-Extra-A: x\r\n"
            b"Connection: keep-alive, X-Gone\r\nX-Forwarded-For: 1.2.3.4\r\nContent-Length: 2\r\n\r\nhi"
        )
        status, headers, body = await wire.response()
        assert (status, headers["x-backend"]) == (418, "yes")
        assert json.loads(body) == {
            "method": "POST", "path": "/a%2Fb", "query": "q=1", "body": "hi", "x-kept": "k", "x-added": "1",
            "host": f"localhost:{backend.addresses[0][1]}", "x-forwarded-for": "1.2.3.4, 127.0.0.1",
            "connection": "close", "content-length": "2",
        }  # fmt: skip


@pytest.mark.parametrize(("path", "body"), [(b"/stream", b"line 0\nline 1\nline 2\n"), (b"/big", b"z" * 3_000_000)])
async def test_streams_are_passed_on(pki: Pki, connect: Connect, path: bytes, body: bytes) -> None:
    async with serving(backend_handler, pki.server()) as backend, serving(proxy_to(backend, pki)) as front:
        wire = await connect(front)
        wire.send(b"GET " + path + b" HTTP/1.1\r\nHost: a\r\n\r\n")
        assert (await wire.response())[2] == body


async def test_upgraded_connection_is_copied_both_ways(pki: Pki, connect: Connect) -> None:
    async with serving(backend_handler, pki.server()) as backend, serving(proxy_to(backend, pki)) as front:
        wire = await connect(front)
        wire.send(b"GET /shout HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nearly ")
        status, headers = await wire.head()
        assert (status, headers["upgrade"]) == (101, "shout")
        assert sorted((await wire.exactly(12)).split()) == [b"EARLY", b"ready"]
        wire.send(b"x" * 500_000)
        assert await wire.exactly(500_000) == b"X" * 500_000
        wire.writer.write_eof()
        assert await wire.rest() == b""


async def test_refused_upgrade_passes_as_it_came(pki: Pki, connect: Connect) -> None:
    async with serving(backend_handler, pki.server()) as backend, serving(proxy_to(backend, pki)) as front:
        wire = await connect(front)
        wire.send(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\n")
        status, headers, body = await wire.response()
        assert (status, headers["x-backend"], json.loads(body)["upgrade"]) == (418, "yes", "shout")


async def test_no_backend_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        words = f"dial tcp 127.0.0.1:{port}: connect: connection refused"
        with pytest.raises(BackendError, match=f"^{words}$"):
            await http_proxy(_request(), f"http://127.0.0.1:{port}/")
        with pytest.raises(BackendError, match=f"^error dialing backend: {words}$"):
            await upgrade_proxy(_request(), f"http://127.0.0.1:{port}/")


def _request() -> Request:
    return Request("GET", "/", "", {}, b"", Peer("127.0.0.1"))


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"])
async def test_backend_that_breaks_off_is_an_error(answer: bytes) -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BackendError):
            await asyncio.wait_for(http_proxy(_request(), f"http://127.0.0.1:{port}/"), PATIENCE)
    finally:
        server.close()


async def test_backend_with_a_certificate_of_another_is_an_error(pki: Pki) -> None:
    async with serving(backend_handler, pki.server()) as backend:
        url = f"https://localhost:{backend.addresses[0][1]}/"
        context = pki.client_context(with_certificate=True)
        with pytest.raises(BackendError, match=r"^dial tcp localhost:\d+: .*other\.example"):
            await http_proxy(_request(), url, context, server_name="other.example")


async def test_body_that_nobody_takes_is_not_read_to_its_end() -> None:
    size, sent = 64 << 20, 0
    stopped = asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(b"x" * 65536)
            sent += 65536
            try:
                await asyncio.wait_for(writer.drain(), 0.5)
            except TimeoutError:
                stopped.set()
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with asyncio.timeout(PATIENCE):
        response = await http_proxy(_request(), f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        assert isinstance(response, StreamingResponse)
        await stopped.wait()
        taker = Taker()
        await response.run(taker)

    assert taker.taken == size
    server.close()


class Taker:
    """A writer that counts."""

    closed = False
    taken = 0

    def write(self, data: bytes) -> None:
        self.taken += len(data)

    def write_framed(self, chunk: bytes) -> None:
        raise AssertionError(chunk)

    async def drain(self) -> None:
        await asyncio.sleep(0)

    def on_close(self, callback: object) -> None:
        pass
