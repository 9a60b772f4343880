"""What a gRPC health service answers, and what is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest

from pinnace.kubelet.probes import grpc_health
from pinnace.kubelet.probes.grpc_health import check_grpc, serving_state, verdict

HEALTH = "grpc.health.v1.Health"
FAILED = "error: health rpc probe failed: rpc error: code = "
HTTP = "unexpected HTTP status code received from server"


@pytest.fixture
async def limit(monkeypatch):
    """The time that a probe has, which is over when the test says so."""
    limit = asyncio.timeout(None)
    monkeypatch.setattr(asyncio, "timeout", lambda _: limit)
    monkeypatch.setattr(grpc_health, "_RETRY", 0.01)
    return lambda: limit.reschedule(asyncio.get_running_loop().time())


@pytest.mark.parametrize(
    ("message", "state"), [(b"\0\0\0\0\2\x08\x01", 1), (b"\0\0\0\0\2\x08\x02", 2), (b"\0\0\0\0\0", 0), (b"", 0)]
)
def test_grpc_answer(message, state):
    assert serving_state(message) == state


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"grpc-status": "5", "grpc-message": "unknown%20service"}, f"{FAILED}NotFound desc = unknown service"),
        (
            {"grpc-status": "12", "grpc-message": "unknown service"},
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): unknown service",
        ),
        ({"grpc-status": "4"}, "timeout: health rpc did not complete within 2s"),
        (
            {":status": "503"},
            f"{FAILED}Unavailable desc = {HTTP}: 503 (Service Unavailable); transport: missing content-type field",
        ),
        ({"grpc-status": "0"}, 'service unhealthy (responded with "UNKNOWN")'),
    ],
)
def test_what_is_told_of_an_answer(fields, words):
    assert verdict(fields, b"", 2.0) == ("failure", words)


@asynccontextmanager
async def serving(answer: Callable[[grpc.aio.ServicerContext, bytes], bytes] | None) -> AsyncIterator[int]:
    """The port of a server of gRPC, with a service of health where there is an answer."""
    server = grpc.aio.server()

    async def check(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        return await answer(context, request)

    if answer is not None:
        handler = grpc.unary_unary_rpc_method_handler(check)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(HEALTH, {"Check": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


async def test_servers_of_grpc_are_understood():
    async def answer(context, request):
        if request == b"\x0a\x04gone":
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return b"\x08\x01"

    async with serving(answer) as port:
        assert await check_grpc("127.0.0.1", port, "", 30) == ("success", "service healthy")
        why = f"{FAILED}NotFound desc = unknown service"
        assert await check_grpc("127.0.0.1", port, "gone", 30) == ("failure", why)
    async with serving(None) as port:
        found = await check_grpc("127.0.0.1", port, "", 30)
        assert found.output.startswith("error: this server does not implement the grpc health protocol (grpc.health.v1")


async def test_a_server_that_answers_late(limit):
    async def answer(_context, _request):
        limit()
        await asyncio.get_running_loop().create_future()

    async with serving(answer) as port:
        found = await check_grpc("127.0.0.1", port, "", 1.5)
    assert found.output == "timeout: health rpc did not complete within 1.5s"


async def test_who_refuses_is_asked_until_the_time_is_over(limit, monkeypatch):
    asked = []

    async def refuse(host, port):
        asked.append(port)
        if len(asked) > 1:
            limit()
        raise ConnectionRefusedError

    monkeypatch.setattr(asyncio, "open_connection", refuse)
    found = await check_grpc("127.0.0.1", 1, "", 0.5)
    words = 'timeout: failed to connect service "127.0.0.1:1" within 500ms: context deadline exceeded'
    assert found == ("failure", words)


async def test_who_does_not_speak_http2_is_not_connected_to(limit):
    async def answer(_reader, writer):
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        limit()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await check_grpc("127.0.0.1", port, "", 0.5)
    assert found.output.startswith("timeout: failed to connect service")
