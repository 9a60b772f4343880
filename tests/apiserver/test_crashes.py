"""kill -9 of an API server in the middle of thousands of writes: what was acknowledged is there, revisions only grow.

PINNACE_CRASHES says how often, 10 times when it is not set.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apiserver.conftest import config_map
from tests.apiserver.server_process import Connection, ServerProcess
from tests.store.etcd_server import EtcdServer

CRASHES = int(os.environ.get("PINNACE_CRASHES", "10"))
WRITES = 2000
CONNECTIONS = 64
MAPS = "/api/v1/namespaces/default/configmaps"
MERGE = "application/merge-patch+json"


@pytest.fixture(params=["sqlite", "etcd"])
def server(request: pytest.FixtureRequest, tmp_path: Path, pki: Path) -> Iterator[ServerProcess]:
    etcd = EtcdServer(tmp_path / "etcd") if request.param == "etcd" else None
    if etcd is not None:
        etcd.start()
    process = ServerProcess(tmp_path, pki, etcd.endpoint if etcd else f"sqlite://{tmp_path}/state.db")
    process.start()
    yield process
    process.kill()
    if etcd is not None:
        etcd.kill()


class Ledger:
    """What the server has said to have done, and what it was asked and did not answer."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, tuple[str, int] | None] = {}  # name -> (content, revision); None: deleted
        self.asked: dict[str, str | None] = {}  # name -> the content asked for; None: deletion
        self.revisions: list[int] = []

    async def write(self, connection: Connection, name: str) -> None:
        """Make an object, change every second, delete every fourth."""
        await self._ask(connection, "POST", name, "1", 201)
        if hash(name) % 2:
            await self._ask(connection, "PATCH", name, "2", 200)
        if hash(name) % 4 == 3:
            await self._ask(connection, "DELETE", name, None, 200)

    async def _ask(self, connection: Connection, method: str, name: str, content: str | None, expected: int) -> None:
        self.asked[name] = content
        if method == "POST":
            path, body = MAPS, config_map(name, is_=content or "")
        else:
            path, body = f"{MAPS}/{name}", {"data": {"is_": content}} if method == "PATCH" else None
        status, answer = await connection.call(method, path, body, MERGE if method == "PATCH" else "application/json")
        assert status == expected, answer
        del self.asked[name]
        if content is None:
            self.acknowledged[name] = None
        else:
            revision = int(answer["metadata"]["resourceVersion"])
            self.acknowledged[name] = (content, revision)
            self.revisions.append(revision)

    def check(self, found: dict[str, tuple[str, int]], revision: int) -> None:
        """Raise AssertionError unless what is found is what was acknowledged, or what was asked on top of it."""
        for name in self.acknowledged.keys() | self.asked.keys() | found.keys():
            there = found.get(name)
            if name in self.asked and (there[0] if there else None) == self.asked[name]:
                continue
            assert there == self.acknowledged.get(name), name
        assert revision >= max(self.revisions)
        assert len(set(self.revisions)) == len(self.revisions)
        self.acknowledged = dict(found)
        self.asked.clear()


async def write_until_killed(server: ServerProcess, ledger: Ledger, names: Iterator[str], limit: int) -> None:
    """Write over many connections at once; kill the server when it has acknowledged `limit` writes."""
    enough = asyncio.Event()
    begun = len(ledger.revisions)

    async def worker() -> None:
        try:
            connection = await server.connect()
            for name in names:
                await ledger.write(connection, name)
                if len(ledger.revisions) - begun >= limit:
                    enough.set()
        except (OSError, asyncio.IncompleteReadError):
            pass  # it is dead

    workers = [asyncio.create_task(worker()) for _ in range(CONNECTIONS)]
    await enough.wait()
    server.kill()
    await asyncio.gather(*workers)


async def look(server: ServerProcess) -> tuple[dict[str, tuple[str, int]], int]:
    """Content and revision of every object that was written, and the list's revision."""
    connection = await server.connect()
    status, answer = await connection.call("GET", MAPS)
    assert status == 200
    connection.close()
    found = {
        item["metadata"]["name"]: (item["data"]["is_"], int(item["metadata"]["resourceVersion"]))
        for item in answer["items"]
        if "is_" in item.get("data", {})
    }
    return found, int(answer["metadata"]["resourceVersion"])


async def test_acknowledged_writes_survive_kill_9_of_the_api_server(server: ServerProcess) -> None:
    ledger = Ledger()
    for crash in range(CRASHES):
        names = (f"c{crash}-{number}" for number in range(WRITES))
        before = max(ledger.revisions, default=0)
        await write_until_killed(server, ledger, names, random.randint(1, WRITES - 2 * CONNECTIONS))
        assert min(ledger.revisions[-1:]) > before
        server.start()
        ledger.check(*await look(server))
        await clean_up(server, ledger)


async def clean_up(server: ServerProcess, ledger: Ledger) -> None:
    """Delete everything, so that a round is as quick as the one before."""
    connection = await server.connect()
    assert (await connection.call("DELETE", MAPS))[0] == 200
    connection.close()
    ledger.acknowledged.clear()
