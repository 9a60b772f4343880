"""Real packets: a node, pods and a stranger, each a network namespace; the proxy runs in the node's.

Sockets belong to the namespace of the thread that made them, so clients and servers are threads of the test.
"""

import asyncio
import ctypes
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import pytest

from pinnace.proxy import proxier
from pinnace.proxy.nftables import RuleOptions, for_ipv6
from pinnace.proxy.proxier import Proxier, ProxyOptions

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="makes network namespaces"),
    pytest.mark.skipif(not shutil.which("nft") or not shutil.which("ip"), reason="needs nft and ip"),
]

T = TypeVar("T")
CLONE_NEWNET = 0x40000000
NODE_IP = "192.0.2.10"
GATEWAY = "10.244.0.1"
NODE_IP6 = "2001:db8::10"
GATEWAY6 = "fd00:244::1"
HAS_IPV6 = Path("/proc/net/if_inet6").exists()
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace, held by its own worker thread."""

    def __init__(self, name: str) -> None:
        self.name = f"pnx{os.getpid() % 100000}-{name}"
        run("ip", "netns", "add", self.name)
        self.path = Path("/run/netns") / self.name
        self._pool = ThreadPoolExecutor(8, initializer=self._enter)
        self.ip("link", "set", "lo", "up")

    def _enter(self) -> None:
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            assert _libc.setns(descriptor, CLONE_NEWNET) == 0
        finally:
            os.close(descriptor)

    def submit(self, function: Callable[..., T], *args: Any) -> Any:
        return self._pool.submit(function, *args)

    def call(self, function: Callable[..., T], *args: Any) -> T:
        return self._pool.submit(function, *args).result(timeout=60)

    def ip(self, *args: str) -> None:
        run("ip", "-netns", self.name, *args)

    def close(self) -> None:
        self._pool.shutdown(wait=True)
        run("ip", "netns", "del", self.name)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Servers:
    """A TCP and a UDP server on one port: they answer with their name and the address they were asked from."""

    def __init__(self, name: str, port: int, udp_address: str = "", family: int = socket.AF_INET) -> None:
        self._name = name
        self._tcp = socket.create_server(("", port), family=family)
        self._udp = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            self._udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self._udp.bind((udp_address, port))  # with several addresses, replies must leave from the one asked
        for serve in (self._serve_tcp, self._serve_udp):
            threading.Thread(target=serve, daemon=True).start()

    def _serve_tcp(self) -> None:
        while True:
            try:
                connection, peer = self._tcp.accept()
            except OSError:
                return
            with connection:
                connection.sendall(f"{self._name} {peer[0]}".encode())

    def _serve_udp(self) -> None:
        while True:
            data, peer = self._udp.recvfrom(100)
            if data == b"stop":
                self._udp.close()
                return
            self._udp.sendto(f"{self._name} {peer[0]}".encode(), peer)

    def close(self) -> None:
        self._tcp.shutdown(socket.SHUT_RDWR)
        self._tcp.close()
        try:
            self._udp.sendto(b"stop", self._udp.getsockname())
        except OSError:
            self._udp.close()


def fetch(address: str, port: int, timeout: float = 20) -> str:
    """What the server at an address says; raises as connect(2) does."""
    with socket.create_connection((address, port), timeout) as connection:
        return connection.recv(100).decode()


def fetch_at_last(address: str, port: int) -> str:
    """The same, as soon as the server can be reached."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return fetch(address, port)
        except OSError:
            if time.monotonic() > deadline:
                raise


def ask_udp(address: str, port: int, source: socket.socket | None = None) -> str:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with source or socket.socket(family, socket.SOCK_DGRAM) as asking:
        asking.settimeout(20)
        asking.connect((address, port))
        asking.send(b"?")
        return asking.recv(100).decode()


