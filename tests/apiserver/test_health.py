"""What the API server says of its own health, and how it ends."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pinnace.apiserver import health
from pinnace.apiserver.server import ApiServer
from pinnace.store.contract import Store
from tests.apiserver.conftest import Cluster, options_for


def test_while_it_starts_a_server_lives_for_as_long_as_the_grace_period_but_is_not_ready() -> None:
    now = [0.0]
    hooks = health.Hooks(lambda: now[0], 30)
    hooks.expect(policy=True, flows=False)
    assert "poststarthook/priority-and-fairness-config-producer" not in hooks.checks(patient=False)

    def failing(*, patient: bool) -> set[str]:
        return {name for name, check in hooks.checks(patient=patient).items() if check()}

    assert "poststarthook/rbac/bootstrap-roles" in failing(patient=False)
    assert not failing(patient=True)
    now[0] = 30
    hooks.done((*health.CACHES, *health.OBJECTS, *health.IDENTITY, *health.POLICY))
    assert "autoregister-completion" in failing(patient=True)
    hooks.done(health.AGGREGATION)
    assert not failing(patient=False)


async def test_every_check_passes_once_the_server_has_started(cluster: Cluster) -> None:
    for endpoint, last in (("livez", "autoregister-completion"), ("readyz", "shutdown")):
        answer = await cluster.call("GET", f"/{endpoint}?verbose")
        lines = answer.body.decode().splitlines()
        assert lines[0] == "[+]ping ok"
        assert lines[-2:] == [f"[+]{last} ok", f"{endpoint} check passed"]
        assert "[+]poststarthook/start-kube-aggregator-informers ok" in lines
        assert ("[+]informer-sync ok" in lines) == (endpoint == "readyz")


async def test_a_server_that_ends_serves_on_for_a_while_but_is_not_ready(
    pki: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep, asked, over = asyncio.sleep, asyncio.Event(), asyncio.Event()

    async def pause(seconds: float) -> None:
        if seconds == 70.0:
            asked.set()
            await over.wait()
        else:
            await sleep(seconds)

    monkeypatch.setattr(asyncio, "sleep", pause)
    server = ApiServer(options_for(pki, shutdown_delay=70.0), store)
    await server.start()
    cluster = Cluster(server, store, pki)
    watch = await cluster.watch("/api/v1/namespaces?watch=true&resourceVersion=0")
    await watch.next()
    ending = asyncio.create_task(server.stop(0.2))
    await asked.wait()
    answer = await cluster.call("GET", "/readyz")
    assert (answer.status, b"[-]shutdown failed: reason withheld" in answer.body) == (500, True)
    assert (await cluster.call("GET", "/livez")).status == 200
    assert (await cluster.call("GET", "/api/v1/namespaces/default")).status == 200
    over.set()
    while await watch.next() is not None:  # it ends as a complete body does
        pass
    await ending
    with pytest.raises(ConnectionRefusedError):
        await cluster.call("GET", "/livez")
