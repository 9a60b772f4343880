"""Services as pods and nodes reach them: by address, name and node port, with affinity, through changes of type."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, Obj, container, pod
from tests.e2e.test_pod_inside import shell, start
from tests.e2e.test_pod_network import on_host_programs, perl

pytestmark = [pytest.mark.e2e, pytest.mark.root]

WEB = "mkdir /w; hostname > /w/index.html; exec httpd -f -p 80 -h /w"
READY = {"httpGet": {"port": 80}, "periodSeconds": 1}
SERVERS = ("one", "two", "three")
# What serves under a name and port, by a program that looks names up and fetches.
_ASK = r"printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 3 {} {} | tail -n 1"


def service(name: str, **spec: Any) -> Obj:
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def web(name: str, **spec: Any) -> Obj:
    return pod(name, container("c", WEB, readinessProbe=READY), labels={"app": "web"}, **spec)


def make(cluster: Cluster, namespace: str, *services: Obj) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": services}
    cluster.kubectl("-n", namespace, "create", "-f", "-", stdin=json.dumps(items))


def change(cluster: Cluster, namespace: str, name: str, **spec: Any) -> Obj:
    """The Service's spec after a merge patch of it."""
    patch = json.dumps({"spec": spec})
    cluster.kubectl("-n", namespace, "patch", "service", name, "--type=merge", "-p", patch)
    return spec_of(cluster, namespace, name)


def spec_of(cluster: Cluster, namespace: str, name: str) -> Obj:
    found: Obj = cluster.json("-n", namespace, "get", "service", name)["spec"]
    return found


def node_ip(cluster: Cluster) -> str:
    addresses = cluster.json("get", "nodes")["items"][0]["status"]["addresses"]
    return next(str(one["address"]) for one in addresses if one["type"] == "InternalIP")


def is_served(cluster: Cluster, namespace: str, host: str, port: int) -> bool:
    """Whether a server is reached there, now or once the rules lead to it."""
    script = f'until said=$({_ASK.format(host, port)}) && [ -n "$said" ]; do sleep 0.1; done; echo $said'
    return shell(cluster, namespace, "client", script).strip() in SERVERS


def who_serve(cluster: Cluster, namespace: str, host: str, port: int, least: int, most: int) -> None:
    """Wait until of 15 requests in a row between so many servers have a part."""
    one = f"for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do wget -qO- http://{host}:{port}; done | sort -u | wc -l"
    shell(cluster, namespace, "client", f"until n=$({one}); [ $n -ge {least} ] && [ $n -le {most} ]; do :; done")


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Any:
    """A namespace with three servers and a client."""
    name = "services"
    cluster.kubectl("create", "namespace", name)
    start(cluster, name, *map(web, SERVERS), pod("client", container("c", SLEEP)))
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_affinity_can_be_switched(cluster: Cluster, site: str, kind: str) -> None:
    """Conformance: "Service, NodePort type, session affinity to ClientIP", "Service, NodePort type, session affinity to
    None", "Service, ClusterIP type, session affinity to None"
    """
    name = f"sticky-{kind.lower()}"
    make(cluster, site, service(name, type=kind, sessionAffinity="ClientIP"))
    spec = spec_of(cluster, site, name)
    places = [(spec["clusterIP"], 80)]
    if kind == "NodePort":
        places.append((node_ip(cluster), spec["ports"][0]["nodePort"]))
    for affinity, least, most in (("ClientIP", 1, 1), ("None", 2, 3), ("ClientIP", 1, 1)):
        change(cluster, site, name, sessionAffinity=affinity)
        for place in places:
            who_serve(cluster, site, *place, least, most)
    assert is_served(cluster, site, name, 80)


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_affinity_ends_with_its_time(cluster: Cluster, site: str, kind: str) -> None:
    """Conformance: "Service, NodePort type, session affinity to ClientIP with timeout", "Service, ClusterIP type,
    session affinity to ClientIP with timeout"
    """
    name, seconds = f"brief-{kind.lower()}", 1
    config = {"clientIP": {"timeoutSeconds": seconds}}
    make(cluster, site, service(name, type=kind, sessionAffinity="ClientIP", sessionAffinityConfig=config))
    spec = spec_of(cluster, site, name)
    host, port = (spec["clusterIP"], 80) if kind == "ClusterIP" else (node_ip(cluster), spec["ports"][0]["nodePort"])
    assert is_served(cluster, site, name, 80)
    who_serve(cluster, site, host, port, 1, 1)
    # Whoever asks again after the time may be led to another.
    fetch = f"wget -qO- http://{host}:{port}"
    shell(
        cluster, site, "client", f"first=$({fetch}); until sleep {seconds + 0.2}; [ $({fetch}) != $first ]; do :; done"
    )


def test_a_node_port_leads_in_by_name_address_and_node(cluster: Cluster, site: str) -> None:
    """Conformance: "Service, NodePort Service" """
    make(cluster, site, service("open", type="NodePort"))
    spec = spec_of(cluster, site, "open")
    for host, port in (("open", 80), (spec["clusterIP"], 80), (node_ip(cluster), spec["ports"][0]["nodePort"])):
        assert is_served(cluster, site, host, port)


