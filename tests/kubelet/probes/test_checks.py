"""Probes against real servers on the loopback interface, and the words for each way to fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from pinnace.cri.api import CriError, ExecSyncResponse
from pinnace.kubelet.probes.checks import ProbeError, check
from tests.kubelet.fake_runtime import FakeRuntime

ANSWERS = {
    "/ok": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "/bad": b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\nnope",
    "/away": b"HTTP/1.1 302 Found\r\nLocation: /ok\r\nContent-Length: 0\r\n\r\n",
    "/other": b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.invalid/\r\nContent-Length: 0\r\n\r\n",
    "/loop": b"HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n",
    "/nowhere": b"HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\nContent-Length: 0\r\n\r\n",
    "/no-port": b"HTTP/1.1 302 Found\r\nLocation: //127.0.0.1:99999/\r\nContent-Length: 0\r\n\r\n",
    "/cut": b"",
    "/script": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\n\nok",
}

LATE = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        if path == "/slow":
            await reader.read()
        else:
            writer.write(ANSWERS[path])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def ask(probe, runtime=None):
    container = {"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}
    return await check(probe, container, "c1", "127.0.0.1", runtime or FakeRuntime())


@pytest.mark.parametrize(
    ("path", "outcome", "output"),
    [
        ("/ok", "success", "ok"),
        ("/away", "success", "ok"),
        ("/script", "success", "ok"),  # lines that end as Unix ends them
        ("/bad", "failure", "HTTP probe failed with statuscode: 500"),
        ("/other", "warning", "Probe terminated redirects, Response body: "),
        ("/loop", "failure", 'Get "http://127.0.0.1:{port}/loop": stopped after 10 redirects'),
        (
            "/nowhere",
            "failure",
            (
                'Get "http://127.0.0.1:{port}/nowhere": failed to parse Location header "http://[::1/": '
                'parse "http://[::1/": Invalid IPv6 URL'
            ),
        ),
        (
            "/no-port",
            "failure",
            (
                'Get "http://127.0.0.1:{port}/no-port": failed to parse Location header "//127.0.0.1:99999/": '
                'parse "//127.0.0.1:99999/": Port out of range 0-65535'
            ),
        ),
        ("/cut", "failure", 'Get "http://127.0.0.1:{port}/cut": EOF'),
        (
            "/slow",
            "failure",
            'Get "http://127.0.0.1:{port}/slow": ' + LATE,
        ),
    ],
)
async def test_http(port, path, outcome, output):
    result = await ask({"httpGet": {"path": path, "port": port}, "timeoutSeconds": 0.3})
    assert result == (outcome, output.format(port=port))


async def test_refused(unused_port):
    http = await ask({"httpGet": {"path": "/", "port": unused_port}})
    tcp = await ask({"tcpSocket": {"port": unused_port}})
    words = f"dial tcp 127.0.0.1:{unused_port}: connect: connection refused"
    assert http.output == f'Get "http://127.0.0.1:{unused_port}/": {words}'
    assert (tcp.outcome, tcp.output) == ("failure", words)


@pytest.fixture
async def unused_port() -> int:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    number: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return number


async def test_tcp(port):
    assert (await ask({"tcpSocket": {"port": port}})).ok


async def test_exec():
    runtime = FakeRuntime()
    runtime.exec_results["no"] = ExecSyncResponse(stdout=b"out", stderr=b"err", exit_code=1)
    assert await ask({"exec": {"command": ["yes"]}}, runtime) == ("success", "")
    assert await ask({"exec": {"command": ["no"]}}, runtime) == ("failure", "outerr")
    runtime.fail["exec_sync"] = CriError("DEADLINE_EXCEEDED", "late")
    found = await ask({"exec": {"command": ["sleep", "9"]}}, runtime)
    assert found == ("failure", 'command timed out: "sleep 9" timed out after 1s')
    runtime.fail["exec_sync"] = CriError("UNKNOWN", "broken")
    with pytest.raises(ProbeError, match="code = Unknown desc = broken"):
        await ask({"exec": {"command": ["x"]}}, runtime)


@pytest.mark.parametrize("host", ["two..dots", "[::1"])
async def test_a_host_that_cannot_be(host):
    for kind in ("httpGet", "tcpSocket"):
        assert (await ask({kind: {"host": host, "port": 80}})).outcome == "failure"


async def test_port_that_is_not_named():
    with pytest.raises(ProbeError, match="couldn't find port: nope"):
        await ask({"tcpSocket": {"port": "nope"}})
