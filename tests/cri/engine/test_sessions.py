"""Exec, attach and port-forward into real containers, by their sessions and by the streaming server's URLs."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect as open_websocket

from pinnace.cri.api import AttachRequest, ContainerState, CriError, ExecRequest
from pinnace.cri.engine.streaming import dial
from pinnace.wire.streams import ExitStatus, RemoteStreams
from tests.cri.engine.conftest import TIMEOUT, Node

pytestmark = pytest.mark.root


class Screen:
    """An output that can be waited for."""

    def __init__(self) -> None:
        self.data = b""
        self._changed = asyncio.Event()

    def write(self, data: bytes) -> None:
        self.data += data
        self._changed.set()

    async def drain(self) -> None:
        return

    async def shows(self, text: bytes) -> None:
        async def wait() -> None:
            while text not in self.data:
                self._changed.clear()
                await self._changed.wait()

        try:
            await asyncio.wait_for(wait(), TIMEOUT)
        except TimeoutError:
            raise AssertionError(f"{text!r} did not come: {self.data!r}") from None


class Keyboard:
    """An input that is typed on; None ends it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def type(self, data: bytes | None) -> None:
        self.queue.put_nowait(data)

    async def read(self, limit: int = 65536) -> bytes:
        return await self.queue.get() or b""


class Client:
    """The streams of a client, all connected."""

    def __init__(self, *, stdin: bool = True) -> None:
        self.keyboard, self.out, self.err = Keyboard(), Screen(), Screen()
        self.sizes: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.streams = RemoteStreams(
            stdin=self.keyboard if stdin else None, stdout=self.out, stderr=self.err, resize=self.sizes
        )


def execute(node: Node, container: str, client: Client, *command: str, tty: bool = False) -> asyncio.Task[ExitStatus]:
    record = node.engine.containers.records[container]
    process = node.engine._process(record, list(command), tty)
    return asyncio.create_task(node.engine.sessions.exec(container, process, client.streams))


def attach(node: Node, container: str, client: Client) -> asyncio.Task[Any]:
    record = node.engine.containers.records[container]
    exited = node.engine.containers.exit_of(container)
    path = str(node.base / "state" / "containers" / container / "stdin")
    return asyncio.create_task(
        node.engine.sessions.attach(
            container, exited, path, record.config.stdin_once, record.config.tty, client.streams
        )
    )


async def sleeper(node: Node, **fields: Any) -> str:
    return await node.start(await node.sandbox(), "/bin/sleep", "1000", **fields)


async def test_exec_sync_returns_output_and_exit_code(node: Node) -> None:
    container = await sleeper(node, envs={"WHO": "pod"})
    response = await node.engine.exec_sync(container, ["/bin/sh", "-c", "echo out $WHO; echo err >&2; exit 3"])

    assert (response.stdout, response.stderr, response.exit_code) == (b"out pod\n", b"err\n", 3)


async def test_exec_sync_gives_up_after_its_timeout_and_kills(node: Node) -> None:
    container = await sleeper(node)
    begun = time.monotonic()
    with pytest.raises(CriError) as error:
        await node.engine.exec_sync(container, ["/bin/sh", "-c", "sleep 555; echo never"], 0.3)

    assert error.value.code == "DEADLINE_EXCEEDED"
    assert time.monotonic() - begun < 60  # far less than what sleeps there
    await node.exec(container, "/bin/sh", "-c", "while ps | grep -q 'sleep 55[5]'; do :; done")


async def test_exec_sync_does_not_wait_for_children_that_hold_its_output(node: Node) -> None:
    container = await sleeper(node)
    begun = time.monotonic()
    output = await node.exec(container, "/bin/sh", "-c", "sleep 500 & echo done")

    assert output == "done\n"
    assert time.monotonic() - begun < 60  # far less than what sleeps there


async def test_exec_of_a_missing_command_speaks_runcs_words(node: Node) -> None:
    container = await sleeper(node)
    with pytest.raises(CriError, match=r'exec: "nope": executable file not found in \$PATH'):
        await node.engine.exec_sync(container, ["nope"])


async def test_exec_of_much_output_is_complete(node: Node) -> None:
    container = await sleeper(node)
    response = await node.engine.exec_sync(container, ["/bin/sh", "-c", "seq 1 100000"])

    assert response.stdout == "".join(f"{n}\n" for n in range(1, 100001)).encode()


async def test_exec_in_a_container_that_does_not_run_is_refused(node: Node) -> None:
    status, _ = await node.run("/bin/true")
    with pytest.raises(CriError, match="CONTAINER_EXITED"):
        await node.engine.exec_sync(status.id, ["/bin/true"])


