"""Pods reach each other, and the node reaches them, over TCP and UDP."""

from __future__ import annotations

import urllib.error

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, Obj, container, pod
from tests.e2e.test_crash import kill, processes
from tests.e2e.test_pod_inside import shell, start
from tests.e2e.test_site import fetch
from tests.support.ports import free_port

pytestmark = [pytest.mark.e2e, pytest.mark.root]

# Busybox knows no UDP: the machine's own Perl does, and every Debian has it.
HOST = ("usr", "lib", "lib64")
SERVING = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
_SERVER = """
use IO::Socket::INET;
my $socket = IO::Socket::INET->new(LocalPort => 8081, Proto => "udp") or die;
while ($socket->recv(my $asked, 100)) { $socket->send($ENV{HOSTNAME}) }
"""
_CLIENT = """
use IO::Socket::INET;
my $socket = IO::Socket::INET->new(PeerAddr => "%s:8081", Proto => "udp", Timeout => 5) or die;
$SIG{ALRM} = sub {};
for (1..60) {
    $socket->send("hostName");
    alarm 1;
    if ($socket->recv(my $said, 100)) { print "$said\\n"; exit 0 }
    select(undef, undef, undef, 0.1);
}
exit 1
"""


def perl(script: str) -> str:
    return f"/usr/bin/perl -e '{script}'"


def on_host_programs(made: Obj) -> Obj:
    """The pod, with what the machine has installed beside what its image brings."""
    spec = made["spec"]
    spec["volumes"] = [*spec.get("volumes", ()), *({"name": path, "hostPath": {"path": f"/{path}"}} for path in HOST)]
    for each in spec["containers"]:
        mounts = [{"name": path, "mountPath": f"/{path}", "readOnly": True} for path in HOST]
        each["volumeMounts"] = [*each.get("volumeMounts", ()), *mounts]
    return made


def test_pods_and_the_node_reach_every_pod(cluster: Cluster, namespace: str) -> None:
    """Conformance: "Networking, intra pod http", "Networking, intra pod udp", "Networking, intra pod http, from
    node"
    """
    serve = f"mkdir /w; hostname > /w/hostName; {perl(_SERVER)} & exec httpd -f -p 8080 -h /w"
    servers = ("netserver-0", "netserver-1")
    start(
        cluster,
        namespace,
        *(on_host_programs(pod(name, container("c", serve, readinessProbe=SERVING))) for name in servers),
        on_host_programs(pod("test-container-pod", container("c", SLEEP))),
        on_host_programs(pod("host-test-container-pod", container("c", SLEEP), hostNetwork=True)),
    )
    pods = cluster.json("-n", namespace, "get", "pods")["items"]
    address = {one["metadata"]["name"]: one["status"]["podIP"] for one in pods}
    for client in ("test-container-pod", "host-test-container-pod"):
        for server in servers:
            http = shell(cluster, namespace, client, f"wget -qO- http://{address[server]}:8080/hostName")
            udp = shell(cluster, namespace, client, perl(_CLIENT % address[server]))
            assert [http, udp] == [f"{server}\n"] * 2


def test_host_ports_lead_to_their_pod_for_as_long_as_it_runs(cluster: Cluster, namespace: str) -> None:
    def serving(name: str, port: int) -> Obj:
        serve = f"mkdir /w; echo {name} > /w/index.html; exec httpd -f -p 8080 -h /w"
        ports = [{"containerPort": 8080, "hostPort": port}]
        return pod(name, container("c", serve, ports=ports, readinessProbe=SERVING))

    ports = {"first": free_port(), "second": free_port()}
    start(cluster, namespace, serving("first", ports["first"]))
    node = cluster.pinnace("ip").stdout.strip()
    for host in ("127.0.0.1", node):
        assert fetch(f"http://{host}:{ports['first']}/") == "first\n"
    assert shell(cluster, namespace, "first", f"wget -qO- http://{node}:{ports['first']}/") == "first\n"

    kill([pid for pid, command in processes(cluster).items() if "cluster.node" in command])
    cluster.pinnace("start")
    start(cluster, namespace, serving("second", ports["second"]))
    for name, port in ports.items():
        assert fetch(f"http://127.0.0.1:{port}/") == f"{name}\n"

    cluster.kubectl("-n", namespace, "delete", "pod", "first")
    with pytest.raises(urllib.error.URLError):
        fetch(f"http://127.0.0.1:{ports['first']}/")
