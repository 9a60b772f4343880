"""The pod network: addresses, reachability, masquerading and host ports, in the machine's real kernel."""

from __future__ import annotations

import asyncio
import ipaddress
import subprocess
from pathlib import Path

import pytest

from pinnace.cri.api import CriError, PortMapping
from pinnace.cri.engine.network import Addresses, BridgeNetwork, NetworkError, NetworkOptions, rules
from tests.cri.engine.conftest import TIMEOUT, Node
from tests.support.ports import free_port

SUBNET = ipaddress.ip_network("10.9.8.0/29")


def test_addresses_are_given_in_turn_and_given_back(tmp_path: Path) -> None:
    pool = Addresses(tmp_path, SUBNET)

    assert [str(pool.allocate(owner)) for owner in "abc"] == ["10.9.8.2", "10.9.8.3", "10.9.8.4"]
    pool.release("a")
    pool.release("a")
    assert [str(pool.allocate(owner)) for owner in "def"] == ["10.9.8.5", "10.9.8.6", "10.9.8.2"]
    with pytest.raises(NetworkError, match=r"no IP addresses available in range set: 10\.9\.8\.0/29"):
        pool.allocate("g")


def test_an_address_whose_owner_a_power_failure_took_is_given_again(tmp_path: Path) -> None:
    pool = Addresses(tmp_path, SUBNET)
    for owner in "abcde":
        pool.allocate(owner)
    (file,) = tmp_path.glob("*/10.9.8.3")
    file.write_text("")
    assert str(pool.allocate("f")) == "10.9.8.3"
    assert file.read_text() == "f"


def test_an_engine_that_does_not_know_its_range_yet_gives_addresses_back(tmp_path: Path) -> None:
    for subnet in (SUBNET, ipaddress.ip_network("fd00:1::/64")):
        pool = Addresses(tmp_path, subnet)
        first, second = pool.allocate("first"), pool.allocate("second")
        BridgeNetwork(tmp_path, NetworkOptions()).remove("first")
        kept = {one.name for one in tmp_path.glob("*/*")}
        assert [str(address).replace(":", "-") in kept for address in (first, second)] == [False, True]


def test_rules_masquerade_what_leaves_the_cluster_and_forward_host_ports() -> None:
    options = NetworkOptions(bridge="br", table="t", subnets=("10.1.2.0/24",), cluster_cidrs=("10.1.0.0/16",))
    mappings = {"id": (["10.1.2.3"], [PortMapping(host_port=80, container_port=8080, host_ip="192.0.2.1")])}

    script = rules(options, mappings)

    assert "ip saddr 10.1.2.0/24 ip daddr != { 10.1.0.0/16 } ip daddr != 224.0.0.0/4 masquerade" in script
    assert "meta nfproto ipv4 ip daddr 192.0.2.1 tcp dport 80 dnat ip to 10.1.2.3:8080" in script
    assert script.startswith("table inet t\ndelete table inet t\n")


def test_the_rules_are_good_nftables() -> None:
    options = NetworkOptions(subnets=("10.1.2.0/24", "fd00::/64"), cluster_cidrs=("10.1.0.0/16", "fd00::/48"))
    ports = [
        PortMapping(host_port=53, container_port=5353, protocol="UDP"),
        PortMapping(host_port=80, container_port=8),
    ]
    script = rules(options, {"id": (["10.1.2.3", "fd00::3"], ports)})

    done = subprocess.run(["unshare", "-n", "nft", "-f", "-"], input=script.encode(), capture_output=True, check=False)

    assert done.stderr == b""


async def _serve(node: Node, sandbox: str, port: int = 8080) -> str:
    server = await node.start(sandbox, "/bin/nc", "-ll", "-p", str(port), "-e", "/bin/sh", "-c", "echo hello")
    await node.exec(server, "/bin/sh", "-c", f"while ! netstat -ltn | grep -q :{port}; do :; done")
    return server


async def _ask(host: str, port: int) -> bytes:
    reader, writer = await asyncio.wait_for(asyncio.open_connection(host, port), TIMEOUT)
    try:
        return await asyncio.wait_for(reader.read(), TIMEOUT)
    finally:
        writer.close()


