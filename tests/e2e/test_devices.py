"""Device plugins and drivers of claims on the node of a real cluster: devices are scheduled, and reach containers."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pinnace.testing.loop_thread import LoopThread
from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, container, pod
from tests.e2e.test_pod_life import create, wait
from tests.support.device_plugin import FakePlugin
from tests.support.dra_driver import FakeDriver

pytestmark = [pytest.mark.e2e, pytest.mark.root]

GPU = "vendor.example/gpu"


def test_a_plugins_devices_reach_containers(cluster: Cluster, namespace: str) -> None:
    [node] = cluster.json("get", "nodes")["items"]
    name = node["metadata"]["name"]
    directory = cluster.directory / "kubelet" / "device-plugins"
    limits: dict[str, Any] = {"resources": {"limits": {GPU: "1"}}}
    loop = LoopThread("plugin")
    try:
        plugin = loop.call(started(directory))
        escaped = GPU.replace(".", "\\.")
        cluster.kubectl("wait", f"--for=jsonpath={{.status.allocatable.{escaped}}}=2", f"node/{name}", "--timeout=60s")
        create(cluster, namespace, *(pod(one, container("c", SLEEP, **limits)) for one in ("first", "second", "third")))
        for one in ("first", "second"):
            cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", f"pod/{one}", "--timeout=60s")
        why = '.status.conditions[?(@.type=="PodScheduled")].reason'
        wait(cluster, namespace, "pod/third", why, "Unschedulable")
        shown = cluster.kubectl("-n", namespace, "exec", "first", "--", "sh", "-c", LOOK).stdout.splitlines()
        other = cluster.kubectl("-n", namespace, "exec", "second", "--", "sh", "-c", LOOK).stdout.splitlines()
        assert sorted((shown[0], other[0])) == ["gpu-0", "gpu-1"]
        assert shown[1:] == ["device", "written"]
        cluster.kubectl("-n", namespace, "delete", "pod", "first")
        cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/third", "--timeout=60s")
        loop.call(plugin.stop())
        cluster.kubectl("wait", f"--for=jsonpath={{.status.allocatable.{escaped}}}=0", f"node/{name}", "--timeout=60s")
    finally:
        loop.stop()


LOOK = "echo $FAKE_DEVICES; [ -c /dev/fake0 ] && echo device; echo x > /dev/fake0 && echo written"


async def started(directory: Any) -> FakePlugin:
    plugin = FakePlugin(directory, GPU, {"gpu-0": 0, "gpu-1": 0})
    await plugin.start()
    return plugin


DRIVER = f"e2e-gpu-{os.getpid()}.example.com"  # what it says of its devices is for the whole machine


@pytest.fixture
def edits(cluster: Cluster) -> Iterator[None]:
    """What containers that have the driver's devices for the claim `gpus` get: a variable each."""
    cluster.need_cdi()
    devices = [
        {"name": f"gpus-{name}", "containerEdits": {"env": [f"GPU_{name.upper()}=yes"]}} for name in ("first", "second")
    ]
    path = Path(f"/var/run/cdi/pinnace-{DRIVER}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cdiVersion": "0.6.0", "kind": f"{DRIVER}/gpu", "devices": devices}))
    yield
    path.unlink()


def test_a_claims_devices_reach_containers(cluster: Cluster, namespace: str, edits: None) -> None:
    """What the driver advertised goes with it: the kubelet may read the claim, and delete the slice."""
    [node] = cluster.json("get", "nodes")["items"]
    name = node["metadata"]["name"]
    api = {"apiVersion": "resource.k8s.io/v1"}
    pool = {"name": "pool", "generation": 1, "resourceSliceCount": 1}
    advertised = {"driver": DRIVER, "nodeName": name, "pool": pool, "devices": [{"name": "first"}]}
    asked = {"devices": {"requests": [{"name": "first", "exactly": {"deviceClassName": DRIVER}}]}}
    loop = LoopThread("driver")
    try:
        driver = loop.call(registered(cluster.directory / "kubelet"))
        selector = {"cel": {"expression": f"device.driver == '{DRIVER}'"}}
        cluster.apply(
            {**api, "kind": "DeviceClass", "metadata": {"name": DRIVER}, "spec": {"selectors": [selector]}},
            {**api, "kind": "ResourceSlice", "metadata": {"name": "e2e-gpus"}, "spec": advertised},
            {**api, "kind": "ResourceClaim", "metadata": {"name": "gpus", "namespace": namespace}, "spec": asked},
        )
        claims = [{"name": "mine", "resourceClaimName": "gpus"}]
        used = {"claims": [{"name": "mine", "request": "first"}]}
        create(cluster, namespace, pod("miner", container("c", SLEEP, resources=used), resourceClaims=claims))
        cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/miner", "--timeout=60s")
        shown = cluster.kubectl("-n", namespace, "exec", "miner", "--", "env").stdout.splitlines()
        assert "GPU_FIRST=yes" in shown
        assert "GPU_SECOND=yes" not in shown
        status = "{.status.containerStatuses[0].allocatedResourcesStatus[0].name}"
        wait(cluster, namespace, "pod/miner", status.strip("{}"), "claim:mine/first")
        cluster.kubectl("-n", namespace, "delete", "pod", "miner")
        assert driver.calls == [("prepare", "gpus"), ("unprepare", "gpus")]
        loop.call(driver.stop())
        cluster.kubectl("wait", "--for=delete", "resourceslice/e2e-gpus", "--timeout=60s")
    finally:
        loop.stop()
        cluster.kubectl("delete", "deviceclass", DRIVER, "--ignore-not-found")


async def registered(root: Path) -> FakeDriver:
    driver = FakeDriver(root, DRIVER)
    await driver.start()
    await driver.heard.wait()
    return driver