class Network:
    """The node with a bridge, two pods on it, and a stranger outside."""

    def __init__(self, stack: ExitStack) -> None:
        self.node, self.pod1, self.pod2, self.stranger = (self._namespace(stack, n) for n in ("n", "p1", "p2", "s"))
        self.node.ip("link", "add", "br0", "type", "bridge")
        self.node.ip("addr", "add", f"{GATEWAY}/24", "dev", "br0")
        self.node.ip("link", "set", "br0", "up")
        for number, pod in ((2, self.pod1), (3, self.pod2)):
            self._link(pod, f"10.244.0.{number}/24", f"veth{number}", GATEWAY)
            self.node.ip("link", "set", f"veth{number}", "master", "br0")
            # What br_netfilter makes of a pod that asks itself goes out where it came in.
            self.node.call(run, "bridge", "link", "set", "dev", f"veth{number}", "hairpin", "on")
        self._link(self.stranger, "192.0.2.20/24", "eth0", NODE_IP)
        self.node.ip("addr", "add", f"{NODE_IP}/24", "dev", "eth0")
        self.node.call(Path("/proc/sys/net/ipv4/ip_forward").write_text, "1")
        for name, place, address in (("one", self.pod1, ""), ("two", self.pod2, ""), ("host", self.node, NODE_IP)):
            stack.callback(place.call(Servers, name, 8080, address).close)
        if HAS_IPV6:
            self._add_ipv6(stack)

    def _add_ipv6(self, stack: ExitStack) -> None:
        """Everybody has an address of the other family, too."""
        self.node.call(Path("/proc/sys/net/ipv6/conf/all/forwarding").write_text, "1")
        for place, address, name, gateway in (
            (self.node, GATEWAY6, "br0", ""),
            (self.node, NODE_IP6, "eth0", ""),
            (self.pod1, "fd00:244::2", "eth0", GATEWAY6),
            (self.pod2, "fd00:244::3", "eth0", GATEWAY6),
            (self.stranger, "2001:db8::20", "eth0", NODE_IP6),
        ):
            place.ip("addr", "add", f"{address}/64", "dev", name, "nodad")
            if gateway:
                place.ip("-6", "route", "add", "default", "via", gateway)
        for name, place in (("one", self.pod1), ("two", self.pod2)):
            stack.callback(place.call(Servers, name, 8080, "", socket.AF_INET6).close)

    def _namespace(self, stack: ExitStack, name: str) -> Namespace:
        made = Namespace(name)
        stack.callback(made.close)
        return made

    def _link(self, there: Namespace, address: str, name: str, gateway: str) -> None:
        """A wire from the node, where its end is called `name`."""
        peer = ["peer", "name", "eth0", "netns", there.name]
        self.node.ip("link", "add", name, "type", "veth", *peer)
        there.ip("addr", "add", address, "dev", "eth0")
        there.ip("link", "set", "eth0", "up")
        self.node.ip("link", "set", name, "up")
        there.ip("route", "add", "default", "via", gateway)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with ExitStack() as stack:
        yield Network(stack)


class Running:
    """The proxy in a thread of the node, with its own event loop; changes are made there too."""

    def __init__(self, network: Network, api: Any, *, dual: bool = False, **rules: Any) -> None:
        self._api = api
        self._ready = threading.Event()
        defaults = {"table": "test", "bridge": "br0", "interfaces": ("br0", "eth0"), "cluster_cidr": "10.244.0.0/16"}
        four = RuleOptions(**{**defaults, **rules})
        six = for_ipv6(four, "fd00:244::/56") if dual else None
        cidrs = ["10.96.0.0/16", *(["fd00:96::/112"] if dual else [])]
        self._options = ProxyOptions(rules=four, rules6=six, service_cidrs=cidrs)
        self._done = network.node.submit(asyncio.run, self._main())
        assert self._ready.wait(60)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.proxier = Proxier(self._api.client, "n1", self._options)
        task = asyncio.create_task(self.proxier.run())
        await asyncio.wait_for(self.proxier.synced.wait(), 60)
        self._ready.set()
        await self._stop.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self.proxier.cleanup()

    def change(self, *put: Any, delete: tuple[Any, ...] = ()) -> None:
        """Change objects and return when the rules reflect it."""
        asyncio.run_coroutine_threadsafe(self._change(put, delete), self._loop).result(timeout=60)

    async def _change(self, put: tuple[Any, ...], delete: tuple[Any, ...]) -> None:
        for obj in put:
            self._api.put(obj)
        for obj in delete:
            self._api.delete(obj)
        pieces = sum(len(known) for known in self._api._objects.values())
        while True:
            self.proxier.synced.clear()
            await asyncio.wait_for(self.proxier.synced.wait(), 60)
            proxier = self.proxier
            if len(proxier._services.store) + len(proxier._slices.store) == pieces and not proxier._changed.is_set():
                return

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._done.result(timeout=60)


@pytest.fixture
def proxy(network: Network, api) -> Iterator[Running]:
    running = Running(network, api)
    try:
        yield running
    finally:
        running.stop()


def test_a_cluster_ip_works_from_pods_and_from_the_host(network: Network, proxy: Running, make) -> None:
    proxy.change(make.service(), make.slice("web", "10.244.0.2", "10.244.0.3"))
    seen = {network.pod1.call(fetch, "10.96.0.10", 80).split()[0] for _ in range(24)}
    assert seen == {"one", "two"}
    seen = {network.node.call(fetch, "10.96.0.10", 80).split()[0] for _ in range(24)}
    assert seen == {"one", "two"}


