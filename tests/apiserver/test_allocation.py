"""Cluster IPs and node ports: each belongs to one Service, whichever server gave it out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.apiserver.server import ApiServer
from pinnace.machinery.meta import Obj
from pinnace.store.contract import Store
from pinnace.store.etcd import EtcdStore
from tests.apiserver.conftest import Cluster, options_for
from tests.store.etcd_server import EtcdServer

SERVICES = "/api/v1/namespaces/default/services"
ADDRESSES = "/apis/networking.k8s.io/v1/ipaddresses"
CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"


def service(name: str, *ports: Obj, **spec: Any) -> Obj:
    spec["ports"] = list(ports) or [{"port": 80}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def node_ports(made: Obj) -> list[int]:
    spec = made["spec"]
    found = {port["nodePort"] for port in spec["ports"] if port.get("nodePort")}
    return [*found, *([spec["healthCheckNodePort"]] if spec.get("healthCheckNodePort") else [])]


async def addresses(cluster: Cluster) -> dict[str, str]:
    """Of every IPAddress, whose it is."""
    items = (await cluster.request("GET", ADDRESSES))["items"]
    return {item["metadata"]["name"]: item["spec"]["parentRef"]["name"] for item in items}


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path / "shared-etcd")
    server.start()
    yield server
    server.kill()


class Servers:
    """Servers over one etcd."""

    def __init__(self, etcd: EtcdServer, pki: Path) -> None:
        self._etcd = etcd
        self._pki = pki
        self._running: list[tuple[ApiServer, Store]] = []

    async def start(self, **options: Any) -> Cluster:
        store = await EtcdStore.open([self._etcd.endpoint])
        server = ApiServer(options_for(self._pki, **options), store)
        self._running.append((server, store))
        await server.start()
        return Cluster(server, store, self._pki)

    async def stop(self) -> None:
        for server, store in self._running:
            await server.stop(0.2)
            await store.close()


@pytest.fixture
async def servers(etcd: EtcdServer, pki: Path) -> AsyncIterator[Servers]:
    made = Servers(etcd, pki)
    yield made
    await made.stop()


@pytest.mark.parametrize("minor", [32, None], ids=["1.32", "newest"])
async def test_two_servers_never_give_out_one_address_or_port_twice(servers: Servers, minor: int | None) -> None:
    # Ranges hardly larger than what is wanted: without a common record most of these would collide.
    narrow = {"service_cluster_ip_range": "10.9.0.0/24", "service_node_port_range": (30000, 30460), "minor": minor}
    pair = await asyncio.gather(*(servers.start(**narrow) for _ in range(2)))

    async def create(number: int) -> Obj:
        spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
        return await pair[number % 2].request("POST", SERVICES, service(f"s-{number}", **spec))

    made = await asyncio.gather(*(create(number) for number in range(220)))
    ips = [one["spec"]["clusterIP"] for one in made]
    ports = [port for one in made for port in node_ports(one)]
    assert len(set(ips)) == len(ips) == 220
    assert len(set(ports)) == len(ports) == 440

    # What is deleted through one server can be had through the other at once.
    await asyncio.gather(*(pair[n % 2].request("DELETE", f"{SERVICES}/s-{n}") for n in range(220)))
    again = await asyncio.gather(*(create(number) for number in range(220)))
    assert len({one["spec"]["clusterIP"] for one in again}) == 220


async def test_of_two_servers_one_gives_out_the_address_that_is_asked_for(servers: Servers) -> None:
    pair = await asyncio.gather(*(servers.start() for _ in range(2)))

    async def ask(turn: int, number: int) -> tuple[int, str]:
        body = service(f"s-{turn}-{number}", clusterIP=f"10.96.7.{turn + 1}")
        answer = await pair[number].call("POST", SERVICES, body)
        return answer.status, answer.json.get("message", "")

    for turn in range(20):
        answers = sorted(await asyncio.gather(ask(turn, 0), ask(turn, 1)))
        assert [status for status, _ in answers] == [201, 422]
        assert answers[1][1].endswith(f"failed to allocate IP 10.96.7.{turn + 1}: provided IP is already allocated")


async def test_an_address_is_on_record_from_when_its_service_is_there_until_it_is_gone(cluster: Cluster) -> None:
    made = await cluster.request("POST", SERVICES, service("web"))
    found = await cluster.request("GET", f"{ADDRESSES}/{made['spec']['clusterIP']}")
    assert found["metadata"]["labels"] == {
        "ipaddress.kubernetes.io/ip-family": "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    assert found["spec"] == {"parentRef": {"resource": "services", "namespace": "default", "name": "web"}}
    assert (await addresses(cluster))["10.96.0.1"] == "kubernetes"
    await cluster.request("DELETE", f"{SERVICES}/web")
    assert set(await addresses(cluster)) == {"10.96.0.1"}


async def test_a_service_that_is_refused_leaves_no_record(cluster: Cluster) -> None:
    await cluster.refused("POST", SERVICES, service("web", {"port": 80, "targetPort": 99999}))
    await cluster.request("POST", SERVICES, service("dry"), {"dryRun": "All"})
    await cluster.request("POST", SERVICES, service("headless", clusterIP="None"))
    assert set(await addresses(cluster)) == {"10.96.0.1"}


async def test_a_service_without_address_gives_it_back(cluster: Cluster) -> None:
    made = await cluster.request("POST", SERVICES, service("web"))
    external = {"type": "ExternalName", "externalName": "example.com", "clusterIP": "", "clusterIPs": []}
    await cluster.request("PUT", f"{SERVICES}/web", {**made, "spec": {**made["spec"], **external}})
    assert set(await addresses(cluster)) == {"10.96.0.1"}


async def test_an_address_that_something_else_has_is_not_given_to_a_service(cluster: Cluster) -> None:
    parent = {"group": "gateway.networking.k8s.io", "resource": "gateways", "namespace": "default", "name": "front"}
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"name": "10.96.3.3"},
        "spec": {"parentRef": parent},
    }
    await cluster.request("POST", ADDRESSES, body)
    refused = await cluster.refused("POST", SERVICES, service("web", clusterIP="10.96.3.3"))
    assert refused.message.endswith("failed to allocate IP 10.96.3.3: provided IP is already allocated")


async def test_node_ports_survive_a_restart_and_leave_with_their_service(pki: Path, servers: Servers) -> None:
    first = await servers.start(service_node_port_range=(30000, 30001))
    made = await first.request("POST", SERVICES, service("web", type="NodePort"))
    second = await servers.start(service_node_port_range=(30000, 30001))
    other = await second.request("POST", SERVICES, service("other", type="NodePort"))
    assert {*node_ports(made), *node_ports(other)} == {30000, 30001}
    refused = await first.refused("POST", SERVICES, service("third", type="NodePort"))
    assert "failed to allocate a nodePort: range is full" in refused.message
    inner = {**other["spec"], "type": "ClusterIP"}
    await first.request("PUT", f"{SERVICES}/other", {**other, "spec": inner})
    third = await second.request("POST", SERVICES, service("third", type="NodePort"))
    assert node_ports(third) == node_ports(other)


async def test_values_are_given_out_of_the_upper_part_of_a_range_first(servers: Servers) -> None:
    cluster = await servers.start(service_cluster_ip_range="10.9.0.0/26")
    made = [await cluster.request("POST", SERVICES, service(f"s-{n}")) for n in range(50)]
    last = [int(one["spec"]["clusterIP"].rpartition(".")[2]) for one in made]
    assert min(last[:46]) >= 17, "the first sixteen are for those who ask for one"
    assert max(last[46:]) < 17
