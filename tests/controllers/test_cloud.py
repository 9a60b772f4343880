"""What is asked of a cloud, and what is made of its answers: load balancers, routes, machines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from pinnace.apis.resources import NODES, SERVICES
from pinnace.controllers.cloud import CloudError, is_balanced_to
from pinnace.controllers.cloud_node_lifecycle import SHUT_DOWN, CloudNodeLifecycleController, with_shutdown_taint
from pinnace.controllers.node_route import NodeRouteController, network_condition, plan
from pinnace.controllers.service_lb import (
    FINALIZER,
    ServiceLbController,
    hosts_text,
    needs_cleanup,
    wants_load_balancer,
)
from pinnace.machinery.meta import Obj, name_of
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import messages, running
from tests.controllers.test_nodes import node

KEY = "default/web"


def service(kind: str = "LoadBalancer", **more: Any) -> Obj:
    metadata = {"name": "web", "namespace": "default", **more.pop("metadata", {})}
    spec = {"type": kind, "ports": [{"port": 80}], **more}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


KEPT = {"finalizers": [FINALIZER]}
GOING = {**KEPT, "deletionTimestamp": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("one", "wanted", "cleanup"),
    [
        (service(), True, False),
        (service(loadBalancerClass="example.com/own"), False, False),
        (service("NodePort"), False, False),
        (service("NodePort", metadata=KEPT), False, True),
        (service(metadata=KEPT), True, False),
        (service(metadata=GOING), True, True),
        (service("NodePort", metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), False, False),
    ],
)
def test_which_services_have_a_balancer(one: Obj, wanted: bool, cleanup: bool) -> None:
    assert wants_load_balancer(one) is wanted
    assert needs_cleanup(one) is cleanup


def test_which_nodes_are_balanced_to() -> None:
    assert is_balanced_to(node(ready="False")), "whether it is ready is the balancer's to find out"
    excluded = node()
    excluded["metadata"]["labels"] = {"node.kubernetes.io/exclude-from-external-load-balancers": ""}
    assert not is_balanced_to(excluded)
    assert not is_balanced_to(node(taints=[{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]))
    assert hosts_text(["a", "b"]) == "[a b]"
    assert hosts_text([str(number) for number in range(60)]).endswith(" 49 ...]")


class Balancers:
    """A cloud's, in memory."""

    def __init__(self) -> None:
        self.made: dict[str, list[str]] = {}
        self.refuses = ""

    async def exists(self, service: Obj) -> bool:
        return name_of(service) in self.made

    async def ensure(self, service: Obj, nodes: Sequence[Obj]) -> Obj:
        if self.refuses:
            raise CloudError(self.refuses)
        self.made[name_of(service)] = sorted(map(name_of, nodes))
        return {"ingress": [{"ip": "203.0.113.7"}]}

    async def update(self, service: Obj, nodes: Sequence[Obj]) -> None:
        self.made[name_of(service)] = sorted(map(name_of, nodes))

    async def delete(self, service: Obj) -> None:
        if self.refuses:
            raise CloudError(self.refuses)
        self.made.pop(name_of(service), None)


def balancing(balancers: Balancers) -> Any:
    return lambda client, informers: ServiceLbController(client, informers, balancers=balancers)


def shown(api: FakeApi) -> Obj:
    return ((api.find(SERVICES, KEY) or {}).get("status") or {}).get("loadBalancer") or {}


def reasons(api: FakeApi) -> list[str]:
    known = ("Ensuring", "Ensured", "Deleting", "Deleted", "Updated")
    return [f"{word}LoadBalancer" for word in known if messages(api, f"{word}LoadBalancer")]


async def test_a_balancer_lives_as_long_as_its_service() -> None:
    api, cloud = FakeApi(), Balancers()
    await api.client.create(NODES, node("n1"))
    async with running(api, balancing(cloud)):
        await api.client.create(SERVICES, service())
        await api.until(lambda: shown(api) == {"ingress": [{"ip": "203.0.113.7"}]})
        assert (api.find(SERVICES, KEY) or {})["metadata"]["finalizers"] == [FINALIZER]
        assert cloud.made == {"web": ["n1"]}

        await api.client.create(NODES, node("n2"))
        await api.until(lambda: cloud.made == {"web": ["n1", "n2"]})
        await api.until(lambda: messages(api, "UpdatedLoadBalancer"))
        assert messages(api, "EnsuredLoadBalancer") == ["Ensured load balancer"]

        await api.client.delete(SERVICES, "web", "default")
        await api.until(lambda: api.find(SERVICES, KEY) is None)
        assert cloud.made == {}
        await api.until(lambda: len(reasons(api)) == 5)