def test_a_pod_keeps_its_address_towards_another_and_reaches_itself(network: Network, proxy: Running, make) -> None:
    proxy.change(make.service(), make.slice("web", "10.244.0.3"))
    assert network.pod1.call(fetch, "10.96.0.10", 80) == "two 10.244.0.2"
    assert network.pod2.call(fetch, "10.96.0.10", 80) == f"two {GATEWAY}"  # hairpin


def test_udp_works(network: Network, proxy: Running, make) -> None:
    proxy.change(make.service(ports=((53, "UDP", 30053),)), make.slice("web", "10.244.0.3", protocol="UDP"))
    assert network.pod1.call(ask_udp, "10.96.0.10", 53) == "two 10.244.0.2"
    assert network.node.call(ask_udp, "127.0.0.1", 30053).startswith("two")


def test_a_node_port_is_open_on_every_address(network: Network, proxy: Running, make) -> None:
    proxy.change(make.service(ports=((80, "TCP", 30080),)), make.slice("web", "10.244.0.2"))
    for place, address in (
        (network.node, "127.0.0.1"),
        (network.node, NODE_IP),
        (network.node, GATEWAY),
        (network.pod1, NODE_IP),
        (network.pod2, NODE_IP),
        (network.stranger, NODE_IP),
    ):
        assert place.call(fetch, address, 30080).startswith("one"), (place.name, address)


def test_a_local_external_policy_shows_who_asks(network: Network, proxy: Running, make) -> None:
    service = make.service(ports=((80, "TCP", 30080),), externalTrafficPolicy="Local")
    proxy.change(service, make.slice("web", "10.244.0.2"))
    assert network.stranger.call(fetch, NODE_IP, 30080) == "one 192.0.2.20"


def test_a_local_external_policy_without_local_endpoints_is_silent(network: Network, proxy: Running, make) -> None:
    service = make.service(ports=((80, "TCP", 30080),), externalTrafficPolicy="Local")
    proxy.change(service, make.slice("web", ("10.244.0.2", "elsewhere", {})))
    with pytest.raises(TimeoutError):
        network.stranger.call(fetch, NODE_IP, 30080, 0.3)
    assert network.node.call(fetch, NODE_IP, 30080).startswith("one")


def test_external_addresses_lead_in(network: Network, proxy: Running, make) -> None:
    proxy.change(make.service(externalIPs=["203.0.113.7"]), make.slice("web", "10.244.0.2"))
    assert network.stranger.call(fetch, "203.0.113.7", 80).startswith("one")
    assert network.pod2.call(fetch, "203.0.113.7", 80).startswith("one")


def test_a_service_without_endpoints_refuses_at_once(network: Network, proxy: Running, make) -> None:
    proxy.change(make.service(ports=((80, "TCP", 30080),)))
    for place, address, port in (
        (network.pod1, "10.96.0.10", 80),
        (network.node, "10.96.0.10", 80),
        (network.node, "127.0.0.1", 30080),
        (network.stranger, NODE_IP, 30080),
    ):
        with pytest.raises(ConnectionRefusedError):
            place.call(fetch, address, port)


def test_a_port_that_no_service_has_refuses(network: Network, proxy: Running, make) -> None:
    proxy.change(make.service(), make.slice("web", "10.244.0.2"))
    for place in (network.pod1, network.node):
        with pytest.raises(ConnectionRefusedError):
            place.call(fetch, "10.96.0.10", 81)


def test_the_hosts_own_server_is_an_endpoint_like_any_other(network: Network, proxy: Running, make) -> None:
    """As the API server is, behind `kubernetes.default`."""
    proxy.change(make.service("kubernetes", "10.96.0.1", ports=((443, "TCP", 0),)), make.slice("kubernetes", NODE_IP))
    assert network.pod1.call(fetch, "10.96.0.1", 443) == "host 10.244.0.2"
    assert network.node.call(fetch, "10.96.0.1", 443).startswith("host")


def test_the_clusters_dns_server_may_be_on_the_host(network: Network, proxy: Running, make) -> None:
    service = make.service("kube-dns", "10.96.0.53", ports=((53, "UDP", 0),))
    proxy.change(service, make.slice("kube-dns", NODE_IP, protocol="UDP"))
    assert network.pod1.call(ask_udp, "10.96.0.53", 53) == "host 10.244.0.2"
    assert network.node.call(ask_udp, "10.96.0.53", 53).startswith("host")


BRIDGE_NETFILTER = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")


