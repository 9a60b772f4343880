"""The kubelet on Debian's containerd and runc: pods live as they do on the embedded engine, driven by real kubectl."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from kubernetes.client import CoreV1Api
from kubernetes.config import new_client_from_config
from kubernetes.stream import stream
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.typing import Subprotocol

from pinnace.apis.resources import NODES, PODS, SERVICE_ACCOUNTS
from pinnace.client.client import Client
from pinnace.client.https import HttpsTransport
from pinnace.client.kubeconfig import load
from pinnace.cluster.control import wait_for_exit
from pinnace.machinery.meta import Obj, get_in, name_of
from tests.support.containerd import PAUSE, Containerd, missing, release
from tests.support.images import busybox_archive
from tests.support.kubectl import kubectls
from tests.support.site import LIMIT, Site, open_site, until

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(missing()), reason=missing()),
    pytest.mark.skipif(not kubectls(), reason="needs kubectl"),
]

IMAGE = "docker.io/library/busybox:cri"
SERVE = "mkdir -p /www; echo hello > /www/index.html; echo serving; exec httpd -f -p 8080 -h /www"


class Machine:
    """A site whose one node runs on a containerd."""

    def __init__(self, site: Site, containerd: Containerd) -> None:
        self.site = site
        self.containerd = containerd
        self.kubeconfig = site.kubeconfig("admin")

    def client(self) -> Client:
        return Client(HttpsTransport(load(self.kubeconfig)))

    def kubectl(self, *words: str, check: bool = True, given: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [kubectls()[-1], f"--kubeconfig={self.kubeconfig}", *words],
            capture_output=True, text=True, check=check, input=given, timeout=LIMIT,
        )  # fmt: skip

    def cgroups(self) -> list[str]:
        """The cgroups of pods."""
        return [str(path) for path in self.site.cgroups("**/pod*")]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    containerd = Containerd(Path(tempfile.mkdtemp(prefix="pn-cri-", dir="/var/tmp")), 1)
    try:
        containerd.start()
        pause = busybox_archive(containerd.directory / "pause.tar", "pause:test", command=("sleep", "2147483647"))
        containerd.load(pause)
        containerd.load(busybox_archive(containerd.directory / "image.tar", IMAGE))
        with open_site() as site:
            site.start_api_server()
            site.start_kubelet(containerd.endpoint)
            machine = Machine(site, containerd)
            asyncio.run(_prepare(machine))
            yield machine
    finally:
        containerd.close()


async def _prepare(machine: Machine) -> None:
    await machine.containerd.knows(PAUSE, IMAGE)
    client = machine.client()
    account: Obj = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
    await client.create(SERVICE_ACCOUNTS, {**account, "metadata": {"name": "default", "namespace": "default"}})
    await until(client, NODES, "", is_ready)
    await client.transport.close()


@pytest.fixture
async def client(machine: Machine) -> Any:
    client = machine.client()
    yield client
    await delete_all(client)
    await client.transport.close()


async def delete_all(client: Client) -> None:
    """Delete every pod and wait until the kubelet has taken them down."""
    names = [name_of(pod) for pod in (await client.list(PODS, "default"))["items"]]
    for name in names:
        await client.delete(PODS, name, "default")
    await asyncio.gather(*(gone(client, name) for name in names))


def a_pod(name: str, script: str, **fields: Any) -> Obj:
    spec = {key: fields.pop(key) for key in ("restartPolicy", "initContainers", "volumes") if key in fields}
    container = {"name": "c", "image": IMAGE, "command": ["sh", "-c", script], "imagePullPolicy": "Never", **fields}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "nodeName": "alone",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            **spec,
        },
    }


def is_ready(obj: Obj) -> bool:
    conditions = get_in(obj, "status", "conditions", default=[])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def named(name: str, check: Callable[[Obj], Any]) -> Callable[[Obj], Any]:
    return lambda obj: name_of(obj) == name and check(obj)


def restarts(pod: Obj) -> int:
    return sum(one["restartCount"] for one in get_in(pod, "status", "containerStatuses", default=[]))


async def gone(client: Client, name: str) -> None:
    """Until the pod's object is deleted."""
    async with asyncio.timeout(LIMIT):
        listed = await client.list(PODS, "default")
        if name not in map(name_of, listed["items"]):
            return
        version = listed["metadata"]["resourceVersion"]
        async for event in client.watch(PODS, "default", resource_version=version):
            if event["type"] == "DELETED" and name_of(event["object"]) == name:
                return


