"""Who is told at /debug/pprof/ what the API server is doing."""

from __future__ import annotations

from pathlib import Path

from pinnace.apiserver.server import ApiServer
from pinnace.store.contract import Store
from tests.apiserver.conftest import Cluster, options_for

INDEX = "/debug/pprof/"


async def test_it_is_for_whom_rbac_allows(pki: Path, store: Store) -> None:
    server = ApiServer(options_for(pki, authorization_modes=("RBAC",)), store)
    await server.start()
    try:
        cluster = Cluster(server, store, pki)
        assert b"goroutine" in (await cluster.call("GET", INDEX)).body
        assert b"BaseEventLoop.run_forever" in (await cluster.call("GET", f"{INDEX}profile?seconds=0.1")).body
        assert (await cluster.call("GET", f"{INDEX}heap")).status == 404
        assert "/debug/pprof" in (await cluster.call("GET", "/")).json["paths"]
        plain = {"Authorization": "Bearer plain"}
        assert (await cluster.call("GET", INDEX, headers=plain)).status == 403
    finally:
        await server.stop(0.2)


async def test_it_can_be_switched_off(pki: Path, store: Store) -> None:
    server = ApiServer(options_for(pki, profiling=False), store)
    await server.start()
    try:
        cluster = Cluster(server, store, pki)
        assert (await cluster.call("GET", INDEX)).status == 404
        assert "/debug/pprof" not in (await cluster.call("GET", "/")).json["paths"]
    finally:
        await server.stop(0.2)
