"""Connections to webhooks that a kubeconfig names: kept between calls, and closed when no call needs them any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from pinnace.apiserver.webhook_client import CallFailed, KubeconfigWebhook


class Listener:
    """An HTTP server that tells of connections and requests, and answers each request once it may."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[str] = asyncio.Queue()  # "opened", "asked", "closed"
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.told.put_nowait("opened")
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                self.told.put_nowait("asked")
                await self.may_answer.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            self.told.put_nowait("closed")
        finally:
            writer.close()

    async def next(self, count: int) -> list[str]:
        async with asyncio.timeout(60):
            return [await self.told.get() for _ in range(count)]


@pytest.fixture
async def listener() -> AsyncIterator[tuple[Listener, str]]:
    made = Listener()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with server:
        yield made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


def kubeconfig(file: Path, url: str) -> Path:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": {"server": url}}],
        "contexts": [{"name": "here", "context": {"cluster": "it"}}],
        "current-context": "here",
    }
    file.write_text(json.dumps(document))
    return file


@pytest.fixture
def webhook(listener: tuple[Listener, str], tmp_path: Path) -> KubeconfigWebhook:
    return KubeconfigWebhook(kubeconfig(tmp_path / "webhook.conf", listener[1]))


@asynccontextmanager
async def serving(answer: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def test_a_connection_is_kept_between_calls_until_it_is_closed(
    listener: tuple[Listener, str], webhook: KubeconfigWebhook
) -> None:
    await webhook.post(b"{}")
    await webhook.post(b"{}")
    await webhook.close()

    assert await listener[0].next(4) == ["opened", "asked", "asked", "closed"]


async def test_a_call_under_way_is_answered_before_its_connection_is_closed(
    listener: tuple[Listener, str], webhook: KubeconfigWebhook
) -> None:
    listener[0].may_answer.clear()
    call = asyncio.create_task(webhook.post(b"{}"))
    assert await listener[0].next(2) == ["opened", "asked"]

    await webhook.close()
    listener[0].may_answer.set()

    assert await call == b"{}"
    assert await listener[0].next(1) == ["closed"]


async def test_a_call_that_comes_after_the_end_is_answered_and_leaves_no_connection(
    listener: tuple[Listener, str], webhook: KubeconfigWebhook
) -> None:
    await webhook.close()

    assert await webhook.post(b"{}") == b"{}"
    assert await listener[0].next(3) == ["opened", "asked", "closed"]


RETRY_AFTER = (("Retry-After", "1"),)


@pytest.mark.parametrize(
    ("status", "headers", "insists", "calls"),
    [
        (200, (), False, 1),
        (500, (), False, 5),
        (504, (), False, 5),
        (429, (), False, 5),
        (503, (), False, 1),
        (503, RETRY_AFTER, False, 5),
        (403, (), False, 1),
        (403, (), True, 5),
    ],
)
async def test_a_webhook_is_asked_again_where_that_may_help(
    status: int, headers: tuple[tuple[str, str], ...], insists: bool, calls: int, tmp_path: Path
) -> None:
    asked = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return web.Response(status=status, headers=dict(headers))

    async with serving(answer) as url:
        webhook = KubeconfigWebhook(kubeconfig(tmp_path / "webhook.conf", url))
        try:
            await webhook.ask(b"{}", 0.0, insists=insists)
        except CallFailed:
            assert status != 200
        await webhook.close()

    assert asked == calls


async def test_a_webhook_that_nobody_listens_for_is_not_asked_again(tmp_path: Path) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response()

    async with serving(answer) as url:
        webhook = KubeconfigWebhook(kubeconfig(tmp_path / "webhook.conf", url))

    with pytest.raises(CallFailed) as caught:
        await webhook.ask(b"{}", 0.0)

    assert not caught.value.passing
    await webhook.close()
