"""Requests and watches over real sockets: what the server says arrives, what it fails to say becomes an ApiError."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pinnace.apis.resources import PODS
from pinnace.client.client import Client
from pinnace.client.https import HttpsTransport
from pinnace.client.kubeconfig import Connection
from pinnace.machinery.errors import ApiError, not_found

Handle = Callable[[web.Request], Any]


@asynccontextmanager
async def served(handle: Handle, **connection: Any) -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    transport = HttpsTransport(Connection(server=f"http://{host}:{port}", **connection))
    try:
        yield Client(transport)
    finally:
        await transport.close()
        await runner.cleanup()


async def test_a_request_carries_path_query_body_and_type() -> None:
    async def handle(request: web.Request) -> web.Response:
        seen = {
            "method": request.method,
            "path": request.path,
            "query": dict(request.query),
            "type": request.content_type,
            "body": await request.json(),
        }
        return web.json_response(seen)

    async with served(handle) as client:
        seen = await client.patch(PODS, "web", {"metadata": {"labels": {"a": "ä"}}}, "shop", params={"force": "true"})
    assert seen == {
        "method": "PATCH",
        "path": "/api/v1/namespaces/shop/pods/web",
        "query": {"force": "true"},
        "type": "application/merge-patch+json",
        "body": {"metadata": {"labels": {"a": "ä"}}},
    }


async def test_a_status_becomes_the_error_it_was() -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.json_response(not_found("pods", "web").to_status(), status=404)

    async with served(handle) as client:
        with pytest.raises(ApiError, match='pods "web" not found') as caught:
            await client.get(PODS, "web", "shop")
    assert caught.value.is_not_found
    assert caught.value.details == {"name": "web", "kind": "pods"}


async def test_an_answer_of_some_proxy_becomes_an_error_too() -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(text="upstream is away", status=503)

    async with served(handle) as client:
        with pytest.raises(ApiError, match="upstream is away") as caught:
            await client.get(PODS, "web", "shop")
    assert (caught.value.code, caught.value.reason) == (503, "ServiceUnavailable")


async def test_a_server_that_is_away_is_unavailable() -> None:
    client = Client(HttpsTransport(Connection(server="http://127.0.0.1:1")))
    for call in (client.get(PODS, "web", "shop"), anext(aiter(client.watch(PODS)))):
        with pytest.raises(ApiError) as caught:
            await call
        assert (caught.value.code, caught.value.reason) == (503, "ServiceUnavailable")
    await client.transport.close()


async def test_a_token_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.json_response({"said": request.headers["Authorization"]})

    token = tmp_path / "token"
    token.write_text("first\n")
    async with served(handle, token_file=token) as client:
        assert await client.get(PODS, "web") == {"said": "Bearer first"}
        renewed = tmp_path / "renewed"
        renewed.write_text("second")
        renewed.replace(token)
        assert await client.get(PODS, "web") == {"said": "Bearer second"}
        token.unlink()
        assert await client.get(PODS, "web") == {"said": "Bearer second"}


def event(name: str, size: int = 0) -> dict[str, Any]:
    return {"type": "ADDED", "object": {"metadata": {"name": name, "resourceVersion": "1"}, "data": "x" * size}}


async def test_a_watch_yields_lines_however_they_are_cut() -> None:
    events = [event("a"), event("big", 1_000_000), event("b")]
    text = b"".join(json.dumps(one).encode() + b"\n" for one in events)

    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.query["watch"] == "true"
        assert request.query["allowWatchBookmarks"] == "true"
        response = web.StreamResponse()
        await response.prepare(request)
        for start in range(0, len(text), 70_001):
            await response.write(text[start : start + 70_001])
        await response.write(b'{"type": "ADDED", "object": {"cut off')
        return response

    async with served(handle) as client:
        assert [one async for one in client.watch(PODS)] == events


async def test_an_error_event_raises() -> None:
    async def handle(request: web.Request) -> web.Response:
        status = ApiError(410, "Expired", "too old resource version: 1 (7)").to_status()
        return web.Response(text=json.dumps({"type": "ERROR", "object": status}) + "\n")

    async with served(handle) as client:
        with pytest.raises(ApiError) as caught:
            await anext(aiter(client.watch(PODS, resource_version="1")))
    assert caught.value.is_expired


async def test_a_watch_that_breaks_is_unavailable() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(json.dumps(event("a")).encode() + b"\n")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with served(handle) as client:
        watch = aiter(client.watch(PODS))
        assert await anext(watch) == event("a")
        with pytest.raises(ApiError) as caught:
            await anext(watch)
        assert caught.value.reason == "ServiceUnavailable"


async def test_a_slow_reader_holds_the_server_back() -> None:
    line = json.dumps(event("a", 100_000)).encode() + b"\n"
    sent = 0
    held_back = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            try:
                async with asyncio.timeout(0.3):
                    await response.write(line)
            except TimeoutError:
                held_back.set()
                break
            sent += 1
        return response

    async with served(handle) as client:
        watch = client.watch(PODS)
        assert await anext(aiter(watch)) == event("a", 100_000)
        async with asyncio.timeout(30):
            await held_back.wait()
    assert sent < 1000