EXTERNAL = {"type": "ExternalName", "externalName": "example.com", "ports": None}


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_a_service_becomes_an_alias(cluster: Cluster, site: str, kind: str) -> None:
    """Conformance: "Service, change type, ClusterIP to ExternalName", "Service, change type, NodePort to
    ExternalName"
    """
    target, name = f"target-{kind.lower()}", f"alias-{kind.lower()}"
    make(cluster, site, service(target), service(name, type=kind))
    before = spec_of(cluster, site, name)
    assert before["clusterIP"]
    zone = f"{site}.svc.cluster.local"
    after = change(cluster, site, name, type="ExternalName", externalName=f"{target}.{zone}")
    assert not {"clusterIP", "clusterIPs"} & after.keys()
    assert "nodePort" not in after["ports"][0]
    address = spec_of(cluster, site, target)["clusterIP"]
    script = f"until nslookup -type=a {name}.{zone} | grep -q 'Address: {address}'; do sleep 0.1; done"
    shell(cluster, site, "client", script)
    if kind == "NodePort":  # its port can be had again
        port = before["ports"][0]["nodePort"]
        again = service("again", type="NodePort", ports=[{"port": 80, "nodePort": port}])
        make(cluster, site, again)


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort"])
def test_an_alias_becomes_a_service(cluster: Cluster, site: str, kind: str) -> None:
    """Conformance: "Service, change type, ExternalName to ClusterIP", "Service, change type, ExternalName to
    NodePort"
    """
    name = f"was-alias-{kind.lower()}"
    make(cluster, site, service(name, **EXTERNAL))
    assert "clusterIP" not in spec_of(cluster, site, name)
    ports = [{"port": 80, "protocol": "TCP"}]
    spec = change(cluster, site, name, type=kind, externalName=None, ports=ports)
    places = [(name, 80), (spec["clusterIP"], 80)]
    if kind == "NodePort":
        places.append((node_ip(cluster), spec["ports"][0]["nodePort"]))
    for host, port in places:
        assert is_served(cluster, site, host, port)


_UDP = """
use IO::Socket::INET;
my $socket = IO::Socket::INET->new(LocalPort => 80, Proto => "udp") or die;
while ($socket->recv(my $asked, 100)) { $socket->send("datagram") }
"""
# An answer ends it well, a refusal badly; silence is asked again.
_ASK_UDP = """
use IO::Socket::INET;
my $socket = IO::Socket::INET->new(PeerAddr => "%s:80", Proto => "udp") or die;
$SIG{ALRM} = sub {};
while (1) {
    $socket->send("?");
    alarm 1;
    if (defined $socket->recv(my $said, 100)) { exit 0 }
    exit 1 if $!{ECONNREFUSED};
}
"""


def test_one_port_may_serve_two_protocols(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Service, should serve endpoints on same port and different protocols." """
    both = [{"name": name, "port": 80, "protocol": name.upper()} for name in ("tcp", "udp")]
    serve = f"{perl(_UDP)} & {WEB}"
    start(
        cluster,
        namespace,
        service("both", ports=both),
        on_host_programs(pod("one", container("c", serve, readinessProbe=READY), labels={"app": "web"})),
        on_host_programs(pod("client", container("c", SLEEP))),
    )
    address = spec_of(cluster, namespace, "both")["clusterIP"]
    asked = {"tcp": f"wget -qO- http://{address} > /dev/null", "udp": f"{perl(_ASK_UDP % address)} 2> /dev/null"}

    def wait(protocol: str, word: str) -> None:
        shell(cluster, namespace, "client", f"{word} {asked[protocol]}; do sleep 0.1; done")

    wait("tcp", "until")
    wait("udp", "until")
    change(cluster, namespace, "both", ports=both[:1])
    wait("udp", "while")
    wait("tcp", "until")
    change(cluster, namespace, "both", ports=both[1:])
    wait("tcp", "while")
    wait("udp", "until")


def test_pods_find_the_cluster_and_each_other_by_name(cluster: Cluster, namespace: str) -> None:
    """Conformance: "DNS, cluster", "DNS, resolve the hostname", "DNS, resolve the subdomain" """
    start(
        cluster,
        namespace,
        service("inner", clusterIP="None"),
        web("server", hostname="querier", subdomain="inner"),
        pod("client", container("c", SLEEP)),
    )
    api = cluster.json("get", "service", "kubernetes")["spec"]["clusterIP"]
    address = cluster.json("-n", namespace, "get", "pod", "server")["status"]["podIP"]
    zone = f"{namespace}.svc.cluster.local"
    for name, found in (
        ("kubernetes.default.svc.cluster.local", api),
        (f"inner.{zone}", address),
        (f"querier.inner.{zone}", address),
    ):
        script = f"until nslookup -type=a {name} | grep -q '^Address: {found}$'; do sleep 0.1; done"
        shell(cluster, namespace, "client", script)
    shell(cluster, namespace, "client", "nc -w 5 kubernetes.default 443 < /dev/null")
    hosts = shell(cluster, namespace, "server", "cat /etc/hosts; hostname -f").splitlines()
    assert f"{address}\tquerier.inner.{zone}\tquerier" in hosts
    assert hosts[-1] == f"querier.inner.{zone}"


def test_the_api_server_is_found_behind_its_service(cluster: Cluster) -> None:
    """Conformance: "kubernetes.default Endpoints and EndpointSlices" """
    [subset] = cluster.json("get", "endpoints", "kubernetes")["subsets"]
    slices = cluster.json("get", "endpointslices", "-l", "kubernetes.io/service-name=kubernetes")["items"]
    [one] = slices
    assert [address["ip"] for address in subset["addresses"]] == [node_ip(cluster)]
    assert [address for end in one["endpoints"] for address in end["addresses"]] == [node_ip(cluster)]
    assert [port["port"] for port in one["ports"]] == [port["port"] for port in subset["ports"]]
