"""Connections to webhooks that a kubeconfig names: kept between calls, and closed when no call needs them any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pinnace.apiserver.webhook_client import KubeconfigWebhook


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
        async with asyncio.timeout(30):
            return [await self.told.get() for _ in range(count)]


@pytest.fixture
async def listener() -> AsyncIterator[tuple[Listener, str]]:
    made = Listener()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    async with server:
        yield made, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.fixture
def webhook(listener: tuple[Listener, str], tmp_path: Path) -> KubeconfigWebhook:
    file = tmp_path / "webhook.conf"
    file.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "it", "cluster": {"server": listener[1]}}],
                "contexts": [{"name": "here", "context": {"cluster": "it"}}],
                "current-context": "here",
            }
        )
    )
    return KubeconfigWebhook(file)


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
