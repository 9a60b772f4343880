"""What browsers are told: `--cors-allowed-origins` as kube-apiserver has it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pinnace.apiserver.cors import check_pattern
from pinnace.apiserver.server import ApiServer
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import Cluster, options_for

ORIGIN = "https://www.example.com"


@pytest.fixture
async def server(pki: Path, tmp_path: Path) -> AsyncIterator[Cluster]:
    store = SqliteStore.open(tmp_path / "state.db")
    server = ApiServer(options_for(pki, cors_allowed_origins=(r"//www\.example\.com$", r"^http://localhost:")), store)
    try:
        await server.start()
        yield Cluster(server, store, pki)
    finally:
        await server.stop(0.2)
        await store.close()


async def test_preflight_of_an_allowed_origin_needs_no_credentials(server: Cluster) -> None:
    headers = {"Origin": ORIGIN, "Authorization": "", "Access-Control-Request-Method": "PUT"}
    answer = await server.call("OPTIONS", "/api/v1/pods", headers=headers)
    assert answer.status == 204
    found = {name: value for name, value in answer.headers.items() if name.startswith("access-control")}
    assert found == {
        "access-control-allow-origin": ORIGIN,
        "access-control-allow-methods": "POST, GET, OPTIONS, PUT, DELETE, PATCH",
        "access-control-allow-headers": "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, "
        "X-Requested-With, If-Modified-Since",
        "access-control-expose-headers": "Date",
        "access-control-allow-credentials": "true",
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/api/v1/pods", 200), ("GET", "/api/v1/nothing", 404), ("GET", "/version", 200),
     ("GET", "/api/v1/pods?watch=1&timeoutSeconds=1", 200), ("DELETE", "/api/v1/namespaces/none", 404)],
)  # fmt: skip
async def test_every_answer_to_an_allowed_origin_says_so(server: Cluster, method: str, path: str, status: int) -> None:
    answer = await server.call(method, path, headers={"Origin": "http://localhost:8080"})
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (status, "http://localhost:8080")


@pytest.mark.parametrize("origin", ["https://www.example.com.evil", "https://example.com", "", "null"])
async def test_other_origins_are_told_nothing(server: Cluster, origin: str) -> None:
    answer = await server.call("GET", "/version", headers={"Origin": origin})
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (await server.call("OPTIONS", "/version", headers={"Origin": origin})).status != 204


async def test_without_the_option_no_origin_is_told_anything(cluster: Cluster) -> None:
    answer = await cluster.call("GET", "/version", headers={"Origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("pattern", "fine"),
    [(r"^https://a\.b$", True), (r"//a\.b(:|$)", True), (r"//a:", True), ("[", False), (r"a\.b$", False),
     (r"//a\.b", False), (".*", False)],
)  # fmt: skip
def test_patterns_must_pin_both_ends_of_the_host(pattern: str, fine: bool) -> None:
    assert (check_pattern(pattern) == "") == fine
