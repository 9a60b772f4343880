"""The node's disk gets full: who filled it is evicted, what fails says why, and all goes on when there is room again.

A kubelet of the tests' own, whose pods, images and containers are on a file system of 64 MiB. What an API server does
on a full disk is tested in tests/apiserver/test_disk.py.
"""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.apis.resources import EVENTS, NODES, PODS
from pinnace.cli.container_runtime import make_engine
from pinnace.client.client import Client
from pinnace.cri.engine.images.store import ImageStore
from pinnace.machinery.meta import Obj, name_of, uid_of
from tests.e2e.pods import container, pod
from tests.e2e.test_crash import kill
from tests.e2e.test_kills import init_of, marked
from tests.e2e.test_outages import (
    Machine,
    about,
    account,
    client,
    condition,
    container_of,
    named,
    on_the_node,
    ready,
    restarted,
)
from tests.support.images import busybox_archive
from tests.support.site import open_site, until

pytestmark = [pytest.mark.e2e, pytest.mark.engine, pytest.mark.root]
__all__ = ["client"]  # a fixture

SIZE = 64 << 20  # bytes
CONFIG = """
evictionHard: {nodefs.available: 10%, imagefs.available: 10%}
evictionPressureTransitionPeriod: 1s
"""
FULL = "no space left on device"


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    where = Path(tempfile.mkdtemp(prefix="pn-", dir="/var/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", where], check=True)
    yield where
    subprocess.run(["umount", "--lazy", where], check=True)
    where.rmdir()


@pytest.fixture(scope="module")
def machine(disk: Path) -> Iterator[Machine]:
    with open_site() as site:
        site.node_dir, site.engine_dir = disk, disk / "runtime"
        machine = Machine(site, CONFIG)
        asyncio.run(account(machine))
        yield machine


def critical(made: Obj) -> Obj:
    """A pod that a node keeps whatever it is short of."""
    made["spec"]["priorityClassName"] = "system-node-critical"
    return on_the_node(made)


def pressed(node: Obj) -> bool:
    return condition(node, "DiskPressure").get("status") == "True"


async def test_who_fills_the_disk_is_evicted_and_then_there_is_room_again(machine: Machine, client: Client) -> None:
    fill = "dd if=/dev/zero of=/cache/file bs=1M; sleep 86400"
    writer = container("c", fill, volumeMounts=[{"name": "cache", "mountPath": "/cache"}])
    greedy = on_the_node(pod("greedy", writer, volumes=[{"name": "cache", "emptyDir": {}}]))
    await client.create(PODS, on_the_node(marked("steady")))
    steady = await until(client, PODS, "default", named("steady", ready))
    greedy = await client.create(PODS, greedy)

    node = await until(client, NODES, "", pressed)
    refused = await client.create(PODS, on_the_node(marked("refused")))
    evicted = await until(client, PODS, "default", named("greedy", lambda pod: pod["status"]["phase"] == "Failed"))
    await until(client, NODES, "", lambda node: not pressed(node))
    await client.create(PODS, on_the_node(marked("after")))
    await until(client, PODS, "default", named("after", ready))

    shown = condition(node, "DiskPressure")
    assert (shown["reason"], shown["message"]) == ("KubeletHasDiskPressure", "kubelet has disk pressure")
    assert evicted["status"]["reason"] == "Evicted"
    words = "The node was low on resource: ephemeral-storage. Threshold quantity: "
    assert evicted["status"]["message"].startswith(words)
    await until(client, EVENTS, "default", about(greedy, "Evicted"))
    await until(client, EVENTS, "default", about(node, "EvictionThresholdMet"))
    denied = await client.get(PODS, name_of(refused), "default")
    assert (denied["status"]["phase"], denied["status"]["reason"]) == ("Failed", "Evicted")
    assert denied["status"]["message"] == "Pod was rejected: The node had condition: [DiskPressure]. "
    assert container_of(await client.get(PODS, "steady", "default")) == container_of(steady)


async def test_nothing_is_lost_on_a_disk_without_any_room(machine: Machine, client: Client, disk: Path) -> None:
    talk = "while true; do echo $((n = n + 1)); usleep 100000; done"
    talker = critical(marked("talker", talk))
    for made in (talker, critical(marked("killed"))):
        await client.create(PODS, made)
    before = {name: await until(client, PODS, "default", named(name, ready)) for name in ("talker", "killed")}
    talking = init_of("talker")
    store = make_engine(machine.site.engine_dir).images
    known = layers(store)
    archive = busybox_archive(machine.site.directory / "other.tar", "other:1", entries=[("other", b"other")])
    fill(disk)

    with pytest.raises(OSError, match="No space left on device"):
        store.load_archive(archive)
    kill([init_of("killed")])
    waiting = await until(client, PODS, "default", named("killed", lambda pod: FULL in why(pod).lower()))
    late = await client.create(PODS, critical(marked("late")))
    failed = await until(client, EVENTS, "default", lambda event: of(event, late) and FULL in event["message"].lower())
    (disk / "filler").unlink()

    await until(client, PODS, "default", named("late", ready))
    again = await until(client, PODS, "default", named("killed", restarted))
    assert container_of(again)["lastState"]["terminated"]["exitCode"] == 137
    assert container_of(waiting)["state"]["waiting"]["reason"] in ("CreateContainerError", "CreateContainerConfigError")
    assert failed["type"] == "Warning"
    assert init_of("talker") == talking
    assert container_of(await client.get(PODS, "talker", "default")) == container_of(before["talker"])
    assert layers(store) == known
    store.load_archive(archive)


def layers(store: ImageStore) -> set[str]:
    return {path.name for path in (store.root / "layers").iterdir()}


def fill(disk: Path) -> None:
    """Leave no byte."""
    with (disk / "filler").open("wb", buffering=0) as filler:
        for size in (1 << 20, 4096, 1):
            try:
                while filler.write(b"x" * size):
                    pass
            except OSError:
                continue


def why(pod: Obj) -> str:
    """What a container waits for."""
    return str(container_of(pod).get("state", {}).get("waiting", {}).get("message", ""))


def of(event: Obj, pod: Obj) -> bool:
    return bool(event["involvedObject"]["uid"] == uid_of(pod))
