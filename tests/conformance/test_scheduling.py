"""Where pods go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pinnace.testing import Cluster


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """Two nodes of one CPU each, and nobody else's pods."""
    with Cluster() as cluster:
        for number in (1, 2):
            cluster.add_node(f"node-{number}", capacity={"cpu": "1", "memory": "1Gi"}, labels={"number": str(number)})
        yield cluster


@pytest.fixture
def place(nodes: Cluster) -> Iterator[str]:
    name = nodes.create_namespace()
    yield name
    nodes.delete_namespace(name)
    nodes.api.wait_gone("namespaces", name)


def pod(name: str, cpu: str = "", **spec: Any) -> dict[str, Any]:
    resources = {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}} if cpu else {}
    container = {"name": "main", "image": "example.com/any", "resources": resources}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [container], **spec}}


def unschedulable(obj: dict[str, Any]) -> bool:
    return any(one.get("reason") == "Unschedulable" for one in obj.get("status", {}).get("conditions", ()))


def node_of(nodes: Cluster, name: str, place: str) -> str:
    found: str = nodes.api.wait_for("pods", name, "Ready", place)["spec"]["nodeName"]
    return found


def test_a_node_takes_what_it_has_room_for(nodes: Cluster, place: str) -> None:
    """Conformance: "Scheduler, resource limits" """
    for number in range(2):
        nodes.api.create(pod(f"fill-{number}", "700m"), place)
    assert {node_of(nodes, f"fill-{number}", place) for number in range(2)} == {"node-1", "node-2"}
    nodes.api.create(pod("more", "500m"), place)
    stuck = nodes.api.wait_for("pods", "more", unschedulable, place)
    [condition] = [one for one in stuck["status"]["conditions"] if one["type"] == "PodScheduled"]
    assert "2 Insufficient cpu" in condition["message"]


def test_a_selector_chooses_the_node(nodes: Cluster, place: str) -> None:
    """Conformance: "Scheduler, node selector matching", "Scheduler, node selector not matching" """
    nodes.api.create(pod("here", nodeSelector={"number": "2"}), place)
    nodes.api.create(pod("nowhere", nodeSelector={"number": "3"}), place)
    assert node_of(nodes, "here", place) == "node-2"
    nodes.api.wait_for("pods", "nowhere", unschedulable, place)


def port(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "main", "image": "example.com/any", "ports": [{"containerPort": 8080, "hostPort": 54321, **more}]}]


def test_host_ports_of_other_addresses_or_protocols_go_together(nodes: Cluster, place: str) -> None:
    """Conformance: "Scheduling, HostPort matching and HostIP and Protocol not-matching", "Scheduling, HostPort and
    Protocol match, HostIPs different but one is default HostIP (0.0.0.0)"
    """
    there = {"nodeSelector": {"number": "1"}}
    for name, containers in (
        ("one", port(hostIP="127.0.0.1")),
        ("two", port(hostIP="127.0.0.2")),
        ("three", port(hostIP="127.0.0.2", protocol="UDP")),
    ):
        nodes.api.create({**pod(name), "spec": {"containers": containers, **there}}, place)
        assert node_of(nodes, name, place) == "node-1"
    nodes.api.create({**pod("everywhere"), "spec": {"containers": port(), **there}}, place)
    nodes.api.wait_for("pods", "everywhere", unschedulable, place)
