"""Exec and attach over WebSocket and SPDY/3.1, as clients of each protocol version see them; then the real kubectl."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket

from pinnace.machinery.errors import not_found
from pinnace.wire import spdy
from pinnace.wire.http import Request, Response, UpgradeResponse
from pinnace.wire.server import Server
from pinnace.wire.streams import ExitStatus, RemoteStreams, remote_command
from tests.wire.conftest import PATIENCE, Connect, Pki, Wire, serving

SUCCESS = {"metadata": {}, "status": "Success"}
EXIT_3 = {
    "metadata": {},
    "status": "Failure",
    "message": "command terminated with non-zero exit code: exit code 3",
    "reason": "NonZeroExitCode",
    "details": {"causes": [{"reason": "ExitCode", "message": "3"}]},
}


async def shout(streams: RemoteStreams) -> ExitStatus | int | None:
    """Upper-case stdin to stdout and its length to stderr; a line `exit n`, `size` or `missing` ends it."""
    assert streams.stdout is not None
    if streams.stdin is None:
        streams.stdout.write(b"hi")
        return 3
    total = 0
    while data := await streams.stdin.read():
        total += len(data)
        word, _, rest = data.decode("latin-1").strip().partition(" ")
        if word == "exit":
            return int(rest)
        if word == "size":
            columns, rows = await streams.resize.get()
            streams.stdout.write(b"%d x %d" % (columns, rows))
            return None
        if word == "missing":
            raise not_found("pods", "x")
        if word == "fail":
            raise RuntimeError("broken")
        streams.stdout.write(data.upper())
        await streams.stdout.drain()
    if streams.stderr is not None:
        streams.stderr.write(b"%d" % total)
    return None


def handler(request: Request) -> UpgradeResponse | Response:
    wanted = {name: request.params().get(name) == "true" for name in ("stdin", "stdout", "stderr", "tty")}
    return remote_command(request, shout, **wanted)


ALL = "stdin=true&stdout=true&stderr=true"


def websocket(server: Server, protocol: str, query: str = ALL) -> open_websocket:
    url = f"ws://localhost:{server.addresses[0][1]}/exec?{query}"
    return open_websocket(url, subprotocols=[protocol], compression=None)  # type: ignore[list-item]


async def next_message(client: ClientConnection) -> bytes:
    message = await asyncio.wait_for(client.recv(), PATIENCE)
    return message.encode() if isinstance(message, str) else message


async def messages(client: ClientConnection) -> list[bytes]:
    """Everything until the server closes."""
    return [message.encode() if isinstance(message, str) else message async for message in client]


# WebSocket.


async def test_v5_half_closes_stdin_and_reports_success() -> None:
    async with serving(handler) as server, websocket(server, "v5.channel.k8s.io") as client:
        assert await next_message(client) == b"\x01"
        await client.send(b"\0hello")
        assert await next_message(client) == b"\x01HELLO"
        await client.send(b"\xff\0")
        *output, status = await messages(client)
        assert output == [b"\x025"]
        assert (status[:1], json.loads(status[1:])) == (b"\x03", SUCCESS)


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v5.channel.k8s.io"])
async def test_exit_code_is_a_status_cause(protocol: str) -> None:
    async with serving(handler) as server, websocket(server, protocol) as client:
        await client.send(b"\0exit 3")
        assert json.loads((await messages(client))[-1][1:]) == EXIT_3


async def test_only_the_streams_asked_for_are_there() -> None:
    async with serving(handler) as server, websocket(server, "v4.channel.k8s.io", "stdout=true") as client:
        await client.send(b"\0ignored")
        assert [message[:3] for message in await messages(client)] == [b"\x01", b"\x01hi", b'\x03{"']


@pytest.mark.parametrize(("word", "code", "message"), [
    ("missing", 404, 'pods "x" not found'),
    ("fail", 500, "Internal error occurred: error executing command in container: broken"),
])  # fmt: skip
async def test_failure_to_run_is_its_own_status(word: str, code: int, message: str) -> None:
    async with serving(handler) as server, websocket(server, "v5.channel.k8s.io") as client:
        await client.send(b"\0" + word.encode())
        status = json.loads((await messages(client))[-1][1:])
        assert (status["code"], status["message"]) == (code, message)


async def test_terminal_size_comes_through() -> None:
    async with serving(handler) as server, websocket(server, "v5.channel.k8s.io", ALL + "&tty=true") as client:
        await client.send(b'\x04{"Width":0,"Height":7}')
        await client.send(b'\x04{"Width":120,"Height":40}')
        await client.send(b"\0size")
        assert b"\x01120 x 40" in await messages(client)


@pytest.mark.parametrize(("protocol", "error"), [("base64.channel.k8s.io", b""), ("v4.base64.channel.k8s.io", b"{")])
async def test_base64_channels_are_text(protocol: str, error: bytes) -> None:
    async with serving(handler) as server, websocket(server, protocol) as client:
        await client.send("0" + base64.b64encode(b"abc").decode())
        await client.send("0!")
        received = await next_message(client) + await next_message(client)
        assert received == b"11" + base64.b64encode(b"ABC")
        await client.send("0" + base64.b64encode(b"exit 0").decode())
        last = await messages(client)
        assert [base64.b64decode(message[1:])[:1] for message in last] == ([error] if error else [])


async def test_before_v4_the_error_is_plain_text() -> None:
    async with serving(handler) as server, websocket(server, "channel.k8s.io") as client:
        await client.send(b"\0exit 3")
        assert (await messages(client))[-1] == b"\x03" + EXIT_3["message"].encode()  # type: ignore[attr-defined]


async def test_command_is_cancelled_when_the_client_leaves() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def wait_for_ever(_: RemoteStreams) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def handler(request: Request) -> UpgradeResponse | Response:
        return remote_command(request, wait_for_ever, stdin=False, stdout=True, stderr=True, tty=False)

    async with serving(handler) as server:
        async with websocket(server, "v5.channel.k8s.io"):
            await asyncio.wait_for(started.wait(), PATIENCE)
        await asyncio.wait_for(ended.wait(), PATIENCE)


# SPDY.


class SpdyClient:
    """The client's end of a SPDY connection."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.spdy = spdy.Spdy()
        self.received: dict[int, bytes] = {}
        self.finished: set[int] = set()
        self.replied: set[int] = set()

    def send(self, frame: bytes) -> None:
        self._wire.send(frame)

    def open(self, stream_id: int, **headers: str) -> int:
        self._wire.send(self.spdy.syn_stream(stream_id, list(headers.items())))
        return stream_id

    async def until_finished(self, *streams: int) -> None:
        while not set(streams) <= self.finished:
            data = await asyncio.wait_for(self._wire.reader.read(65536), PATIENCE)
            assert data, "the server left early"
            for event in self.spdy.receive(data):
                if isinstance(event, spdy.DataReceived):
                    self.received[event.stream_id] = self.received.get(event.stream_id, b"") + event.data
                    if event.fin:
                        self.finished.add(event.stream_id)
                elif isinstance(event, spdy.StreamReset):
                    self.finished.add(event.stream_id)
                elif isinstance(event, spdy.StreamReplied):
                    self.replied.add(event.stream_id)