@pytest.mark.root
async def test_a_pod_has_an_address_of_the_nodes_range_and_a_loopback(node: Node) -> None:
    sandbox = await node.sandbox()
    (ip,) = (await node.engine.pod_sandbox_status(sandbox)).ips
    output = await node.sh("ip -4 -o addr; ip route", sandbox=sandbox)

    assert ipaddress.ip_address(ip) in ipaddress.ip_network(node.subnet)
    gateway = str(ipaddress.ip_network(node.subnet).network_address + 1)
    assert "127.0.0.1/8" in output
    assert f"{ip}/32" in output
    assert f"default via {gateway} dev eth0" in output


@pytest.mark.root
async def test_node_and_pods_reach_each_other(node: Node) -> None:
    sandbox = await node.sandbox()
    await _serve(node, sandbox)
    (ip,) = (await node.engine.pod_sandbox_status(sandbox)).ips
    gateway = str(ipaddress.ip_network(node.subnet).network_address + 1)

    assert await _ask(ip, 8080) == b"hello\n"
    assert await node.sh(f"nc -w 5 {ip} 8080 < /dev/null; ping -c1 -W5 {gateway} > /dev/null && echo pong") == (
        "hello\npong\n"
    )


@pytest.mark.root
async def test_an_address_is_free_again_after_the_pod(node: Node) -> None:
    sandbox = await node.sandbox()
    directory = next((node.base / "root" / "network").iterdir())
    (ip,) = (await node.engine.pod_sandbox_status(sandbox)).ips
    assert (directory / ip).read_text() == sandbox

    await node.engine.stop_pod_sandbox(sandbox)

    assert not (directory / ip).exists()
    assert (await node.engine.pod_sandbox_status(sandbox)).ips == []


@pytest.mark.root
async def test_host_ports_lead_to_the_pod(node: Node) -> None:
    port = free_port()
    sandbox = await node.sandbox(port_mappings=[PortMapping(host_port=port, container_port=8080)])
    server = await _serve(node, sandbox)
    gateway = str(ipaddress.ip_network(node.subnet).network_address + 1)

    assert await _ask("127.0.0.1", port) == b"hello\n"
    assert await _ask(gateway, port) == b"hello\n"
    script = f"nc -w 5 {gateway} {port} < /dev/null"
    assert await node.sh(script) == "hello\n"  # from another pod
    assert await node.exec(server, "/bin/sh", "-c", script) == "hello\n"  # from itself

    await node.restart()
    await node.sandbox(port_mappings=[PortMapping(host_port=free_port(), container_port=1)])
    assert await _ask("127.0.0.1", port) == b"hello\n"
    await node.engine.stop_pod_sandbox(sandbox)
    with pytest.raises(OSError):
        await _ask("127.0.0.1", port)


@pytest.mark.root
async def test_without_a_range_the_network_is_not_ready(node: Node) -> None:
    await node.engine.stop()
    node.engine = node.make(subnets=())
    await node.engine.start()
    conditions = {c.type: c.status for c in await node.engine.status()}
    assert conditions == {"RuntimeReady": True, "NetworkReady": False}
    with pytest.raises(CriError, match="cni plugin not initialized"):
        await node.sandbox()
    assert await node.engine.list_pod_sandbox() == []

    await node.engine.update_runtime_config(node.subnet)

    assert {c.type: c.status for c in await node.engine.status()}["NetworkReady"]
    await node.sandbox()


@pytest.mark.root
async def test_both_address_families(node: Node) -> None:
    await node.engine.update_runtime_config(f"{node.subnet},fd00:{node.number:x}::/64")
    first, second = await node.sandbox(), await node.sandbox()
    await node.start(first, "/bin/sleep", "1000")
    (_, ip6) = (await node.engine.pod_sandbox_status(first)).ips

    assert ipaddress.ip_address(ip6).version == 6
    assert await node.sh(f"ping -6 -c1 -W5 {ip6} > /dev/null && echo pong", sandbox=second) == "pong\n"