async def test_a_pod_runs_is_probed_and_tells_where_it_runs(machine: Machine, client: Client) -> None:
    probes = {
        "readinessProbe": {"exec": {"command": ["test", "-e", "/www/index.html"]}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 1},
        "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
    }
    await client.create(PODS, a_pod("web", SERVE, **probes))

    pod = await until(client, PODS, "default", named("web", is_ready))

    node = await client.get(NODES, "alone")
    major, minor = release()
    assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith(f"containerd://{major}.{minor}.")
    assert pod["status"]["containerStatuses"][0]["containerID"].startswith("containerd://")
    assert pod["status"]["qosClass"] == "Guaranteed"
    [limit] = machine.site.cgroups(f"kubepods/pod{pod['metadata']['uid']}/memory.limit_in_bytes")
    assert limit.read_text() == f"{64 << 20}\n"


async def test_kubectl_reaches_into_a_pod(machine: Machine, client: Client) -> None:
    await client.create(PODS, a_pod("web", SERVE))
    await until(client, PODS, "default", named("web", is_ready))

    answer = machine.kubectl("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 3", check=False)
    echoed = machine.kubectl("exec", "-i", "web", "--", "cat", given="through\n")
    log = machine.kubectl("logs", "web")

    assert (answer.returncode, answer.stdout) == (3, "out\n")
    assert answer.stderr.startswith("err\n")
    assert echoed.stdout == "through\n"
    assert log.stdout == "serving\n"
    assert (await asyncio.to_thread(_forwarded, machine, "web"))[0] == b"hello\n"


