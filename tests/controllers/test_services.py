"""Endpoints and EndpointSlices say which pods are behind a Service, at which ports, and how they are."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pinnace.apis.resources import ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICES
from pinnace.client.store import ObjectStore
from pinnace.controllers.endpoints import EndpointsController, subsets
from pinnace.controllers.endpointslice import EndpointSliceController, plan, wanted_groups
from pinnace.machinery.meta import Obj
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import pod_status, running


def service(**spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "web",
            "namespace": "default",
            "labels": {"team": "shop"},
            "uid": "s",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {
            "selector": {"app": "web"},
            "clusterIP": "10.96.0.10",
            "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            **spec,
        },
    }


def pod(name: str, ip: str, *, ready: bool = True, phase: str = "Running", going: bool = False, **spec: Any) -> Obj:
    metadata: Obj = {"name": name, "namespace": "default", "uid": f"u-{name}", "labels": {"app": "web"}}
    if going:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": "n1", "containers": [{"ports": [{"name": "web", "containerPort": 9000}]}], **spec},
        "status": pod_status(phase, ready=ready, ip=ip),
    }


def nodes() -> ObjectStore:
    store = ObjectStore()
    store.put({"metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "z1"}}})
    return store


def test_subsets_tell_ready_from_not_ready() -> None:
    found = subsets(service(), [pod("b", "10.0.0.2"), pod("a", "10.0.0.1"), pod("c", "10.0.0.3", ready=False)])
    (subset,) = found
    assert [one["ip"] for one in subset["addresses"]] == ["10.0.0.1", "10.0.0.2"]
    assert [one["ip"] for one in subset["notReadyAddresses"]] == ["10.0.0.3"]
    assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert subset["addresses"][0] == {
        "ip": "10.0.0.1",
        "nodeName": "n1",
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "a", "uid": "u-a"},
    }


def test_pods_that_have_ended_go_or_have_no_address_are_left_out() -> None:
    gone = [pod("a", "10.0.0.1", phase="Succeeded"), pod("b", "10.0.0.2", going=True), pod("c", "")]
    assert subsets(service(), gone) == []
    assert len(subsets(service(publishNotReadyAddresses=True), gone)) == 1  # the one that goes may still be asked


def test_named_ports_are_looked_up_in_each_pod() -> None:
    named = service(
        ports=[{"name": "http", "port": 80, "targetPort": "web"}, {"name": "x", "port": 1, "targetPort": 1}]
    )
    other = pod("b", "10.0.0.2", containers=[{"ports": [{"name": "web", "containerPort": 9001}]}])
    found = subsets(named, [pod("a", "10.0.0.1"), other, pod("c", "10.0.0.3", containers=[])])
    by_port = {port["port"]: [one["ip"] for one in subset["addresses"]] for subset in found for port in subset["ports"]}
    assert by_port == {1: ["10.0.0.1", "10.0.0.2", "10.0.0.3"], 9000: ["10.0.0.1"], 9001: ["10.0.0.2"]}


def test_a_headless_service_without_ports_has_addresses() -> None:
    found = subsets(service(clusterIP="None", ports=[]), [pod("a", "10.0.0.1", hostname="h", subdomain="web")])
    (subset,) = found
    assert "ports" not in subset
    assert subset["addresses"][0]["hostname"] == "h"


def dual(name: str, *ips: str) -> Obj:
    made = pod(name, ips[0])
    made["status"]["podIPs"] = [{"ip": ip} for ip in ips]
    return made


def test_a_service_of_both_families_has_slices_of_each() -> None:
    pods = [dual("a", "10.0.0.1", "fd00::1"), dual("b", "10.0.0.2"), dual("c", "fd00::3", "10.0.0.3")]

    def found(*families: str) -> dict[str, list[str]]:
        todo = plan(service(), wanted_groups(service(ipFamilies=list(families)), pods, nodes()), [])
        return {one["addressType"]: sorted(end["addresses"][0] for end in one["endpoints"]) for one in todo.create}

    four, six = ["10.0.0.1", "10.0.0.2", "10.0.0.3"], ["fd00::1", "fd00::3"]
    assert found("IPv4", "IPv6") == {"IPv4": four, "IPv6": six}
    assert found("IPv6") == {"IPv6": six}


def test_a_second_family_that_goes_takes_its_slices_along() -> None:
    pods = [dual("a", "10.0.0.1", "fd00::1")]
    both = plan(service(), wanted_groups(service(ipFamilies=["IPv4", "IPv6"]), pods, nodes()), []).create
    todo = plan(service(), wanted_groups(service(), pods, nodes()), both)
    assert [one["addressType"] for one in todo.delete] == ["IPv6"]
    empty = plan(service(), wanted_groups(service(ipFamilies=["IPv4", "IPv6"]), [], nodes()), [])
    assert [one["addressType"] for one in empty.create] == ["IPv4", "IPv6"], "each family says that it has none"


def test_endpoints_are_of_the_first_family() -> None:
    pods = [dual("a", "10.0.0.1", "fd00::1"), dual("b", "10.0.0.2")]
    (subset,) = subsets(service(ipFamilies=["IPv6", "IPv4"]), pods)
    assert [one["ip"] for one in subset["addresses"]] == ["fd00::1"]


def test_slices_carry_conditions_zone_and_labels() -> None:
    pods = [pod("a", "10.0.0.1"), pod("b", "10.0.0.2", ready=False), pod("c", "10.0.0.3", going=True)]
    todo = plan(service(), wanted_groups(service(), pods, nodes()), [])
    (made,) = todo.create
    assert made["addressType"] == "IPv4"
    assert made["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert [one["conditions"] for one in made["endpoints"]] == [
        {"ready": True, "serving": True, "terminating": False},
        {"ready": False, "serving": False, "terminating": False},
        {"ready": False, "serving": True, "terminating": True},
    ]
    assert {(one["nodeName"], one["zone"]) for one in made["endpoints"]} == {("n1", "z1")}
    assert made["metadata"]["generateName"] == "web-"
    assert made["metadata"]["labels"] == {
        "team": "shop",
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert made["metadata"]["ownerReferences"][0]["kind"] == "Service"


def test_not_ready_addresses_can_be_published() -> None:
    wanted = wanted_groups(service(publishNotReadyAddresses=True), [pod("b", "10.0.0.2", ready=False)], nodes())
    ((endpoint,),) = wanted.values()
    assert endpoint["conditions"] == {"ready": True, "serving": False, "terminating": False}


def test_a_service_without_endpoints_has_one_empty_slice() -> None:
    todo = plan(service(), wanted_groups(service(), [], nodes()), [])
    (made,) = todo.create
    assert (made["endpoints"], made["ports"]) == ([], [])


def stored(made: list[Obj]) -> list[Obj]:
    return [{**one, "metadata": {**one["metadata"], "name": f"web-{n}"}} for n, one in enumerate(made)]


def test_only_slices_that_change_are_written() -> None:
    pods = [pod(str(n), f"10.0.{n // 200}.{n % 200 + 1}") for n in range(250)]
    first = plan(service(), wanted_groups(service(), pods, nodes()), [])
    assert [len(one["endpoints"]) for one in first.create] == [100, 100, 50]
    slices = stored(first.create)
    assert plan(service(), wanted_groups(service(), pods, nodes()), slices) == plan(service(), {}, [])
    moved = [*pods[1:], pod("new", "10.9.9.9")]
    todo = plan(service(), wanted_groups(service(), moved, nodes()), slices)
    assert ([one["metadata"]["name"] for one in todo.update], todo.create, todo.delete) == (["web-0"], [], [])


@given(st.sets(st.integers(0, 300)), st.sets(st.integers(0, 300)), st.booleans())
def test_slices_always_say_what_they_should(before: set[int], after: set[int], other_port: bool) -> None:
    def pods(numbers: set[int]) -> list[Obj]:
        return [pod(str(n), f"10.0.{n // 200}.{n % 200 + 1}") for n in sorted(numbers)]

    slices = stored(plan(service(), wanted_groups(service(), pods(before), nodes()), []).create)
    changed = service(ports=[{"port": 81}]) if other_port else service()
    wanted = wanted_groups(changed, pods(after), nodes())
    todo = plan(changed, wanted, slices)
    names = {one["metadata"]["name"]: one for one in slices}
    for one in todo.update:
        names[one["metadata"]["name"]] = one
    for one in todo.delete:
        del names[one["metadata"]["name"]]
    result = [*names.values(), *todo.create]
    found = [one["addresses"][0] for made in result for one in made["endpoints"]]
    assert sorted(found) == sorted(one["addresses"][0] for group in wanted.values() for one in group)
    assert result
    assert all(len(one["endpoints"]) <= 100 for one in result)
    assert all(one["endpoints"] for one in result) or len(result) == 1


async def test_both_follow_pods_and_services() -> None:
    api = FakeApi()

    def ready() -> tuple[list[str], list[str]]:
        found = (api.find(ENDPOINTS, "default/web") or {}).get("subsets") or []
        listed = [one["ip"] for subset in found for one in subset.get("addresses", ())]
        sliced = [
            one["addresses"][0]
            for made in api.all(ENDPOINT_SLICES)
            for one in made["endpoints"]
            if one["conditions"]["ready"]
        ]
        return sorted(listed), sorted(sliced)

    await api.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
    async with running(api, EndpointsController, EndpointSliceController):
        await api.client.create(SERVICES, service())
        for name, ip in (("a", "10.0.0.1"), ("b", "10.0.0.2")):
            await api.client.create(PODS, pod(name, ip))
        both = ["10.0.0.1", "10.0.0.2"]
        await api.until(lambda: ready() == (both, both))
        found = api.find(ENDPOINTS, "default/web")
        assert found is not None
        assert "endpoints.kubernetes.io/last-change-trigger-time" in found["metadata"]["annotations"]
        assert found["metadata"]["labels"] == {
            "team": "shop",
            "endpoints.kubernetes.io/managed-by": "endpoint-controller",
        }
        await api.set_status(PODS, "default/a", pod_status("Running", ready=False, ip="10.0.0.1"))
        await api.until(lambda: ready() == (["10.0.0.2"], ["10.0.0.2"]))
        await api.client.patch(PODS, "b", {"metadata": {"labels": {"app": "other"}}}, "default")
        await api.until(lambda: ready() == ([], []))
        assert len(api.all(ENDPOINT_SLICES)) == 1
        await api.client.delete(SERVICES, "web", "default")
        await api.until(lambda: not api.all(ENDPOINTS))
