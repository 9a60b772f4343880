"""Services and what is behind them, as objects."""

from __future__ import annotations

import time
from typing import Any

from pinnace.testing import Api


def pod(name: str, *ports: dict[str, Any]) -> dict[str, Any]:
    container = {"name": "main", "image": "example.com/any", "ports": list(ports)}
    metadata = {"name": name, "labels": {"app": "web"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


def service(name: str, *ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
    body = {"selector": {"app": "web"}, "ports": list(ports), **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": body}


def addresses(endpoints: dict[str, Any]) -> set[tuple[str, int]]:
    """Addresses and ports of an Endpoints object."""
    return {
        (address["ip"], port["port"])
        for subset in endpoints.get("subsets") or ()
        for address in subset.get("addresses", ())
        for port in subset.get("ports", ())
    }


def in_slices(slices: list[dict[str, Any]]) -> set[tuple[str, int]]:
    return {
        (endpoint["addresses"][0], port["port"])
        for one in slices
        for endpoint in one.get("endpoints") or ()
        for port in one.get("ports") or ()
    }


def test_the_api_server_is_a_service(api: Api) -> None:
    """Conformance: "Kubernetes Service", "Find Kubernetes Service in default Namespace" """
    [found] = [one for one in api.list("services") if one["metadata"]["name"] == "kubernetes"]
    assert found["metadata"]["namespace"] == "default"
    assert found["spec"]["ports"][0] | {"targetPort": 0} == {
        "name": "https",
        "port": 443,
        "protocol": "TCP",
        "targetPort": 0,
    }


def test_endpoints_follow_pods_and_ports(api: Api, namespace: str) -> None:
    """Conformance: "Service, endpoints", "Service, endpoints with multiple ports", "Endpoints, creation/deletion",
    "EndpointSlice, creation/deletion", "EndpointSlice, multiple IPs, multiple ports", "EndpointSlice, single IP,
    multiple ports"
    """
    one, two = {"name": "a", "containerPort": 80}, {"name": "b", "containerPort": 81}
    ports = [{"name": "first", "port": 1080, "targetPort": "a"}, {"name": "second", "port": 1081, "targetPort": 81}]
    api.create(service("web", *ports), namespace)
    slices = "kubernetes.io/service-name=web"
    expected: set[tuple[str, int]] = set()

    def are_expected() -> bool:
        in_endpoints = addresses(api.get("endpoints", "web", namespace))
        return in_slices(api.list("endpointslices", namespace, labels=slices)) == in_endpoints == expected

    for name in ("p1", "p2"):
        api.create(pod(name, one, two), namespace)
        address = api.wait_for("pods", name, "Ready", namespace)["status"]["podIP"]
        expected |= {(address, 80), (address, 81)}
        api.wait_until(are_expected)
    expected.clear()
    for name in ("p1", "p2"):
        api.delete("pods", name, namespace)
    api.wait_until(are_expected)
    api.delete("services", "web", namespace)
    api.wait_gone("endpoints", "web", namespace)
    api.wait_until(lambda: not api.list("endpointslices", namespace, labels=slices))


def test_a_service_without_pods_has_empty_endpoints(api: Api, namespace: str) -> None:
    """Conformance: "Endpoints, "empty" Service", "EndpointSlice, "empty" Service" """
    api.create(service("empty", {"port": 80}), namespace)
    found = api.wait_for("endpoints", "empty", namespace=namespace)
    assert not found.get("subsets")
    [one] = api.wait_until(lambda: api.list("endpointslices", namespace, labels="kubernetes.io/service-name=empty"))
    assert not one.get("endpoints")
    assert one["metadata"]["ownerReferences"][0]["name"] == "empty"


def test_a_service_changes_its_type(api: Api, namespace: str) -> None:
    """What a change of type does to the object; that it is reachable afterwards is for clusters with nodes."""
    made = api.create(service("web", {"port": 80}), namespace)
    assert made["spec"]["clusterIP"]
    external = {
        "type": "ExternalName",
        "externalName": "example.com",
        "clusterIP": None,
        "clusterIPs": None,
        "ports": None,
    }
    changed = api.patch("services", "web", {"spec": external}, namespace)
    assert "clusterIP" not in changed["spec"]
    port = {"type": "NodePort", "externalName": None, "ports": [{"port": 80}]}
    changed = api.patch("services", "web", {"spec": port}, namespace)
    assert changed["spec"]["clusterIP"]
    assert changed["spec"]["ports"][0]["nodePort"]
    back = {**external, "sessionAffinity": None}
    changed = api.patch("services", "web", {"spec": back}, namespace)
    assert changed["spec"]["type"] == "ExternalName"
    assert "clusterIP" not in changed["spec"]


def test_endpoints_written_by_hand_are_mirrored(api: Api, namespace: str) -> None:
    """Conformance: "EndpointSlice Mirroring" """
    api.create({**service("custom", {"port": 80}), "spec": {"ports": [{"name": "web", "port": 80}]}}, namespace)
    mirrored = "kubernetes.io/service-name=custom"

    def shown() -> set[tuple[str, int]]:
        return in_slices(api.list("endpointslices", namespace, labels=mirrored))

    def endpoints(*ips: str) -> list[dict[str, Any]]:
        return [{"addresses": [{"ip": ip} for ip in ips], "ports": [{"name": "web", "port": 80}]}]

    body = {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "custom"}, "subsets": endpoints("10.1.2.3")}
    api.create(body, namespace)
    api.wait_until(lambda: shown() == {("10.1.2.3", 80)})
    [one] = api.list("endpointslices", namespace, labels=mirrored)
    assert one["metadata"]["labels"]["endpointslice.kubernetes.io/managed-by"] == (
        "endpointslicemirroring-controller.k8s.io"
    )
    api.patch("endpoints", "custom", {"subsets": endpoints("10.2.3.4", "10.2.3.5")}, namespace)
    api.wait_until(lambda: shown() == {("10.2.3.4", 80), ("10.2.3.5", 80)})
    api.delete("endpoints", "custom", namespace)
    api.wait_until(lambda: not api.list("endpointslices", namespace, labels=mirrored))


def test_endpoints_come_soon_after_their_service(api: Api, namespace: str) -> None:
    """Conformance: "Service endpoint latency, thresholds" """
    api.create(pod("p", {"containerPort": 80}), namespace)
    api.wait_for("pods", "p", "Ready", namespace)
    took = []
    for number in range(100):
        began = time.monotonic()
        api.create(service(f"s-{number}", {"port": 80}), namespace)
        api.wait_for("endpoints", f"s-{number}", lambda obj: obj.get("subsets"), namespace)
        took.append(time.monotonic() - began)
    took.sort()
    assert took[50] < 20
    assert took[90] < 50
