"""A device plugin on the node of a real cluster: its devices are scheduled, and reach containers."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.testing.loop_thread import LoopThread
from tests.e2e.conftest import Cluster
from tests.e2e.pods import SLEEP, container, pod
from tests.e2e.test_pod_life import create, wait
from tests.support.device_plugin import FakePlugin

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
