"""Services of a cluster that has a range of each address family, over HTTPS."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.apiserver.server import ApiServer
from pinnace.machinery.meta import Obj
from pinnace.store.contract import Store
from tests.apiserver.conftest import Cluster, options_for

SERVICES = "/api/v1/namespaces/default/services"
ADDRESSES = "/apis/networking.k8s.io/v1/ipaddresses"
CIDRS = "/apis/networking.k8s.io/v1/servicecidrs"
RANGES = "10.96.0.0/16,fd00:10:96::/112"
MERGE = "application/merge-patch+json"


async def patch(cluster: Cluster, path: str, change: Obj) -> Obj:
    return await cluster.request("PATCH", path, change, content_type=MERGE)


def service(name: str, **spec: Any) -> Obj:
    spec = {"ports": [{"port": 80}], "selector": {"app": name}} | spec
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


async def addresses(cluster: Cluster, name: str) -> dict[str, str]:
    """The addresses on record for a Service, and the family that each record names."""
    items = (await cluster.request("GET", ADDRESSES))["items"]
    family = "ipaddress.kubernetes.io/ip-family"
    return {
        item["metadata"]["name"]: item["metadata"]["labels"][family]
        for item in items
        if item["spec"]["parentRef"]["name"] == name
    }


@pytest.fixture(params=[None, 32], ids=["newest", "1.32"])
async def dual(request: pytest.FixtureRequest, pki: Path, store: Store) -> AsyncIterator[Cluster]:
    """From 1.33 on addresses are objects; before, the ranges of the flag are all there is."""
    server = ApiServer(options_for(pki, service_cluster_ip_range=RANGES, minor=request.param), store)
    await server.start()
    yield Cluster(server, store, pki)
    await server.stop(0.2)


async def test_a_service_has_an_address_of_every_family_it_asks_for(dual: Cluster) -> None:
    plain = (await dual.request("POST", SERVICES, service("plain")))["spec"]
    assert (plain["ipFamilies"], plain["ipFamilyPolicy"], len(plain["clusterIPs"])) == (["IPv4"], "SingleStack", 1)

    both = (await dual.request("POST", SERVICES, service("both", ipFamilyPolicy="PreferDualStack")))["spec"]
    assert both["ipFamilies"] == ["IPv4", "IPv6"]
    assert both["clusterIPs"][0].startswith("10.96.")
    assert both["clusterIPs"][1].startswith("fd00:10:96::")
    assert both["clusterIP"] == both["clusterIPs"][0]

    order = {"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}
    turned = (await dual.request("POST", SERVICES, service("turned", **order)))["spec"]
    assert [":" in ip for ip in turned["clusterIPs"]] == [True, False]

    asked = {"clusterIP": "fd00:10:96::77", "clusterIPs": ["fd00:10:96::77"], "ipFamilyPolicy": "PreferDualStack"}
    given = (await dual.request("POST", SERVICES, service("asked", **asked)))["spec"]
    assert given["ipFamilies"] == ["IPv6", "IPv4"]
    assert given["clusterIPs"][0] == "fd00:10:96::77"
    refused = await dual.refused("POST", SERVICES, service("late", clusterIP="fd00:10:96::77"))
    assert refused.message.endswith("failed to allocate IP fd00:10:96::77: provided IP is already allocated")


async def test_the_second_address_comes_and_goes(dual: Cluster) -> None:
    made = await dual.request("POST", SERVICES, service("web"))
    first = made["spec"]["clusterIP"]
    widened = await patch(dual, f"{SERVICES}/web", {"spec": {"ipFamilyPolicy": "RequireDualStack"}})
    [kept, second] = widened["spec"]["clusterIPs"]
    assert kept == first
    assert second.startswith("fd00:10:96::")

    only_first = {"spec": {"clusterIPs": [first]}}
    refused = await dual.refused("PATCH", f"{SERVICES}/web", only_first, content_type=MERGE)
    assert refused.message.endswith("must be 'SingleStack' to release the secondary cluster IP")

    narrowed = await patch(dual, f"{SERVICES}/web", {"spec": {"ipFamilyPolicy": "SingleStack"}})
    assert narrowed["spec"]["clusterIPs"] == [first]
    assert narrowed["spec"]["ipFamilies"] == ["IPv4"]
    # What was released can be had again.
    other = await dual.request("POST", SERVICES, service("other", clusterIP=second))
    assert other["spec"]["ipFamilies"] == ["IPv6"]


async def test_a_change_of_type_takes_both_addresses_along(dual: Cluster) -> None:
    made = await dual.request("POST", SERVICES, service("web", ipFamilyPolicy="PreferDualStack"))
    external = {"spec": {"type": "ExternalName", "externalName": "example.com"}}
    named = await patch(dual, f"{SERVICES}/web", external)
    assert not {"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} & named["spec"].keys()
    for ip in made["spec"]["clusterIPs"]:
        await dual.request("POST", SERVICES, service("again", clusterIP=ip))
        await dual.request("DELETE", f"{SERVICES}/again")
    inner = {"spec": {"type": "ClusterIP", "externalName": None, "ipFamilyPolicy": "RequireDualStack"}}
    back = await patch(dual, f"{SERVICES}/web", inner)
    assert [":" in ip for ip in back["spec"]["clusterIPs"]] == [False, True]


async def test_an_update_that_says_less_keeps_what_there_is(dual: Cluster) -> None:
    made = await dual.request("POST", SERVICES, service("web", ipFamilyPolicy="RequireDualStack"))
    body = service("web", ports=[{"port": 81}])
    put = await dual.request("PUT", f"{SERVICES}/web", body)
    for field in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        assert put["spec"][field] == made["spec"][field]


async def test_both_addresses_are_on_record(pki: Path, store: Store) -> None:
    server = ApiServer(options_for(pki, service_cluster_ip_range=RANGES), store)
    await server.start()
    cluster = Cluster(server, store, pki)
    made = await cluster.request("POST", SERVICES, service("web", ipFamilyPolicy="PreferDualStack"))
    [four, six] = made["spec"]["clusterIPs"]
    assert await addresses(cluster, "web") == {four: "IPv4", six: "IPv6"}
    await patch(cluster, f"{SERVICES}/web", {"spec": {"ipFamilyPolicy": "SingleStack"}})
    assert await addresses(cluster, "web") == {four: "IPv4"}
    await cluster.request("DELETE", f"{SERVICES}/web")
    assert await addresses(cluster, "web") == {}
    await server.stop(0.2)


async def test_a_further_range_may_be_of_both_families(pki: Path, store: Store) -> None:
    server = ApiServer(options_for(pki, service_cluster_ip_range=RANGES), store)
    await server.start()
    cluster = Cluster(server, store, pki)
    further = {"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "further"}}
    asked = {
        "clusterIP": "10.97.0.5",
        "clusterIPs": ["10.97.0.5", "fd00:10:97::5"],
        "ipFamilyPolicy": "RequireDualStack",
    }
    refused = await cluster.refused("POST", SERVICES, service("web", **asked))
    assert "failed to allocate IP 10.97.0.5" in refused.message
    await cluster.request("POST", CIDRS, {**further, "spec": {"cidrs": ["10.97.0.0/24", "fd00:10:97::/120"]}})
    made = await cluster.request("POST", SERVICES, service("web", **asked))
    assert await addresses(cluster, "web") == dict(zip(made["spec"]["clusterIPs"], ("IPv4", "IPv6"), strict=True))
    await server.stop(0.2)


async def _ranges_after_start(pki: Path, store: Store, ranges: str) -> list[str]:
    """Of the ServiceCIDR `kubernetes`, once a server with these ranges has said its word."""
    server = ApiServer(options_for(pki, service_cluster_ip_range=ranges), store)
    await server.start()
    cluster = Cluster(server, store, pki)
    watch = await cluster.watch(f"{CIDRS}?watch=1&resourceVersion=0")
    while True:
        event = await watch.next()
        assert event is not None
        cidrs: list[str] = event["object"]["spec"]["cidrs"]
        if cidrs == ranges.split(","):
            break
    watch.close()
    await server.stop(0.2)
    return cidrs


async def test_a_cluster_gets_a_second_range(pki: Path, store: Store) -> None:
    first, both = "10.96.0.0/16", "10.96.0.0/16,fd00:10:96::/112"
    assert await _ranges_after_start(pki, store, first) == [first]
    assert await _ranges_after_start(pki, store, both) == both.split(",")
