"""Pods and Services asked by way of the API server, with every method."""

from __future__ import annotations

import http.client
import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import container, pod
from tests.e2e.test_pod_inside import start
from tests.e2e.test_pod_network import on_host_programs, perl

pytestmark = [pytest.mark.e2e, pytest.mark.root]

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
# It says which method and path it was asked with.
_ECHO = r"""
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalPort => 8080, Proto => "tcp", Listen => 9, ReuseAddr => 1) or die;
while (my $peer = $server->accept) {
    my ($method, $path) = split / /, <$peer>;
    while (my $line = <$peer>) { last if $line eq "\r\n" }
    my $said = "$method $path";
    print $peer "HTTP/1.1 200 OK\r\nX-Method: $method\r\nConnection: close\r\n";
    print $peer "Content-Length: ", length $said, "\r\n\r\n";
    print $peer $said unless $method eq "HEAD";
    close $peer;
}
"""


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[str]:
    """The address of a `kubectl proxy`."""
    process = cluster.process("proxy", "--port=0", stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[-1]
    finally:
        process.terminate()
        process.wait()


def ask(proxy: str, method: str, path: str) -> tuple[int, str, str]:
    """Status, method and body of the answer."""
    connection = http.client.HTTPConnection(proxy, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.getheader("X-Method", ""), answer.read().decode()
    finally:
        connection.close()


def test_pods_and_services_answer_by_way_of_the_api_server(cluster: Cluster, namespace: str, proxy: str) -> None:
    """Conformance: "Proxy through apiserver to a Service", "Proxy, validate Proxy responses", "Proxy, validate
    ProxyWithPath responses"
    """
    ready = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
    echo = pod("echo", container("c", perl(_ECHO), readinessProbe=ready), labels={"app": "echo"})
    spec = {"selector": {"app": "echo"}, "ports": [{"name": "portname", "port": 80, "targetPort": 8080}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "echo"}, "spec": spec}
    start(cluster, namespace, service, on_host_programs(echo))
    found = ("wait", "--for=jsonpath={.subsets[0].addresses[0].ip}", "endpoints/echo", "--timeout=30s")
    cluster.kubectl("-n", namespace, *found)

    base = f"/api/v1/namespaces/{namespace}"
    for target in ("pods/echo:8080", "services/echo:portname"):
        for method in METHODS:
            for path in ("", "/", "/some/path/with/" + method):
                status, heard, body = ask(proxy, method, f"{base}/{target}/proxy{path}")
                if not path and method in ("GET", "HEAD"):
                    assert status == 301, (target, method)  # relative links need the slash
                    continue
                assert (status, heard) == (200, method), (target, method, path)
                assert body == ("" if method == "HEAD" else f"{method} {path or '/'}")
    for target in ("services/echo", "services/echo:80", "services/http:echo:portname", "pods/http:echo:8080"):
        assert ask(proxy, "GET", f"{base}/{target}/proxy/a")[2] == "GET /a", target
