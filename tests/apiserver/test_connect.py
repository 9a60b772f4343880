"""What the server passes on: logs and exec to a kubelet it proves itself to, proxy paths to whatever listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from pinnace.apiserver.handlers import log_options
from pinnace.machinery.errors import ApiError
from pinnace.wire.http import Request, Response
from pinnace.wire.server import serve
from pinnace.wire.tls import TlsConfig
from tests.apiserver.conftest import TOKEN, Cluster, pod
from tests.support.ports import free_ports

PODS = "/api/v1/namespaces/default/pods"
WAITING = 'container "waiting" in pod "several" is waiting to start: ContainerCreating'
ANSWERS = {  # what the kubelet says of a container
    "waiting": (400, WAITING.encode()),
    "broken": (500, b"no such file"),
    "gone": (404, b'pod "several" not found'),
}


@pytest.fixture
async def kubelet(cluster: Cluster) -> AsyncIterator[list[Request]]:
    """A kubelet that writes down what it is asked; the node `n1` and the pod `p` on it are there."""
    asked: list[Request] = []

    def handler(request: Request) -> Response:
        asked.append(request)
        status, text = ANSWERS.get(request.path.rpartition("/")[2], (200, b"line\n"))
        return Response(status, (("Content-Type", "text/plain"),), text)

    pki = cluster.pki
    server = await serve(handler, [("127.0.0.1", 0)], TlsConfig(pki / "server.crt", pki / "server.key", pki / "ca.crt"))
    options = cluster.server.options
    options.kubelet_client_certificate = pki / "admin.crt"
    options.kubelet_client_key = pki / "admin.key"
    options.kubelet_certificate_authority = pki / "ca.crt"
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": server.addresses[0][1]}},
    }
    await cluster.request("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}, "status": status})
    await cluster.request("POST", PODS, pod("p", nodeName="n1"))
    try:
        yield asked
    finally:
        await server.close(0)


async def test_logs_come_from_the_kubelet_of_the_pods_node(cluster: Cluster, kubelet: list[Request]) -> None:
    answer = await cluster.call("GET", f"{PODS}/p/log?tailLines=3&timestamps=true")
    assert (answer.status, answer.body) == (200, b"line\n")
    (request,) = kubelet
    assert (request.path, request.params()) == (
        "/containerLogs/default/p/main",
        {"tailLines": "3", "timestamps": "true"},
    )
    assert request.peer.certificate, "the API server shows its client certificate"
    assert "authorization" not in request.headers, "and keeps the caller's token to itself"


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        ("sinceSeconds=0", 422, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ("tailLines=-1", 422, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=0", 422, "limitBytes: Invalid value: 0: must be greater than 0"),
        (
            "sinceSeconds=1&sinceTime=2026-01-01T00:00:00Z",
            422,
            "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        ("stream=Stdout", 422, "stream: Forbidden: may not be specified"),
        ("sinceTime=x", 400, 'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"'),
        ("tailLines=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ],
)
async def test_options_of_logs_that_make_no_sense_are_refused_before_a_kubelet_is_asked(
    cluster: Cluster, kubelet: list[Request], query: str, code: int, message: str
) -> None:
    found = await cluster.call("GET", f"{PODS}/p/log?{query}")
    status = json.loads(found.body)
    expected = f'PodLogOptions "p" is invalid: {message}' if code == 422 else message
    assert (found.status, status["message"]) == (code, expected)
    assert not kubelet


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"stream": "X"}, 'stream: Unsupported value: "X": supported values: "All", "Stderr", "Stdout"'),
        (
            {"stream": "Stdout", "tailLines": "1"},
            "Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
        ),
    ],
)
def test_one_of_two_streams_may_be_chosen_where_that_is_on(params: dict[str, str], message: str) -> None:
    log_options.check("p", {"stream": "Stderr"}, {}, streams=True)
    log_options.check("p", {"stream": "All", "tailLines": "1"}, {"tailLines": 1}, streams=True)
    with pytest.raises(ApiError) as found:
        log_options.check("p", params, {}, streams=True)
    assert str(found.value) == f'PodLogOptions "p" is invalid: {message}'


async def test_who_does_not_answer_is_told_of_in_the_words_of_kubernetes(
    cluster: Cluster, kubelet: list[Request]
) -> None:
    [port] = free_ports(1)
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    await cluster.request("POST", "/api/v1/nodes", {"metadata": {"name": "n2"}, "status": status})
    await cluster.request("POST", PODS, pod("q", nodeName="n2"))
    refused = f"dial tcp 127.0.0.1:{port}: connect: connection refused"

    async def told(path: str) -> tuple[int, str]:
        found = await cluster.call("GET", path)
        return found.status, json.loads(found.body)["message"]

    url = f"https://127.0.0.1:{port}/containerLogs/default/q/main"
    assert await told(f"{PODS}/q/log") == (500, f'Get "{url}": {refused}')
    assert await told("/api/v1/nodes/n2/proxy/pods") == (503, f"error trying to reach service: {refused}")


async def messages(cluster: Cluster, path: str, *subprotocols: str, count: int = 1) -> list[bytes | str]:
    """The first messages of a WebSocket."""
    async with connect(
        f"wss://127.0.0.1:{cluster.port}{path}",
        ssl=cluster.tls,
        subprotocols=[Subprotocol(name) for name in subprotocols] or None,
        additional_headers={"Authorization": f"Bearer {TOKEN}"},
    ) as socket:
        async with asyncio.timeout(60):
            return [await socket.recv() for _ in range(count)]


@pytest.mark.parametrize(
    ("subprotocols", "message"),
    [((), b"line\n"), (("binary.k8s.io",), b"line\n"), (("base64.binary.k8s.io",), "bGluZQo=")],
)
async def test_logs_come_as_messages_too(
    cluster: Cluster, kubelet: list[Request], subprotocols: tuple[str, ...], message: bytes | str
) -> None:
    """Conformance: "Pods, logs from websockets"."""
    found = await messages(cluster, f"{PODS}/p/log", *subprotocols)

    assert found == [message]
    assert "upgrade" not in kubelet[0].headers


async def test_a_watch_comes_as_messages_too(cluster: Cluster) -> None:
    await cluster.request("POST", PODS, pod("a"))
    await cluster.request("POST", PODS, pod("b"))

    found = await messages(cluster, f"{PODS}?watch=1&resourceVersion=0", count=2)

    events = [json.loads(message) for message in found]
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in events] == [
        ("ADDED", "a"),
        ("ADDED", "b"),
    ]


async def test_a_node_is_proxied_to_its_kubelet(cluster: Cluster, kubelet: list[Request]) -> None:
    assert (await cluster.call("GET", "/api/v1/nodes/n1/proxy/healthz?a=b")).status == 200
    assert (kubelet[0].path, kubelet[0].query) == ("/healthz", "a=b")


@pytest.mark.parametrize(
    ("container", "code", "reason", "message"),
    [
        ("waiting", 400, "BadRequest", WAITING),
        ("broken", 500, "InternalError", "Internal error occurred: no such file"),
        ("gone", 404, "NotFound", "the server could not find the requested resource ( pods/log several)"),
    ],
)
async def test_what_a_kubelet_refuses_in_plain_text_becomes_a_status(
    cluster: Cluster, kubelet: list[Request], container: str, code: int, reason: str, message: str
) -> None:
    several = pod("several", nodeName="n1")
    several["spec"]["containers"] = [{"name": name, "image": "i"} for name in ANSWERS]
    await cluster.request("POST", PODS, several)
    answer = await cluster.call("GET", f"{PODS}/several/log?container={container}")
    status = answer.json
    assert (answer.status, status["kind"], status["reason"], status["message"]) == (code, "Status", reason, message)


async def test_a_pod_without_a_node_has_no_logs_yet(cluster: Cluster) -> None:
    await cluster.request("POST", PODS, pod("free"))
    answer = await cluster.call("GET", f"{PODS}/free/log")
    assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("p/log?container=none", 400, "container none is not valid for pod p"),
        ("free/exec?command=ls&stdout=1", 400, "pod free does not have a host assigned"),
        ("none/log", 404, 'pods "none" not found'),
        ("p/exec?command=ls", 400, "you must specify at least one of stdin, stdout, stderr"),
        ("p/exec?stdout=1", 400, "you must specify at least one command for the container"),
    ],
)
async def test_what_cannot_be_passed_on(
    cluster: Cluster, kubelet: list[Request], path: str, code: int, message: str
) -> None:
    await cluster.request("POST", PODS, pod("free"))
    answer = await cluster.call("GET", f"{PODS}/{path}")
    assert (answer.status, answer.json["message"]) == (code, message)


async def test_pods_and_services_are_proxied_to_where_they_listen(cluster: Cluster) -> None:
    asked: list[Request] = []

    def handler(request: Request) -> Response:
        asked.append(request)
        return Response(201, (("X-Own", "yes"),), request.body or b"hello")

    server = await serve(handler, [("127.0.0.1", 0)])
    port = server.addresses[0][1]
    try:
        await cluster.request("POST", PODS, pod("p", nodeName="n1"))
        patch: Any = {"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}
        await cluster.request("PATCH", f"{PODS}/p/status", patch, content_type="application/merge-patch+json")
        answer = await cluster.call("POST", f"{PODS}/p:{port}/proxy/a/b?c=d", b"body")
        assert (answer.status, answer.headers["x-own"], answer.body) == (201, "yes", b"body")
        assert (asked[0].method, asked[0].path, asked[0].query) == ("POST", "/a/b", "c=d")

        service = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}], "clusterIP": "None"}}
        await cluster.request("POST", "/api/v1/namespaces/default/services", service)
        answer = await cluster.call("GET", "/api/v1/namespaces/default/services/s/proxy/")
        assert (answer.status, answer.json["reason"]) == (503, "ServiceUnavailable")
    finally:
        await server.close(0)


async def test_nobody_at_the_other_end_is_503(cluster: Cluster) -> None:
    await cluster.request("POST", PODS, pod("p", nodeName="n1"))
    patch = {"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}}
    await cluster.request("PATCH", f"{PODS}/p/status", patch, content_type="application/merge-patch+json")
    for method, wanted in (("GET", 301), ("HEAD", 301), ("POST", 503)):
        answer = await cluster.call(method, f"{PODS}/p:1/proxy?a=b")
        assert answer.status == wanted
        assert answer.headers.get("location", "") == (f"{PODS}/p:1/proxy/?a=b" if wanted == 301 else "")
    answer = await cluster.call("GET", f"{PODS}/p:1/proxy/")
    assert (answer.status, answer.json["reason"]) == (503, "ServiceUnavailable")