async def upgrade_to_spdy(wire: Wire, versions: str, query: str = ALL) -> tuple[int, dict[str, str]]:
    wire.send(
        f"POST /exec?{query} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n"
        f"X-Stream-Protocol-Version: {versions}\r\n\r\n".encode()
    )
    return await wire.head()


async def test_spdy_v4_session(connect: Connect) -> None:
    async with serving(handler) as server:
        wire = await connect(server)
        status, headers = await upgrade_to_spdy(wire, "v9.channel.k8s.io, v4.channel.k8s.io, v3.channel.k8s.io")
        assert (status, headers["x-stream-protocol-version"]) == (101, "v4.channel.k8s.io")
        client = SpdyClient(wire)
        streams = {name: client.open(number, streamType=name) for number, name in
                   ((1, "error"), (3, "stdin"), (5, "stdout"), (7, "stderr"))}  # fmt: skip
        client.send(spdy.Spdy.data(streams["stdin"], b"hello" * 100_000, fin=True))
        await client.until_finished(*streams.values())
        assert client.replied == {1, 3, 5, 7}
        assert client.received[streams["stdout"]] == b"HELLO" * 100_000
        assert client.received[streams["stderr"]] == b"500000"
        assert json.loads(client.received[streams["error"]]) == SUCCESS


