"""A server that ends: what is at work is finished, what comes is told to come again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pinnace.apiserver.draining import Draining
from pinnace.apiserver.server import ApiServer
from pinnace.store.contract import Store
from pinnace.wire.http import AnyResponse, Peer, Request, Response
from tests.apiserver.conftest import Cluster, options_for


def request(path: str) -> Request:
    return Request("GET", path, "", {}, b"", Peer(""))


async def test_what_is_at_work_is_finished_and_what_comes_is_refused() -> None:
    release = asyncio.Event()

    async def later() -> AnyResponse:
        await release.wait()
        return Response(200)

    draining = Draining(lambda asked: later() if asked.path == "/slow" else Response(200))
    slow = draining.handle(request("/slow"))
    assert not isinstance(slow, AnyResponse)
    answering = asyncio.ensure_future(slow)
    await asyncio.sleep(0)  # it is at work

    ending = asyncio.create_task(draining.drain(30))
    await asyncio.sleep(0)
    refused = draining.handle(request("/api/v1/pods"))
    assert isinstance(refused, Response)
    assert (refused.status, refused.closes, dict(refused.headers)["Retry-After"]) == (429, True, "5")
    assert refused.body == b"The apiserver is shutting down, please try again later.\n"
    live = draining.handle(request("/livez"))
    assert isinstance(live, Response)
    assert live.status == 200
    assert not ending.done()

    release.set()
    assert (await answering).status == 200
    await ending


async def test_a_request_that_takes_too_long_holds_up_nobody() -> None:
    async def forever() -> AnyResponse:
        await asyncio.Event().wait()
        raise AssertionError

    draining = Draining(lambda _: forever())
    slow = draining.handle(request("/slow"))
    assert not isinstance(slow, AnyResponse)
    task = asyncio.ensure_future(slow)
    await asyncio.sleep(0)
    await draining.drain(0.01)
    task.cancel()


async def test_connections_end_with_the_refusal(pki: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ApiServer(options_for(pki, shutdown_send_retry_after=True), store)
    await server.start()
    try:
        cluster = Cluster(server, store, pki)
        assert (await cluster.call("GET", "/api/v1/namespaces/default")).status == 200
        assert server._draining is not None
        await server._draining.drain(1)
        answer = await cluster.call("GET", "/api/v1/namespaces/default", headers={"Connection": "keep-alive"})
        assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (429, "5", "close")
    finally:
        await server.stop(0.2)