async def test_exec_with_stdin_and_separate_outputs(node: Node) -> None:
    client = Client()
    task = execute(node, await sleeper(node), client, "/bin/sh", "-c", "cat; echo end >&2; exit 5")
    client.keyboard.type(b"one\n")
    await client.out.shows(b"one\n")
    client.keyboard.type(None)

    assert await asyncio.wait_for(task, TIMEOUT) == ExitStatus(5)
    assert (client.out.data, client.err.data) == (b"one\n", b"end\n")


async def test_exec_with_a_terminal(node: Node) -> None:
    client = Client()
    task = execute(node, await sleeper(node), client, "/bin/sh", tty=True)
    client.keyboard.type(b"tty; stty size; echo $TERM; ps -o tty,args | grep 'sh$'\r")
    client.sizes.put_nowait((100, 40))
    await client.out.shows(b"/dev/pts/0")
    await client.out.shows(b"xterm")
    client.keyboard.type(b"stty size\r")
    await client.out.shows(b"40 100\r\n")
    client.keyboard.type(b"sh -c 'echo asleep$((1 + 1)); exec sleep 1000'\r")
    await client.out.shows(b"asleep2")  # it runs: before that, the interrupt would be the shell's
    client.keyboard.type(b"\x03")
    client.keyboard.type(b"exit 4\r")

    assert await asyncio.wait_for(task, TIMEOUT) == ExitStatus(4)
    assert client.err.data == b""


async def test_a_client_that_leaves_takes_its_process_along(node: Node) -> None:
    container = await sleeper(node)
    client = Client()
    task = execute(node, container, client, "/bin/sh", "-c", "echo up; sleep 333")
    await client.out.shows(b"up")

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    await node.exec(container, "/bin/sh", "-c", "while ps | grep -q 'sleep 33[3]'; do :; done")


async def test_who_leaves_before_the_process_has_begun_leaves_none_behind(node: Node) -> None:
    container = await sleeper(node)
    asked = node.engine.monitor.call
    leaving: list[asyncio.Task[Any]] = []

    async def call(verb: str, *rest: Any, **arguments: Any) -> Any:
        if verb == "exec":  # sent, and not answered
            asyncio.get_running_loop().call_soon(leaving[-1].cancel)
        return await asked(verb, *rest, **arguments)

    node.engine.monitor.call = call  # type: ignore[method-assign]
    for begin in (
        lambda: asyncio.ensure_future(node.engine.exec_sync(container, ["/bin/sleep", "777"])),
        lambda: execute(node, container, Client(), "/bin/sleep", "777"),
    ):
        leaving.append(begin())
        await asyncio.wait([leaving[-1]])
        assert leaving[-1].cancelled()
    node.engine.monitor.call = asked  # type: ignore[method-assign]

    await node.exec(container, "/bin/sh", "-c", "while ps | grep -q 'sleep 77[7]'; do :; done")


async def test_attach_shows_output_from_now_on_and_ends_with_the_container(node: Node) -> None:
    script = "read line; echo got $line; echo bad >&2"
    container = await node.start(await node.sandbox(), "/bin/sh", "-c", script, stdin=True, stdin_once=True)
    client = Client()
    task = attach(node, container, client)
    client.keyboard.type(b"hello\n")

    await asyncio.wait_for(task, TIMEOUT)

    assert (client.out.data, client.err.data) == (b"got hello\n", b"bad\n")
    assert node.output(await node.ended(container), "stdout") == "got hello\n"


async def test_stdin_once_ends_with_the_first_client(node: Node) -> None:
    container = await node.start(await node.sandbox(), "/bin/cat", stdin=True, stdin_once=True)
    client = Client()
    task = attach(node, container, client)
    client.keyboard.type(b"text")
    await client.out.shows(b"text")
    client.keyboard.type(None)

    await asyncio.wait_for(task, TIMEOUT)
    assert (await node.ended(container)).exit_code == 0


async def test_stdin_that_is_kept_open_takes_another_client(node: Node) -> None:
    container = await node.start(await node.sandbox(), "/bin/cat", stdin=True)
    for text in (b"first\n", b"second\n"):
        client = Client()
        task = attach(node, container, client)
        client.keyboard.type(text)
        await client.out.shows(text)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert (await node.engine.container_status(container)).exit_code == 0


@pytest.mark.parametrize("tty", [False, True])
async def test_a_client_whose_input_ends_leaves_where_the_containers_goes_on(node: Node, tty: bool) -> None:
    container = await node.start(await node.sandbox(), "/bin/cat", stdin=True, tty=tty)
    for text in (b"first", b"second"):
        client = Client()
        task = attach(node, container, client)
        client.keyboard.type(text + b"\n")
        await client.out.shows(text)
        client.keyboard.type(None)
        await asyncio.wait_for(task, TIMEOUT)

    (status,) = [one for one in await node.engine.list_containers() if one.id == container]
    assert status.state is ContainerState.RUNNING