def _forwarded(machine: Machine, pod: str, *flags: str) -> tuple[bytes, str]:
    """What the pod serves, by port-forward, and what kubectl then says of how it did that."""
    command = [kubectls()[-1], f"--kubeconfig={machine.kubeconfig}", "port-forward", f"pod/{pod}", ":8080", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as forward:
        assert forward.stdout is not None
        try:
            said = forward.stdout.readline()
            port = said.rpartition(" -> ")[0].rpartition(":")[2]
            answer = subprocess.run(
                ["/bin/busybox", "wget", "-q", "-O-", f"http://127.0.0.1:{port}/"],
                capture_output=True, check=True, timeout=LIMIT,
            ).stdout  # fmt: skip
        finally:
            forward.terminate()
        return answer, forward.communicate(timeout=LIMIT)[1]


@asynccontextmanager
async def _websocket(machine: Machine, path: str, protocol: str) -> AsyncIterator[ClientConnection]:
    """A pod's subresource as a client sees it that knows nothing but WebSocket."""
    pki = machine.site.pki
    context = ssl.create_default_context(cafile=str(pki / "ca.crt"))
    context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
    url = f"wss://127.0.0.1:{machine.site.port}/api/v1/namespaces/default/pods/{path}"
    subprotocols = [Subprotocol(protocol)]
    async with asyncio.timeout(LIMIT), open_websocket(url, ssl=context, subprotocols=subprotocols) as client:
        yield client


async def test_a_websocket_of_the_newest_protocol_reaches_into_a_pod(machine: Machine, client: Client) -> None:
    """Conformance: "Pods, remote command execution over websocket"."""
    await client.create(PODS, a_pod("web", SERVE))
    await until(client, PODS, "default", named("web", is_ready))
    command = "&".join(f"command={quote(word)}" for word in ("sh", "-c", "wc -c; echo err >&2; exit 3"))

    async with _websocket(
        machine, f"web/exec?stdin=true&stdout=true&stderr=true&{command}", "v5.channel.k8s.io"
    ) as socket:
        for _ in range(100):
            await socket.send(b"\0" + b"x" * 50_000)
        await socket.send(b"\xff\0")
        messages = [message async for message in socket if isinstance(message, bytes)]

    told = {channel: b"".join(one[1:] for one in messages if one[0] == channel) for channel in (1, 2, 3)}
    assert (told[1], told[2]) == (b"5000000\n", b"err\n")
    assert json.loads(told[3])["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]


async def test_the_python_client_reaches_into_a_pod(machine: Machine, client: Client) -> None:
    await client.create(PODS, a_pod("web", SERVE))
    await until(client, PODS, "default", named("web", is_ready))

    def execute() -> tuple[str, str, int]:
        with new_client_from_config(str(machine.kubeconfig)) as api:  # type: ignore[no-untyped-call]
            call = CoreV1Api(api).connect_get_namespaced_pod_exec
            command = ["sh", "-c", "read line; echo got $line; echo err >&2; exit 4"]
            session = stream(
                call, "web", "default", command=command, stdin=True, stdout=True, stderr=True, _preload_content=False
            )
            session.write_stdin("this\n")
            session.run_forever(timeout=LIMIT)
            return session.read_stdout(), session.read_stderr(), session.returncode

    assert await asyncio.to_thread(execute) == ("got this\n", "err\n", 4)


async def test_a_websocket_resizes_a_terminal(machine: Machine, client: Client) -> None:
    await client.create(PODS, a_pod("web", SERVE))
    await until(client, PODS, "default", named("web", is_ready))

    async with _websocket(
        machine, "web/exec?stdin=true&stdout=true&tty=true&command=sh", "v4.channel.k8s.io"
    ) as socket:
        await socket.send(b'\4{"Width":123,"Height":45}')
        output = b""
        while b"45 123" not in output:  # the size is the terminal's some time after it was sent
            await socket.send(b"\0stty size\n")
            message = await socket.recv()
            assert isinstance(message, bytes)
            output += message[1:]
        await socket.send(b"\0exit\n")
        *_, status = [message async for message in socket if isinstance(message, bytes)]

    assert (status[:1], json.loads(status[1:])["status"]) == (b"\3", "Success")


async def test_the_channels_of_a_websocket_are_ports(machine: Machine, client: Client) -> None:
    await client.create(PODS, a_pod("web", SERVE))
    await until(client, PODS, "default", named("web", is_ready))

    async with _websocket(machine, "web/portforward?ports=8080,8081", "v4.channel.k8s.io") as socket:
        await socket.send(b"\0GET / HTTP/1.0\r\n\r\n")
        told: dict[int, bytes] = {}
        while not (told.get(0, b"").endswith(b"hello\n") and b"refused" in told.get(3, b"")):
            message = await socket.recv()
            assert isinstance(message, bytes)
            told[message[0]] = told.get(message[0], b"") + message[1:]

    assert b"200 OK" in told[0]
    assert told[3][2:].startswith(b"error forwarding port 8081 to pod ")


async def test_kubectl_need_not_fall_back_to_spdy(machine: Machine, client: Client) -> None:
    await client.create(PODS, a_pod("web", SERVE))
    await until(client, PODS, "default", named("web", is_ready))

    echoed = machine.kubectl("exec", "-i", "web", "-v=7", "--", "cat", given="through\n")
    forwarded, said = await asyncio.to_thread(_forwarded, machine, "web", "-v=4")

    assert echoed.stdout == "through\n"
    assert forwarded == b"hello\n"
    for told, protocol in ((echoed.stderr, "v5.channel.k8s.io"), (said, "negotiated protocol: portforward.k8s.io")):
        assert protocol in told
        assert "fallback" not in told.lower()


async def test_attach_joins_a_running_container(machine: Machine, client: Client) -> None:
    reader = a_pod("reader", "read line; echo got $line", stdin=True, stdinOnce=True, restartPolicy="Never")
    await client.create(PODS, reader)
    await until(client, PODS, "default", named("reader", is_ready))

    attached = machine.kubectl("attach", "-i", "reader", given="this\n")

    assert "got this\n" in attached.stdout
    assert machine.kubectl("logs", "reader").stdout == "got this\n"


async def test_containers_run_in_order_to_their_end(machine: Machine, client: Client) -> None:
    shared = [{"name": "shared", "mountPath": "/shared"}]
    first = {
        "name": "first",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", "echo first > /shared/said"],
        "volumeMounts": shared,
    }
    pod = a_pod(
        "job",
        "cat /shared/said; echo last words > /dev/termination-log; exit 4",
        restartPolicy="Never",
        initContainers=[first],
        volumes=[{"name": "shared", "emptyDir": {}}],
        volumeMounts=shared,
    )
    await client.create(PODS, pod)

    ended = await until(client, PODS, "default", named("job", lambda pod: pod["status"].get("phase") == "Failed"))

    state = ended["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"], state["message"]) == (4, "Error", "last words\n")
    assert machine.kubectl("logs", "job").stdout == "first\n"


async def test_a_container_that_ends_or_is_not_alive_is_started_anew(machine: Machine, client: Client) -> None:
    sick = {
        "exec": {"command": ["test", "-e", "/healthy"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "initialDelaySeconds": 0,
    }
    await client.create(PODS, a_pod("ends", "exit 1"))
    await client.create(PODS, a_pod("sick", "sleep 1000", livenessProbe=sick))

    await until(client, PODS, "default", named("ends", lambda pod: restarts(pod) >= 1))
    await until(client, PODS, "default", named("sick", lambda pod: restarts(pod) >= 1))


async def test_wrong_commands_and_images_are_told_as_ever(machine: Machine, client: Client) -> None:
    def waits(reason: str) -> Callable[[Obj], bool]:
        return lambda pod: any(
            get_in(one, "state", "waiting", "reason") == reason
            or get_in(one, "lastState", "terminated", "reason") == reason
            for one in get_in(pod, "status", "containerStatuses", default=[])
        )

    await client.create(PODS, a_pod("nothing", "", command=["/no/such/program"]))
    await client.create(PODS, a_pod("missing", "", image="docker.io/library/missing:1"))

    failed = await until(client, PODS, "default", named("nothing", waits("RunContainerError")))
    await until(client, PODS, "default", named("missing", waits("ErrImageNeverPull")))

    message = failed["status"]["containerStatuses"][0]["state"]["waiting"]["message"]
    assert 'exec: "/no/such/program": stat /no/such/program: no such file or directory' in message


async def test_a_deleted_pod_leaves_nothing(machine: Machine, client: Client) -> None:
    await client.create(PODS, a_pod("short", "sleep 1000"))
    await until(client, PODS, "default", named("short", is_ready))

    await delete_all(client)

    listed = machine.containerd.ctr("--namespace=k8s.io", "containers", "list", "--quiet")

    assert listed.stdout == ""
    for shim in machine.containerd.shims():  # they end by themselves, a moment after they were told
        assert await asyncio.to_thread(wait_for_exit, shim, LIMIT)
    assert machine.cgroups() == []
    assert list((machine.site.directory / "node" / "pods").iterdir()) == []
    assert list((machine.site.directory / "pods").iterdir()) == []


async def test_containers_outlive_their_runtime_and_the_node_says_when_it_is_down(
    machine: Machine, client: Client
) -> None:
    await client.create(PODS, a_pod("lives", "sleep 1000"))
    await client.create(PODS, a_pod("dies", "sleep 1001"))
    await until(client, PODS, "default", named("lives", is_ready))
    dying = await until(client, PODS, "default", named("dies", is_ready))
    machine.containerd.kill()
    _kill_all(f"pod{dying['metadata']['uid']}", b"1001")

    down = await until(client, NODES, "", lambda node: not is_ready(node))
    machine.containerd.start()
    await until(client, NODES, "", is_ready)
    await until(client, PODS, "default", named("dies", lambda pod: restarts(pod) == 1 and is_ready(pod)))

    (ready,) = (one for one in down["status"]["conditions"] if one["type"] == "Ready")
    assert (ready["reason"], ready["message"]) == ("KubeletNotReady", "container runtime is down")
    lives = await client.get(PODS, "lives", "default")
    assert (restarts(lives), is_ready(lives)) == (0, True)
    events = json.loads(machine.kubectl("get", "events", "-o", "json").stdout)["items"]
    told = [one["reason"] for one in events if one["involvedObject"]["kind"] == "Node"]
    assert "NodeNotReady" in told


def _kill_all(cgroup: str, argument: bytes) -> None:
    """Kill the processes below a cgroup that have this argument."""
    for path in Path("/sys/fs/cgroup/pids").glob(f"**/{cgroup}/**/cgroup.procs"):
        for pid in path.read_text().split():
            if argument in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                os.kill(int(pid), signal.SIGKILL)
