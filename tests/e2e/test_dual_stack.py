"""A cluster of both address families: pods, Services and their names in each. It has a profile of its own."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cluster

pytestmark = [
    pytest.mark.root,
    pytest.mark.e2e,
    pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="the kernel has no IPv6"),
]

SERVER = "mkdir -p /www; echo here > /www/index.html; exec httpd -f -p '[::]:8080' -h /www"


@pytest.fixture(scope="module")
def dual(scratch: Path) -> Iterator[Cluster]:
    """A cluster with a server and a client."""
    made = Cluster(scratch / "dual-home", "dual")
    try:
        made.start("--ip-family=dual")
        made.load_images(scratch)
        made.apply(pod("web", SERVER), pod("client", "exec sleep 10000"))
        made.kubectl("wait", "--for=condition=Ready", "pod/web", "pod/client", "--timeout=60s")
        yield made
    finally:
        made.pinnace("delete", check=False)
        made.kubeconfig.unlink(missing_ok=True)


def pod(name: str, script: str) -> dict[str, Any]:
    container = {"name": "c", "image": "busybox:1.36", "command": ["sh", "-c", script]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]},
    }


def service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": 8080}]
    spec = {"selector": {"app": "web"}, "ports": ports, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def families(addresses: list[str]) -> list[int]:
    return [ipaddress.ip_address(address).version for address in addresses]


def ask(cluster: Cluster, address: str) -> str:
    """What the client is told at an address of Services, once the rules lead there."""
    host = f"[{address}]" if ":" in address else address
    script = f"until wget -q -O - http://{host}/; do sleep 0.1; done"
    return cluster.kubectl("exec", "client", "--", "sh", "-c", script, timeout=60).stdout.strip()


def test_nodes_and_pods_have_addresses_of_both_families(dual: Cluster) -> None:
    node = dual.json("get", "nodes")["items"][0]
    inner = [one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP"]
    assert families(inner) == [4, 6]
    ranges = [ipaddress.ip_network(cidr) for cidr in node["spec"]["podCIDRs"]]
    assert [one.version for one in ranges] == [4, 6]
    found = dual.json("get", "pod", "web")["status"]
    ips = [ipaddress.ip_address(one["ip"]) for one in found["podIPs"]]
    assert [ip in cidr for ip, cidr in zip(ips, ranges, strict=True)] == [True, True]
    assert [one["ip"] for one in found["hostIPs"]] == inner


def test_a_service_of_both_families_is_reached_by_every_address_and_name(dual: Cluster) -> None:
    dual.apply(service("web", ipFamilyPolicy="RequireDualStack"), service("six", ipFamilies=["IPv6"]))
    addresses = dual.json("get", "service", "web")["spec"]["clusterIPs"]
    assert families(addresses) == [4, 6]
    for address in (*addresses, "web", "six"):
        assert ask(dual, address) == "here", address
    names = dual.kubectl("exec", "client", "--", "nslookup", "-type=AAAA", "six.default.svc.cluster.local").stdout
    assert dual.json("get", "service", "six")["spec"]["clusterIP"] in names


def test_names_of_a_headless_service_lead_to_both_addresses_of_its_pods(dual: Cluster) -> None:
    dual.apply(service("headless", clusterIP="None", ipFamilyPolicy="PreferDualStack"))
    ips = [one["ip"] for one in dual.json("get", "pod", "web")["status"]["podIPs"]]
    script = "until nslookup headless.default.svc.cluster.local | grep -q {}; do sleep 0.1; done"
    for ip in ips:
        dual.kubectl("exec", "client", "--", "sh", "-c", script.format(ip), timeout=60)


def test_a_deleted_cluster_leaves_no_rules_and_routes_of_ipv6(scratch: Path) -> None:
    made = Cluster(scratch / "gone-home", "gone")
    made.start("--ip-family=dual")
    pods = made.json("get", "nodes")["items"][0]["spec"]["podCIDRs"][1]

    config = made.directory / "config.json"
    services = config.read_text().partition('"service_cidr": "')[2].partition('"')[0].split(",")[1]
    made.pinnace("delete")
    made.kubeconfig.unlink(missing_ok=True)
    routes = subprocess.run(["ip", "-6", "route"], capture_output=True, text=True, check=True).stdout
    assert services not in routes
    assert pods not in routes