async def test_a_client_without_input_stays(node: Node) -> None:
    container = await node.start(await node.sandbox(), "/bin/cat", stdin=True)
    watching, typing = Client(stdin=False), Client()
    task = attach(node, container, watching)
    other = attach(node, container, typing)
    typing.keyboard.type(b"text\n")
    await typing.out.shows(b"text")
    typing.keyboard.type(None)
    await asyncio.wait_for(other, TIMEOUT)
    assert not task.done()
    await node.engine.stop_container(container, 0)
    await asyncio.wait_for(task, TIMEOUT)


async def test_attach_to_a_terminal(node: Node) -> None:
    container = await node.start(await node.sandbox(), "/bin/sh", tty=True, stdin=True)
    client = Client()
    task = attach(node, container, client)
    client.sizes.put_nowait((90, 33))
    client.keyboard.type(b"stty size; ls -l /dev/console | cut -c1\r")
    await client.out.shows(b"33 90\r\nc\r\n")
    client.keyboard.type(b"exit 2\r")

    await asyncio.wait_for(task, TIMEOUT)
    assert (await node.ended(container)).exit_code == 2


async def test_a_slow_attached_client_loses_nothing(node: Node) -> None:
    script = "read go; seq 1 200000"
    container = await node.start(await node.sandbox(), "/bin/sh", "-c", script, stdin=True)
    client = Client()
    first = asyncio.Event()

    async def slowly() -> None:
        if not first.is_set():
            first.set()
            for _ in range(1000):
                await asyncio.sleep(0)

    client.out.drain = slowly  # type: ignore[method-assign]
    task = attach(node, container, client)
    client.keyboard.type(b"\n")

    await asyncio.wait_for(task, TIMEOUT)
    assert client.out.data == "".join(f"{n}\n" for n in range(1, 200001)).encode()


async def test_ports_of_a_pod_are_reached_on_its_loopback(node: Node) -> None:
    sandbox = await node.sandbox()
    server = await node.start(sandbox, "/bin/nc", "-ll", "-p", "8080", "-e", "/bin/cat")
    await node.exec(server, "/bin/sh", "-c", "while ! netstat -ltn | grep -q :8080; do :; done")
    namespace = node.engine.sandboxes.network_namespace(node.engine.sandboxes.get(sandbox))

    reader, writer = await dial(namespace, 8080)
    writer.write(b"ping\n")
    assert await asyncio.wait_for(reader.readline(), TIMEOUT) == b"ping\n"
    writer.close()

    with pytest.raises(ConnectionRefusedError):
        await dial(namespace, 81)


async def test_a_url_is_good_for_one_session(node: Node) -> None:
    import base64
    import os

    container = await sleeper(node)
    url = urlsplit(await node.engine.exec(ExecRequest(container_id=container, cmd=["/bin/echo", "by url"])))
    assert url.hostname == "127.0.0.1"
    key = base64.b64encode(os.urandom(16)).decode()

    async def upgrade() -> bytes:
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(
            f"GET {url.path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            "Sec-WebSocket-Protocol: v5.channel.k8s.io\r\n\r\n".encode()
        )
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), TIMEOUT)
            body = await asyncio.wait_for(reader.read(), TIMEOUT) if b" 101 " in head else b""
        finally:
            writer.close()
        return head + body

    answer = await upgrade()
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"\x01by url\n" in answer
    assert b'"Success"' in answer
    assert (await upgrade()).startswith(b"HTTP/1.1 404 ")


async def test_attach_and_port_forward_have_urls(node: Node) -> None:
    container = await sleeper(node)
    sandbox = node.engine.containers.records[container].sandbox_id

    assert "/attach/" in await node.engine.attach(AttachRequest(container_id=container))
    assert "/portforward/" in await node.engine.port_forward(sandbox, [80])


async def test_ports_are_forwarded_in_channels_as_the_kubelet_was_asked(node: Node) -> None:
    """The client names them to the API server, that to the kubelet, and that to its runtime: the URL has none."""
    container = await sleeper(node)
    sandbox = node.engine.containers.records[container].sandbox_id
    async with open_websocket(
        (await node.engine.port_forward(sandbox, [80])).replace("http", "ws", 1),
        subprotocols=["v4.channel.k8s.io"],  # type: ignore[list-item]
    ) as client:
        async with asyncio.timeout(TIMEOUT):
            opening = {await client.recv(), await client.recv()}
    assert opening == {b"\0P\0", b"\1P\0"}
