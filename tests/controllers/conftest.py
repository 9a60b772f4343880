"""The real API server in this process, and its administrator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pinnace.apiserver.options import Options as ServerOptions
from pinnace.apiserver.server import ApiServer
from pinnace.client.client import Client
from pinnace.client.transport import LoopbackTransport
from pinnace.store.sqlite import SqliteStore

TOKEN = "secret"


@pytest_asyncio.fixture
async def server(tmp_path: Path) -> AsyncIterator[ApiServer]:
    store = SqliteStore.open(tmp_path / "state.db")
    tokens = tmp_path / "tokens.csv"
    tokens.write_text(f'{TOKEN},admin,1,"system:masters"')
    options = ServerOptions(bind=[("127.0.0.1", 0)], advertise_address="192.0.2.1", token_auth_file=tokens)
    server = ApiServer(options, store)
    await server.start()
    yield server
    await server.stop()
    await store.close()


@pytest.fixture
def client(server: ApiServer) -> Client:
    """The administrator."""
    return Client(LoopbackTransport(server, "system:apiserver"))
