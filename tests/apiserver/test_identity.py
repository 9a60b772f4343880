"""API servers say who they are, and lead clients to each other."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pinnace.apiserver.identity import Addresses, IdentityLease, has_expired, identity_of
from pinnace.apiserver.server import ApiServer
from pinnace.machinery.meta import Obj, format_micro_time
from pinnace.store.contract import Store
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import Cluster, options_for

LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Shared:
    """One store as several servers see it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_shared = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)


async def test_a_server_has_a_lease_of_its_host_and_renews_it(cluster: Cluster) -> None:
    lease = IdentityLease(lambda method, path, body: cluster.request(method, path, body), "some-host")
    await lease.renew()
    first = await cluster.request("GET", f"{LEASES}/{identity_of('some-host')}")
    assert first["metadata"]["labels"] == {
        "apiserver.kubernetes.io/identity": "kube-apiserver",
        "kubernetes.io/hostname": "some-host",
    }
    assert first["spec"]["holderIdentity"].startswith(f"{identity_of('some-host')}_")
    assert first["spec"]["leaseDurationSeconds"] == 3600
    await lease.renew()
    again = await cluster.request("GET", f"{LEASES}/{identity_of('some-host')}")
    assert again["spec"]["renewTime"] > first["spec"]["renewTime"]
    await lease.collect()
    listed = await cluster.request("GET", LEASES, params={"labelSelector": "apiserver.kubernetes.io/identity"})
    assert len(listed["items"]) == 2  # this one, and the server's own


@pytest.mark.parametrize(
    ("component", "age", "expected"),
    [("kube-apiserver", 3599, False), ("kube-apiserver", 3601, True), ("other", 9999, False)],
)
def test_a_lease_of_an_api_server_that_is_not_renewed_expires(component: str, age: int, expected: bool) -> None:
    renewed = format_micro_time(NOW - timedelta(seconds=age))
    lease: Obj = {
        "metadata": {"labels": {"apiserver.kubernetes.io/identity": component}},
        "spec": {"leaseDurationSeconds": 3600, "renewTime": renewed},
    }
    assert has_expired(lease, NOW) is expected


async def test_addresses_of_servers_are_known_until_they_leave_or_fall_silent(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "state.db")
    now = [0.0]
    first, second, third = (Addresses(Shared(store), f"10.0.0.{n}", lambda: now[0]) for n in (1, 2, 3))  # type: ignore[arg-type]
    assert await first.renew() == ["10.0.0.1"]
    await second.renew()
    await third.renew()
    assert await first.renew() == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    assert await second.leave() == ["10.0.0.1", "10.0.0.3"]
    now[0] = 10
    await first.renew()
    now[0] = 20  # the third has not been heard of
    assert await first.renew() == ["10.0.0.1"]
    await store.close()


async def test_the_service_kubernetes_leads_to_every_server_while_it_runs(pki: Path, tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "state.db")
    servers = [
        ApiServer(options_for(pki, advertise_address=f"10.0.0.{n}", advertise_port=6443), Shared(store))  # type: ignore[arg-type]
        for n in (1, 2)
    ]
    for server in servers:
        await server.start()
    clusters = [Cluster(server, store, pki) for server in servers]

    async def endpoints() -> list[str]:
        found = await clusters[1].request("GET", "/api/v1/namespaces/default/endpoints/kubernetes")
        return [one["ip"] for one in found["subsets"][0]["addresses"]]

    assert await endpoints() == ["10.0.0.1", "10.0.0.2"]
    await servers[0].stop(0.2)
    assert await endpoints() == ["10.0.0.2"]
    await servers[1].stop(0.2)
    await asyncio.sleep(0)
    await store.close()