@pytest.mark.parametrize("possible", [True, False])
def test_pods_on_one_bridge_hear_each_other(
    network: Network, api, make, monkeypatch: pytest.MonkeyPatch, possible: bool
) -> None:
    """With br_netfilter, which is switched on; without it, by masquerading."""
    if not BRIDGE_NETFILTER.exists():
        pytest.skip("no br_netfilter")
    if not possible:
        monkeypatch.setitem(proxier._BRIDGE_NETFILTER, "IPv4", Path("/proc/sys/net/bridge/nosuch"))
    network.node.call(BRIDGE_NETFILTER.write_text, "0")
    running = Running(network, api)
    try:
        running.change(make.service(), make.slice("web", "10.244.0.3"))
        source = "10.244.0.2" if possible else GATEWAY
        assert network.pod1.call(fetch, "10.96.0.10", 80) == f"two {source}"
        assert network.pod2.call(fetch, "10.96.0.10", 80) == f"two {GATEWAY}"
    finally:
        running.stop()
        network.node.call(BRIDGE_NETFILTER.write_text, "1")


def test_affinity_keeps_a_client_with_its_endpoint_through_changes(network: Network, proxy: Running, make) -> None:
    service = make.service(sessionAffinity="ClientIP")
    proxy.change(service, make.slice("web", "10.244.0.2", "10.244.0.3"))
    first = network.stranger.call(fetch, "10.96.0.10", 80).split()[0]
    assert {network.stranger.call(fetch, "10.96.0.10", 80).split()[0] for _ in range(12)} == {first}
    proxy.change(make.service("other", "10.96.0.11"))
    assert {network.stranger.call(fetch, "10.96.0.10", 80).split()[0] for _ in range(12)} == {first}


def test_an_endpoint_that_leaves_gets_no_more(network: Network, proxy: Running, make) -> None:
    proxy.change(make.service(), make.slice("web", "10.244.0.2", "10.244.0.3"))
    proxy.change(make.slice("web", "10.244.0.3"))
    assert {network.pod1.call(fetch, "10.96.0.10", 80).split()[0] for _ in range(8)} == {"two"}
    proxy.change(delete=(make.service(),))
    with pytest.raises(OSError):
        network.pod1.call(fetch, "10.96.0.10", 80, 0.3)


def test_a_udp_client_moves_on_when_its_endpoint_leaves(network: Network, proxy: Running, make) -> None:
    proxy.change(make.service(ports=((53, "UDP", 0),)), make.slice("web", "10.244.0.2", protocol="UDP"))

    def open_source() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.bind(("", 40053))
        return made

    assert network.stranger.call(ask_udp, "10.96.0.10", 53, network.stranger.call(open_source)).startswith("one")
    proxy.change(make.slice("web", "10.244.0.3", protocol="UDP"))
    assert network.stranger.call(ask_udp, "10.96.0.10", 53, network.stranger.call(open_source)).startswith("two")


def test_two_clusters_share_a_host(network: Network, proxy: Running, api, make) -> None:
    proxy.change(make.service(), make.slice("web", "10.244.0.2"))
    other_api = type(api)()
    other = Running(network, other_api, table="other", bridge="br9", interfaces=("br9",), localhost_node_ports=False)
    try:
        other.change(make.service("app", "10.97.0.10"), make.slice("app", "10.244.0.3"))
        assert network.node.call(fetch, "10.96.0.10", 80).startswith("one")
        with pytest.raises(OSError):
            network.pod1.call(fetch, "10.97.0.10", 80, 0.3)  # comes in by a bridge that is not the other cluster's
    finally:
        other.stop()


def test_the_loopback_of_the_host_stays_closed(network: Network, proxy: Running) -> None:
    network.pod1.ip("route", "add", "127.0.0.1", "via", GATEWAY, "table", "7")
    network.pod1.ip("rule", "add", "to", "127.0.0.1", "ipproto", "tcp", "dport", "8080", "lookup", "7", "pref", "0")
    network.pod1.ip("rule", "del", "pref", "0", "table", "local")
    network.pod1.ip("rule", "add", "pref", "1", "table", "local")
    try:
        with pytest.raises(OSError):
            network.pod1.call(fetch, "127.0.0.1", 8080, 0.3)
    finally:
        network.pod1.ip("rule", "del", "pref", "0", "table", "7")


def test_rules_that_somebody_flushed_come_back(network: Network, proxy: Running, make) -> None:
    proxy.change(make.service(), make.slice("web", "10.244.0.2"))
    network.node.call(run, "nft", "flush", "ruleset")
    proxy.change(make.slice("web", "10.244.0.3"))
    assert network.pod1.call(fetch, "10.96.0.10", 80).startswith("two")


