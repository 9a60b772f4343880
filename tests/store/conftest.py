"""Both backends of the store, each test's its own: a SQLite file, or a prefix of a real etcd."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pinnace.store.contract import Store
from pinnace.store.etcd import EtcdStore
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import pki
from tests.store.etcd_server import EtcdServer

__all__ = ["pki"]  # a fixture

_numbers = itertools.count(1)


class Backend:
    """Where one test keeps its state, to be opened as often as it likes."""

    def __init__(self, name: str, directory: Path, etcd: EtcdServer | None) -> None:
        self.name = name
        self._file = directory / "state.db"
        self._etcd = etcd
        self._prefix = f"/test-{next(_numbers)}"

    async def open(self) -> Store:
        if self._etcd is None:
            return SqliteStore.open(self._file)
        return await EtcdStore.open([self._etcd.endpoint], prefix=self._prefix)


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path_factory.mktemp("etcd"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(params=["sqlite", "etcd"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    etcd = request.getfixturevalue("etcd") if request.param == "etcd" else None
    return Backend(request.param, tmp_path, etcd)


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Store]:
    opened = await backend.open()
    yield opened
    await opened.close()
