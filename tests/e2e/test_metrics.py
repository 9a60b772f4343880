"""What nodes and pods use, as `kubectl top` and autoscalers are told in a fresh cluster."""

from __future__ import annotations

import time

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import container, pod

pytestmark = [pytest.mark.e2e, pytest.mark.root]
LIMIT = 90.0  # seconds for the first samples


def test_kubectl_top_shows_nodes_and_pods(cluster: Cluster) -> None:
    cluster.kubectl("wait", "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io", "--timeout=60s")
    cluster.apply(pod("busy", container("c", "while :; do :; done", resources={"limits": {"cpu": "200m"}})))
    try:
        cluster.kubectl("wait", "--for=condition=Ready", "pod/busy", "--timeout=60s")
        (node,) = _top(cluster, "nodes")
        name, cpu, *_ = node.split()
        assert name == cluster.profile
        assert int(cpu.removesuffix("m")) > 0
        (line,) = _top(cluster, "pod", "busy", "--containers")
        _, of, used, memory = line.split()
        assert of == "c"
        assert 50 <= int(used.removesuffix("m")) <= 300
        assert memory.endswith("Mi")
    finally:
        cluster.kubectl("delete", "pod", "busy", "--ignore-not-found")


def _top(cluster: Cluster, *what: str) -> list[str]:
    """The lines of `kubectl top`, as soon as it has any."""
    deadline = time.monotonic() + LIMIT
    while (result := cluster.kubectl("top", *what, "--no-headers", check=False)).returncode != 0:
        assert time.monotonic() < deadline, result.stderr
        time.sleep(0.5)
    return result.stdout.splitlines()
