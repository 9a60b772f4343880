"""The API server or the kubelet is away for a while: containers are kept up, and all is told when it is back.

Servers of the tests' own, by their original names, with a lease so short that a few seconds are to it what minutes are
to the usual one.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pinnace.apis.resources import EVENTS, LEASES, NODES, PODS, SERVICE_ACCOUNTS
from pinnace.cli.container_runtime import make_engine
from pinnace.client.client import Client
from pinnace.client.https import HttpsTransport
from pinnace.client.kubeconfig import load
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, name_of, uid_of
from pinnace.wire.inotify import IN_MODIFY, Watcher
from tests.e2e.test_crash import kill
from tests.e2e.test_kills import init_of, marked
from tests.e2e.test_kills import until as eventually
from tests.support.images import busybox_archive
from tests.support.site import LIMIT, Site, open_site, until

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.root]

FAILURES = 5  # renewals of the lease that fail before the outage has been long enough
QUICK = "nodeStatusUpdateFrequency: 1s\nnodeStatusReportFrequency: 2s\nnodeLeaseDurationSeconds: 2\n"
OUTAGE = "cannot renew the node lease"


class Machine:
    """A site of an API server and one node."""

    def __init__(self, site: Site, config: str = "") -> None:
        self.site = site
        self.manifests = site.directory / "manifests"
        self.manifests.mkdir()
        make_engine(site.engine_dir).images.load_archive(
            busybox_archive(site.directory / "image.tar", "busybox:1.36", "busybox:1.37")
        )
        more = site.directory / "kubelet.d"
        more.mkdir()
        kind = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
        (more / "quick.conf").write_text(f"{kind}{QUICK}staticPodPath: {self.manifests}\n{config}")
        self.api_server = site.start_api_server()
        self.kubelet = site.start_kubelet("", f"--config-dir={more}")
        [self.log] = site.directory.glob("kubelet-*.log")

    def client(self) -> Client:
        return Client(HttpsTransport(load(self.site.kubeconfig("admin"))))

    async def lease_fails(self, times: int) -> None:
        """Until the node's lease could not be renewed so many times more."""
        watcher = Watcher()
        try:
            watcher.add(self.log, IN_MODIFY)
            wanted = self.log.read_text().count(OUTAGE) + times
            async with asyncio.timeout(LIMIT):
                while self.log.read_text().count(OUTAGE) < wanted:
                    await watcher.wait(LIMIT)
        finally:
            watcher.close()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with open_site() as site:
        machine = Machine(site)
        asyncio.run(account(machine))
        yield machine