async def test_a_service_of_another_type_gives_its_balancer_up() -> None:
    api, cloud = FakeApi(), Balancers()
    async with running(api, balancing(cloud)):
        await api.client.create(SERVICES, service())
        await api.until(lambda: shown(api))
        await api.until(lambda: messages(api, "UnAvailableLoadBalancer"))
        await api.client.patch(SERVICES, "web", {"spec": {"type": "NodePort"}}, "default")
        await api.until(lambda: not (api.find(SERVICES, KEY) or {})["metadata"].get("finalizers"))
        assert shown(api) == {}
        assert cloud.made == {}


async def test_what_the_cloud_refuses_is_told() -> None:
    api, cloud = FakeApi(), Balancers()
    cloud.refuses = "quota exceeded"
    async with running(api, balancing(cloud)):
        await api.client.create(SERVICES, service())
        await api.until(lambda: messages(api, "SyncLoadBalancerFailed"))
    assert messages(api, "SyncLoadBalancerFailed") == [
        "Error syncing load balancer: failed to ensure load balancer: quota exceeded"
    ]


class Machines:
    """A cloud's, by name: `running` or `off`."""

    def __init__(self, **there: str) -> None:
        self.there = there

    async def exists(self, node: Obj) -> bool:
        return name_of(node) in self.there

    async def is_shut_down(self, node: Obj) -> bool:
        return self.there[name_of(node)] == "off"


def test_the_taint_of_a_machine_that_is_off() -> None:
    assert with_shutdown_taint(node(), is_shut_down=True) == [SHUT_DOWN]
    assert with_shutdown_taint(node(taints=[SHUT_DOWN]), is_shut_down=True) is None
    assert with_shutdown_taint(node(taints=[{"key": "a", "effect": "b"}, SHUT_DOWN]), is_shut_down=False) == [
        {"key": "a", "effect": "b"}
    ]


async def test_nodes_follow_their_machines() -> None:
    api = FakeApi()
    for name, ready in (("well", "True"), ("gone", "Unknown"), ("off", "Unknown"), ("slow", "Unknown")):
        await api.client.create(NODES, node(name, ready=ready))
    machines = Machines(off="off", slow="running")
    async with running(
        api, lambda client, informers: CloudNodeLifecycleController(client, informers, instances=machines)
    ):
        await api.until(lambda: api.find(NODES, "gone") is None)
        await api.until(lambda: (api.find(NODES, "off") or {})["spec"].get("taints") == [SHUT_DOWN])
        await api.until(lambda: messages(api, "DeletingNode"))
    assert messages(api, "DeletingNode") == ["Deleting node gone because it does not exist in the cloud provider"]
    assert "taints" not in (api.find(NODES, "slow") or {})["spec"]
    assert api.find(NODES, "well") is not None


def test_routes_that_are_missing_and_left_over() -> None:
    nodes = [node("a", podCIDRs=["10.0.0.0/24", "fd00::/64"]), node("b", podCIDRs=["10.0.1.0/24"]), node("c")]
    create, delete = plan(nodes, {"a": {"10.0.0.0/24"}, "b": {"10.0.1.0/24", "10.0.9.0/24"}, "z": {"10.0.2.0/24"}})
    assert [(name_of(one), cidr) for one, cidr in create] == [("a", "fd00::/64")]
    assert delete == [("b", "10.0.9.0/24"), ("z", "10.0.2.0/24")]
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    made = network_condition(node(), moment, routed=True)
    assert made is not None
    assert (made["status"], made["message"]) == ("False", "RouteController created a route")
    there = node()
    there["status"]["conditions"].append(made)
    assert network_condition(there, moment, routed=True) is None


class Lines:
    """A cloud's routes, in memory."""

    def __init__(self, **led: set[str]) -> None:
        self.led = led

    async def list(self) -> dict[str, set[str]]:
        return self.led

    async def create(self, node: Obj, cidr: str) -> None:
        if name_of(node) == "bad":
            raise CloudError("no room")
        self.led.setdefault(name_of(node), set()).add(cidr)

    async def delete(self, node: str, cidr: str) -> None:
        self.led[node].discard(cidr)


async def test_nodes_are_told_whether_they_are_led_to() -> None:
    api, lines = FakeApi(), Lines(old={"10.0.7.0/24"})
    for name, cidr in (("good", "10.0.1.0/24"), ("bad", "10.0.2.0/24")):
        await api.client.create(NODES, node(name, podCIDRs=[cidr]))

    def said(name: str) -> str:
        conditions = (api.find(NODES, name) or {})["status"]["conditions"]
        return next((one["reason"] for one in conditions if one["type"] == "NetworkUnavailable"), "")

    async with running(api, lambda client, informers: NodeRouteController(client, informers, routes=lines)):
        await api.until(lambda: (said("good"), said("bad")) == ("RouteCreated", "NoRouteCreated"))
        await api.until(lambda: messages(api, "FailedToCreateRoute"))
    assert lines.led == {"old": set(), "good": {"10.0.1.0/24"}}
    assert messages(api, "FailedToCreateRoute") == ["Could not create route 10.0.2.0/24 for node bad: no room"]
