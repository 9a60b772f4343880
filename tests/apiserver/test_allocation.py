"""Cluster IPs and node ports: each belongs to one Service, whichever server gave it out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pinnace.apiserver.allocation.records import ip_address
from pinnace.apiserver.allocation.repair import address_finding, record_finding
from pinnace.apiserver.server import ApiServer
from pinnace.machinery.meta import Obj, utc_now
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


async def _event(cluster: Cluster, reason: str) -> Obj:
    """The first event with that reason."""
    watch = await cluster.watch("/apis/events.k8s.io/v1/events?watch=1&resourceVersion=0")
    async with asyncio.timeout(60):
        while True:
            event = await watch.next()
            assert event is not None
            if event["object"]["reason"] == reason:
                watch.close()
                return dict(event["object"])


async def _shown(cluster: Cluster, path: str, accept: Any) -> None:
    """Until a watch of a collection shows what is waited for."""
    watch = await cluster.watch(f"{path}?watch=1&resourceVersion=0")
    async with asyncio.timeout(60):
        while True:
            event = await watch.next()
            assert event is not None
            if accept(event):
                watch.close()
                return


async def test_a_record_that_somebody_deleted_is_made_again(cluster: Cluster) -> None:
    made = await cluster.request("POST", SERVICES, service("web"))
    ip = made["spec"]["clusterIP"]
    before = await cluster.request("GET", f"{ADDRESSES}/{ip}")
    await cluster.request("DELETE", f"{ADDRESSES}/{ip}")
    await _shown(
        cluster,
        ADDRESSES,
        lambda event: (
            (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", ip)
            and event["object"]["metadata"]["uid"] != before["metadata"]["uid"]
        ),
    )
    told = await _event(cluster, "ClusterIPNotAllocated")
    assert told["note"] == f"Cluster IP [IPv4]: {ip} is not allocated; repairing"
    assert (told["action"], told["regarding"]["name"]) == ("ClusterIPAllocation", "web")


async def test_a_record_without_its_labels_is_made_again(cluster: Cluster) -> None:
    ip = (await cluster.request("POST", SERVICES, service("web")))["spec"]["clusterIP"]
    patch = {"metadata": {"labels": {"ipaddress.kubernetes.io/managed-by": "me"}}}
    await cluster.request("PATCH", f"{ADDRESSES}/{ip}", patch, content_type="application/merge-patch+json")

    def is_whole(event: Obj) -> bool:
        meta = event["object"]["metadata"]
        return bool(meta["name"] == ip and meta["labels"]["ipaddress.kubernetes.io/managed-by"] == "ipallocator.k8s.io")

    await _shown(cluster, ADDRESSES, is_whole)


async def test_services_of_a_time_before_records_are_put_on_record(pki: Path, store: Store) -> None:
    server = ApiServer(options_for(pki), store)
    await server.start()
    cluster = Cluster(server, store, pki)
    made = await cluster.request("POST", SERVICES, service("web", type="NodePort"))
    await server.stop(0.2)
    [port], ip = node_ports(made), made["spec"]["clusterIP"]
    for key in (f"/registry/networking.k8s.io/ipaddresses/{ip}", f"/registry/ranges/servicenodeports/{port}"):
        found = await store.get(key)
        assert found is not None
        await store.delete(key, found.mod_revision)
    # And one on record whose Service is gone.
    await store.put("/registry/ranges/servicenodeports/30007", b'{"service":"default/gone"}', 0)
    gone = asyncio.Event()
    leaked = "/registry/ranges/servicenodeports/30007"
    leave = store.subscribe(leaked, store.revision, lambda _: gone.set())

    server = ApiServer(options_for(pki), store)
    await server.start()
    cluster = Cluster(server, store, pki)
    assert (await _event(cluster, "PortNotAllocated"))["note"] == f"Port {port} is not allocated; repairing"
    await _shown(cluster, ADDRESSES, lambda event: event["object"]["metadata"]["name"] == ip)
    await asyncio.wait_for(gone.wait(), 60)
    assert await store.get(f"/registry/ranges/servicenodeports/{port}") is not None
    assert await store.get(leaked) is None
    leave()
    await server.stop(0.2)


def test_what_is_wrong_with_a_record_is_said_as_kubernetes_says_it() -> None:
    web = {"metadata": {"name": "web", "namespace": "default"}, "spec": {"clusterIPs": ["10.96.0.9"]}}
    mine = ip_address("10.96.0.9", web)
    others = ip_address("10.96.0.9", {"metadata": {"name": "old", "namespace": "default"}})
    assert address_finding("10.96.0.9", web, mine, web, in_range=True) is None
    outside = address_finding("10.96.0.9", web, mine, web, in_range=False)
    assert outside is not None
    assert (outside.reason, outside.remedy) == ("ClusterIPOutOfRange", "")
    wrong = address_finding("10.96.0.9", web, others, None, in_range=True)
    assert wrong is not None
    assert wrong.note == "the ClusterIP [IPv4]: 10.96.0.9 for Service default/web has a wrong reference; repairing"
    twice = address_finding("10.96.0.9", web, others, {**web, "metadata": {"name": "old"}}, in_range=True)
    assert twice is not None
    assert twice.note == "Cluster IP [IPv4]:10.96.0.9 was assigned to multiple services; please recreate service"

    late = utc_now() + timedelta(seconds=61)
    assert record_finding(others, None, utc_now()) is None, "its Service may be about to be made"
    leaked = record_finding(others, None, late)
    assert leaked is not None
    assert leaked.note == "IPAddress: 10.96.0.9 for Service default/old appears to have leaked: cleaning up"
    assert record_finding(mine, web, late) is None
    stray = record_finding(mine, {**web, "spec": {"clusterIPs": ["10.96.0.8"]}}, late)
    assert stray is not None
    assert stray.reason == "IPAddressWrongReference"


async def test_the_range_of_the_flags_is_a_service_cidr_that_is_made_again(cluster: Cluster) -> None:
    """Conformance: "ServiceCIDR API" """

    def is_ready(event: Obj) -> bool:
        shown = event["object"]
        conditions = shown.get("status", {}).get("conditions") or [{}]
        return bool(
            shown["spec"]["cidrs"] == ["10.96.0.0/12"]
            and conditions[0].get("message") == "Kubernetes default Service CIDR is ready"
            and conditions[0]["status"] == "True"
        )

    await _shown(cluster, CIDRS, is_ready)
    first = await cluster.request("GET", f"{CIDRS}/kubernetes")
    await cluster.request("DELETE", f"{CIDRS}/kubernetes")
    await _shown(
        cluster,
        CIDRS,
        lambda event: is_ready(event) and event["object"]["metadata"]["uid"] != first["metadata"]["uid"],
    )


async def test_a_range_that_another_server_was_told_of_gives_addresses_here(servers: Servers) -> None:
    """Conformance: "IPAddress API" """
    first, second = [await servers.start(service_cluster_ip_range="10.9.0.0/30") for _ in range(2)]
    refused = await second.refused("POST", SERVICES, service("web", clusterIP="10.10.0.20"))
    assert refused.message.endswith(
        "failed to allocate IP 10.10.0.20: the provided network does not match the current range"
    )
    body = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "further"},
        "spec": {"cidrs": ["10.10.0.0/24"]},
    }
    await first.request("POST", CIDRS, body)
    await second.request("POST", SERVICES, service("web", clusterIP="10.10.0.20"))
    assert (await addresses(first))["10.10.0.20"] == "web"