async def account(machine: Machine) -> None:
    """What pods run as: no controller makes it here."""
    client = machine.client()
    metadata = {"name": "default", "namespace": "default"}
    await client.create(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    await client.transport.close()


@pytest.fixture
async def client(machine: Machine) -> AsyncIterator[Client]:
    client = machine.client()
    await until(client, NODES, "", ready)
    yield client
    for manifest in machine.manifests.glob("*.json"):
        manifest.unlink()
    for pod in (await client.list(PODS, "default"))["items"]:
        with suppress(ApiError):  # a mirror has gone with its manifest
            await client.delete(PODS, name_of(pod), "default")
    await no_pods(client)
    await client.transport.close()


async def no_pods(client: Client) -> None:
    async with asyncio.timeout(LIMIT):
        while (listed := await client.list(PODS, "default"))["items"]:
            version = listed["metadata"]["resourceVersion"]
            async for event in client.watch(PODS, "default", resource_version=version):
                if event["type"] == "DELETED":
                    break


@contextmanager
def silent(machine: Machine) -> Iterator[None]:
    """The API server is stopped: connections stay open, and nothing is answered."""
    machine.api_server.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        machine.api_server.send_signal(signal.SIGCONT)


class Refused:
    """Connections to the API server are refused, and those that were open are reset; `packets` that were."""

    def __init__(self) -> None:
        self.packets = 0

    @contextmanager
    def __call__(self, machine: Machine) -> Iterator[None]:
        port = machine.site.port
        nft("-f", "-", given=RULES.format(port=port))
        try:
            yield
        finally:
            listed = nft("list", "table", "inet", f"pinnace-outage-{port}")
            nft("delete", "table", "inet", f"pinnace-outage-{port}")
        self.packets = int(listed.partition("packets ")[2].split()[0])


RULES = """
table inet pinnace-outage-{port} {{
    chain input {{
        type filter hook input priority 0
        tcp dport {port} counter reject with tcp reset
        tcp sport {port} reject with tcp reset
    }}
}}
"""


def nft(*words: str, given: str = "") -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    done = subprocess.run(
        ["nft", *words], input=given, capture_output=True, text=True, check=True, env=os.environ | {"PATH": path}
    )
    return done.stdout


def ready(obj: Obj) -> bool:
    return condition(obj, "Ready").get("status") == "True"


def condition(obj: Obj, kind: str) -> Obj:
    found: list[Obj] = get_in(obj, "status", "conditions", default=[])
    return next((one for one in found if one["type"] == kind), {})


def named(name: str, check: Callable[[Obj], Any]) -> Callable[[Obj], bool]:
    return lambda obj: name_of(obj) == name and bool(check(obj))


def container_of(pod: Obj) -> Obj:
    [found] = get_in(pod, "status", "containerStatuses", default=[{}])
    return dict(found)


def restarted(pod: Obj) -> bool:
    return container_of(pod).get("restartCount") == 1 and ready(pod)


def on_the_node(pod: Obj) -> Obj:
    pod["metadata"]["namespace"] = "default"
    pod["spec"] |= {"nodeName": "alone", "automountServiceAccountToken": False}
    for one in pod["spec"]["containers"]:
        one["imagePullPolicy"] = "Never"
    return pod


def write(machine: Machine, name: str) -> None:
    manifest = marked(name)
    manifest["spec"]["containers"][0]["imagePullPolicy"] = "Never"
    (machine.manifests / f".{name}").write_text(json.dumps(manifest))
    (machine.manifests / f".{name}").rename(machine.manifests / f"{name}.json")


async def begun(name: str, other_than: int = 0) -> int:
    """The first process of a container that has one, other than the one before."""
    return await asyncio.to_thread(eventually, lambda: init_of(name, other_than))


async def told(client: Client, obj: Obj) -> set[str]:
    """The reasons of the events about a pod or a node."""
    events = (await client.list(EVENTS, "default"))["items"]
    known = (uid_of(obj), name_of(obj))  # a node's events bear its name for a uid
    return {event["reason"] for event in events if event["involvedObject"]["uid"] in known}


async def lives_through(machine: Machine, client: Client, outage: Callable[[Machine], Any]) -> None:
    """What must go on while the API server is away, and be known when it is back."""
    look = {"exec": {"command": ["test", "!", "-f", "/tmp/ill"]}}
    probe = {**look, "periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 30}
    ill = marked("ill")
    ill["spec"]["containers"][0]["livenessProbe"] = probe
    for pod in (marked("steady"), marked("killed"), ill, marked("ended", restartPolicy="Never")):
        await client.create(PODS, on_the_node(pod))
    write(machine, "old")
    names = ("steady", "killed", "ill", "ended", "old-alone")
    before = {name: await until(client, PODS, "default", named(name, ready)) for name in names}
    inits = {name: init_of(name) for name in ("steady", "killed", "ill", "ended", "old")}
    [lease] = (await client.list(LEASES, "kube-node-lease"))["items"]

    with outage(machine):
        await machine.lease_fails(1)
        kill([inits["killed"], inits["ended"]])
        Path(f"/proc/{inits['ill']}/root/tmp/ill").touch()
        write(machine, "new")
        (machine.manifests / "old.json").unlink()
        for name in ("killed", "ill", "new"):
            inits[name] = await begun(name, inits.get(name, 0))
        await asyncio.to_thread(eventually, lambda: not init_of("old"))
        await machine.lease_fails(FAILURES)
        assert {name: init_of(name) for name in inits} == inits | {"ended": 0, "old": 0}

    for name, code in (("killed", 137), ("ill", 143)):
        status = container_of(await until(client, PODS, "default", named(name, restarted)))
        assert status["lastState"]["terminated"]["exitCode"] == code
    failed = await until(client, PODS, "default", named("ended", lambda pod: pod["status"]["phase"] == "Failed"))
    assert container_of(failed)["state"]["terminated"]["exitCode"] == 137
    await until(client, PODS, "default", named("new-alone", ready))
    await until(client, LEASES, "kube-node-lease", lambda now: renewed(now) > renewed(lease))
    mirrors = {name_of(pod) for pod in (await client.list(PODS, "default"))["items"]}
    assert "old-alone" not in mirrors
    steady = await client.get(PODS, "steady", "default")
    assert container_of(steady) == container_of(before["steady"])
    assert "Killing" not in await told(client, steady)
    await until(client, EVENTS, "default", about(before["ill"], "Killing"))
    assert {"Unhealthy", "Started"} <= await told(client, before["ill"])


def renewed(lease: Obj) -> str:
    return str(lease["spec"]["renewTime"])


def about(obj: Obj, reason: str) -> Callable[[Obj], bool]:
    """Events with a reason about a pod or a node, whose events bear its name for a uid."""
    known = (uid_of(obj), name_of(obj))
    return lambda event: event["involvedObject"]["uid"] in known and event["reason"] == reason


async def test_pods_are_kept_up_while_the_api_server_is_silent(machine: Machine, client: Client) -> None:
    await lives_through(machine, client, silent)


async def test_pods_are_kept_up_while_the_api_server_refuses_connections(machine: Machine, client: Client) -> None:
    """And the server is not overrun meanwhile: whoever is refused waits longer each time."""
    refused = Refused()
    await lives_through(machine, client, refused)
    assert 0 < refused.packets < 500


async def test_a_node_that_falls_silent_is_called_not_ready_until_it_is_back(machine: Machine, client: Client) -> None:
    """Its containers know nothing of that."""
    flags = ("--leader-elect=false", "--node-monitor-grace-period=3s")
    kubeconfig = machine.site.kubeconfig("controller-manager")
    manager = machine.site.start("kube-controller-manager", f"--kubeconfig={kubeconfig}", *flags)
    try:
        await client.create(PODS, on_the_node(marked("steady")))
        before = await until(client, PODS, "default", named("steady", ready))
        machine.kubelet.send_signal(signal.SIGSTOP)
        node = await until(client, NODES, "", lambda node: condition(node, "Ready")["status"] == "Unknown")
        lost = await until(client, PODS, "default", named("steady", lambda pod: not ready(pod)))
        machine.kubelet.send_signal(signal.SIGCONT)
        await until(client, NODES, "", ready)
        after = await until(client, PODS, "default", named("steady", ready))
        for lost_one in (node, before):
            await until(client, EVENTS, "default", about(lost_one, "NodeNotReady"))
    finally:
        machine.kubelet.send_signal(signal.SIGCONT)
        manager.terminate()
        manager.wait(LIMIT)

    shown = condition(node, "Ready")
    assert (shown["reason"], shown["message"]) == ("NodeStatusUnknown", "Kubelet stopped posting node status.")
    assert lost["status"]["phase"] == "Running"
    assert container_of(after) == container_of(before)
