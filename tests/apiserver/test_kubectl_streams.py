"""kubectl's streams through the API server to a kubelet: requests go over HTTP/2, what is upgraded over HTTP/1.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pinnace.wire.http import AnyResponse, Request, Response, StreamingResponse, Writer
from pinnace.wire.http1 import Http1Connection
from pinnace.wire.http2 import Http2Connection
from pinnace.wire.server import serve
from pinnace.wire.streams import RemoteStreams, port_forward, remote_command
from pinnace.wire.tls import TlsConfig
from tests.apiserver.conftest import Cluster, pod
from tests.apiserver.test_kubectl import KUBECTL, kubeconfig, kubectl

__all__ = ["kubeconfig"]  # a fixture

pytestmark = pytest.mark.skipif(not KUBECTL, reason="needs kubectl")

PODS = "/api/v1/namespaces/default/pods"
PATIENCE = 60.0


class Container:
    """What runs in the pod, and how it is reached."""

    def __init__(self) -> None:
        self.more = asyncio.Event()  # the log goes on
        self.port = 0

    def answer(self, request: Request) -> AnyResponse:
        what = request.path.split("/")[1]
        if what == "containerLogs":
            return StreamingResponse(self.log, 200, (("Content-Type", "text/plain"),))
        if what in ("exec", "attach"):
            return remote_command(request, self.shout, stdin=request.params().get("input") == "1", stdout=True,
                                  stderr=True, tty=False)  # fmt: skip
        if what == "portForward":
            return port_forward(request, self.dial, pod="p")
        return Response(404)

    async def log(self, writer: Writer) -> None:
        writer.write(b"first line\n")
        await self.more.wait()
        writer.write(b"last line\n")

    async def shout(self, streams: RemoteStreams) -> int:
        assert streams.stdout is not None
        if streams.stdin is None:
            streams.stdout.write(b"no input\n")
            return 3
        while data := await streams.stdin.read():
            streams.stdout.write(data.upper())
            await streams.stdout.drain()
        return 0

    async def dial(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert port == 80
        return await asyncio.open_connection("127.0.0.1", self.port)


@pytest.fixture
async def container(cluster: Cluster) -> AsyncIterator[Container]:
    """The pod `p`, running on a node whose kubelet reaches it."""
    found = Container()
    pki = cluster.pki
    tls = TlsConfig(pki / "server.crt", pki / "server.key", pki / "ca.crt")
    kubelet = await serve(found.answer, [("127.0.0.1", 0)], tls)
    inside = await asyncio.start_server(echo, "127.0.0.1", 0)
    found.port = inside.sockets[0].getsockname()[1]
    options = cluster.server.options
    options.kubelet_client_certificate = pki / "admin.crt"
    options.kubelet_client_key = pki / "admin.key"
    options.kubelet_certificate_authority = pki / "ca.crt"
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.addresses[0][1]}},
    }
    await cluster.request("POST", "/api/v1/nodes", {"metadata": {"name": "n1"}, "status": status})
    await cluster.request("POST", PODS, pod("p", nodeName="n1"))
    ready = {"type": "Ready", "status": "True"}
    running = {"status": {"phase": "Running", "conditions": [ready]}}
    await cluster.request("PATCH", f"{PODS}/p/status", running, content_type="application/merge-patch+json")
    try:
        yield found
    finally:
        inside.close()
        await kubelet.close(0)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data.upper())
        await writer.drain()
    writer.close()


@pytest.fixture
def protocols(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Which protocols requests came over."""
    seen: set[str] = set()
    for name, protocol in (("h1", Http1Connection), ("h2", Http2Connection)):
        answer = protocol._answer

        def note(self: object, *more: object, name: str = name, answer: object = answer) -> None:
            seen.add(name)
            answer(self, *more)  # type: ignore[operator]

        monkeypatch.setattr(protocol, "_answer", note)
    return seen


async def test_requests_of_kubectl_come_over_http2(kubeconfig: Path, cluster: Cluster, protocols: set[str]) -> None:
    await kubectl(kubeconfig, "get", "namespaces")
    await kubectl(kubeconfig, "create", "configmap", "c", "--from-literal=a=b")
    assert protocols == {"h2"}


async def test_logs_are_followed(kubeconfig: Path, container: Container, protocols: set[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        *(KUBECTL, "logs", "-f", "p"),
        env={"KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE) == b"first line\n"
        container.more.set()
        assert await asyncio.wait_for(process.stdout.read(), PATIENCE) == b"last line\n"
        assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    finally:
        if process.returncode is None:
            process.kill()
    assert "h2" in protocols


async def test_commands_run_in_containers(kubeconfig: Path, container: Container) -> None:
    assert await kubectl(kubeconfig, "exec", "-i", "p", "--", "shout", stdin="hello\n") == "HELLO\n"
    failed = await kubectl(kubeconfig, "exec", "p", "--", "shout", fails=True)
    assert failed == "no input\ncommand terminated with exit code 3\n"
    assert "HELLO" in await kubectl(kubeconfig, "attach", "-i", "p", stdin="hello\n")


async def test_ports_are_forwarded(kubeconfig: Path, container: Container) -> None:
    process = await asyncio.create_subprocess_exec(
        *(KUBECTL, "port-forward", "pod/p", ":80"),
        env={"KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        port = int(line.split()[2].rpartition(b":")[2])
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x" * 300_000)
            assert await asyncio.wait_for(reader.readexactly(300_000), PATIENCE) == b"X" * 300_000
            writer.close()
    finally:
        process.kill()
        await process.wait()


async def test_watches_end_when_the_server_stops(kubeconfig: Path, cluster: Cluster) -> None:
    """Go's client closes its connection when it hears that the server goes away and its streams have ended."""
    process = await asyncio.create_subprocess_exec(
        *(KUBECTL, "get", "namespaces", "--watch", "--no-headers"),
        env={"KUBECONFIG": str(kubeconfig), "HOME": str(kubeconfig.parent)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        await asyncio.wait_for(process.stdout.readline(), PATIENCE)
        await cluster.request("POST", "/api/v1/namespaces", {"metadata": {"name": "seen"}})
        while not (await asyncio.wait_for(process.stdout.readline(), PATIENCE)).startswith(b"seen"):
            pass
        await asyncio.wait_for(cluster.server.stop(PATIENCE), PATIENCE / 2)
        await asyncio.wait_for(process.wait(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