def test_the_host_reaches_cluster_ips_when_the_bridge_comes_after_the_rules(
    network: Network, api, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxier, "_CHECK", 0.05)
    running = Running(network, api, bridge="br7", interfaces=("br7", "br0"))
    try:
        running.change(make.service(), make.slice("web", "10.244.0.2"))
        with pytest.raises(OSError, match="unreachable"):
            network.node.call(fetch, "10.96.0.10", 80)
        network.node.ip("link", "add", "br7", "type", "bridge")
        network.node.ip("link", "set", "br7", "up")
        assert network.node.call(fetch_at_last, "10.96.0.10", 80).startswith("one")
    finally:
        running.stop()
        network.node.ip("link", "del", "br7")


@pytest.fixture
def dual(network: Network, api) -> Iterator[Running]:
    """A proxy of both families."""
    if not HAS_IPV6:
        pytest.skip("the kernel has no IPv6")
    running = Running(network, api, dual=True)
    try:
        yield running
    finally:
        running.stop()


SIX = "fd00:96::10"


def both_families(make, **spec: Any) -> tuple[Any, Any, Any]:
    """A Service with an address of each family, and the slices behind it."""
    service = make.service(clusterIPs=["10.96.0.10", SIX], ipFamilies=["IPv4", "IPv6"], **spec)
    protocol = service["spec"]["ports"][0]["protocol"]
    four = make.slice("web", "10.244.0.2", "10.244.0.3", protocol=protocol)
    six = make.slice("web", "fd00:244::2", "fd00:244::3", protocol=protocol)
    six["metadata"]["name"] += "-6"
    six["addressType"] = "IPv6"
    return service, four, six


def test_a_service_of_both_families_is_reached_in_each(network: Network, dual: Running, make) -> None:
    dual.change(*both_families(make, ports=((80, "TCP", 30080),)))
    for address in ("10.96.0.10", SIX):
        for place in (network.pod1, network.node):
            assert {place.call(fetch, address, 80).split()[0] for _ in range(24)} == {"one", "two"}, (place, address)
    for place, address in ((network.stranger, NODE_IP), (network.stranger, NODE_IP6), (network.pod1, NODE_IP6)):
        assert place.call(fetch, address, 30080).split()[0] in ("one", "two"), (place.name, address)


def test_rules_of_ipv6_do_what_those_of_ipv4_do(network: Network, dual: Running, make) -> None:
    service, four, six = both_families(make, sessionAffinity="ClientIP", ports=((80, "TCP", 30080),))
    dual.change(service, four, six)
    assert len({network.pod1.call(fetch, SIX, 80).split()[0] for _ in range(12)}) == 1
    six["endpoints"] = six["endpoints"][1:]
    dual.change(six)
    assert network.pod1.call(fetch, SIX, 80) == "two fd00:244::2"
    assert network.pod2.call(fetch, SIX, 80) == f"two {GATEWAY6}"  # hairpin
    with pytest.raises(ConnectionRefusedError):
        network.pod1.call(fetch, SIX, 81)
    dual.change(delete=(six,))
    for place, address, port in ((network.pod1, SIX, 80), (network.node, SIX, 80), (network.stranger, NODE_IP6, 30080)):
        with pytest.raises(ConnectionRefusedError):
            place.call(fetch, address, port)
    assert network.pod1.call(fetch, "10.96.0.10", 80), "the other family has endpoints still"


def test_a_udp_client_of_ipv6_moves_on_when_its_endpoint_leaves(network: Network, dual: Running, make) -> None:
    service, four, six = both_families(make, ports=((53, "UDP", 0),))
    one, two = six["endpoints"]
    dual.change(service, four, {**six, "endpoints": [one]})

    def open_source() -> socket.socket:
        made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.bind(("", 40054))
        return made

    assert network.stranger.call(ask_udp, SIX, 53, network.stranger.call(open_source)).startswith("one")
    dual.change({**six, "endpoints": [two]})
    assert network.stranger.call(ask_udp, SIX, 53, network.stranger.call(open_source)).startswith("two")


@pytest.mark.parametrize("families", [1, 2])
def test_nothing_is_left_behind(network: Network, api, make, families: int) -> None:
    running = Running(network, api, dual=families == 2 and HAS_IPV6)
    running.change(make.service(), make.slice("web", "10.244.0.2"))
    running.stop()
    listed = network.node.call(lambda: subprocess.run(["nft", "list", "tables"], capture_output=True, text=True).stdout)
    assert listed == ""