async def test_spdy_terminal_has_a_resize_stream_and_no_stderr(connect: Connect) -> None:
    async with serving(handler) as server:
        wire = await connect(server)
        await upgrade_to_spdy(wire, "v4.channel.k8s.io", ALL + "&tty=true")
        client = SpdyClient(wire)
        for number, name in ((1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")):
            client.open(number, streamType=name)
        client.send(spdy.Spdy.data(7, b'{"Width":80,"Hei') + spdy.Spdy.data(7, b'ght":24}\n'))
        client.send(spdy.Spdy.data(3, b"size"))
        await client.until_finished(1, 3, 5)
        assert client.received[5] == b"80 x 24"


async def test_spdy_stream_that_was_not_asked_for_is_reset(connect: Connect) -> None:
    async with serving(handler) as server:
        wire = await connect(server)
        await upgrade_to_spdy(wire, "v4.channel.k8s.io", "stdout=true")
        client = SpdyClient(wire)
        client.open(1, streamType="stdin")
        client.open(3, streamType="error")
        client.open(5, streamType="stdout")
        await client.until_finished(1, 3, 5)
        assert (client.received[5], json.loads(client.received[3])) == (b"hi", EXIT_3)


REFUSED = [
    ("SPDY/3.1", "v9.channel.k8s.io", ALL, 403),
    ("SPDY/3.1", "", ALL, 400),
    ("other", "v4.channel.k8s.io", ALL, 400),
    ("SPDY/3.1", "v4.channel.k8s.io", "tty=true", 400),
]


@pytest.mark.parametrize(("upgrade", "versions", "query", "status"), REFUSED)
async def test_what_cannot_be_upgraded_is_refused(
    connect: Connect, upgrade: str, versions: str, query: str, status: int
) -> None:
    async with serving(handler) as server:
        wire = await connect(server)
        version = f"X-Stream-Protocol-Version: {versions}\r\n" if versions else ""
        head = f"POST /exec?{query} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n"
        wire.send(f"{head}{version}Content-Length: 0\r\n\r\n".encode())
        assert (await wire.response())[0] == status


# kubectl.

KUBECTL = shutil.which("kubectl")
API = {
    "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList", "groupVersion": "v1",
        "resources": [{"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get"]}],
    },
    "/api/v1/namespaces/default/pods/p": {
        "kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c"}]}, "status": {"phase": "Running"},
    },
}  # fmt: skip


def small_api(request: Request) -> Response:
    """As much of the Kubernetes API as kubectl asks before it opens a stream to a pod."""
    found = API.get(request.path)
    return Response(200 if found else 404, (("Content-Type", "application/json"),), json.dumps(found).encode())


def kubectl(
    pki: Pki, port: int, folder: Path, *args: str, stdin: bytes = b"", **env: str
) -> subprocess.CompletedProcess[bytes]:
    assert KUBECTL is not None
    flags = [
        "--server",
        f"https://localhost:{port}",
        "--certificate-authority",
        str(pki.ca),
        "--cache-dir",
        str(folder),
    ]
    flags += ["--client-certificate", str(pki.client_cert), "--client-key", str(pki.client_key)]
    return subprocess.run(
        [KUBECTL, *flags, *args], input=stdin, capture_output=True, timeout=30, check=False,
        env={"HOME": str(folder), "KUBECONFIG": "/dev/null", **env},
    )  # fmt: skip


@pytest.mark.skipif(KUBECTL is None, reason="needs kubectl")
@pytest.mark.parametrize("websockets", ["true", "false"])
async def test_kubectl_exec(pki: Pki, tmp_path: Path, websockets: str) -> None:
    protocols: list[str] = []

    def api(request: Request) -> UpgradeResponse | Response:
        if request.path.endswith("/exec"):
            protocols.append(request.headers["upgrade"])
            return handler(request)
        return small_api(request)

    async with serving(api, pki.server()) as server:
        port = server.addresses[0][1]
        env = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets}
        run = asyncio.to_thread
        done = await run(kubectl, pki, port, tmp_path, "exec", "-i", "p", "--", "x", stdin=b"hello" * 50_000, **env)
        assert (done.stderr, len(done.stdout), done.returncode) == (b"250000", 250_000, 0)
        failed = await run(kubectl, pki, port, tmp_path, "exec", "p", "--", "x", **env)
        assert (failed.stdout, failed.returncode) == (b"hi", 3)
        assert failed.stderr.strip() == b"command terminated with exit code 3"
    assert set(protocols) == {"websocket" if websockets == "true" else "SPDY/3.1"}
