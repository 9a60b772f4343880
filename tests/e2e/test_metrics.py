"""What nodes and pods use, as `kubectl top` and autoscalers are told in a fresh cluster."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import container

pytestmark = [pytest.mark.e2e, pytest.mark.root]
LIMIT = 120  # seconds for the first samples
RESOURCES = {"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}}
BUSY = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "busy"},
    "spec": {
        "selector": {"matchLabels": {"app": "busy"}},
        "template": {
            "metadata": {"labels": {"app": "busy"}},
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "containers": [container("c", "while :; do :; done", resources=RESOURCES)],
            },
        },
    },
}


def test_kubectl_top_shows_nodes_and_pods(cluster: Cluster) -> None:
    cluster.kubectl("wait", "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io", "--timeout=60s")
    cluster.apply(BUSY)
    cluster.kubectl("autoscale", "deployment", "busy", "--cpu-percent=100", "--min=1", "--max=1")
    try:
        # Who can be scaled has been measured.
        cluster.kubectl("wait", "--for=condition=ScalingActive", "hpa/busy", f"--timeout={LIMIT}s")
        (node,) = _top(cluster, "nodes")
        name, cpu, *_ = node.split()
        assert name == cluster.profile
        assert int(cpu.removesuffix("m")) > 0
        (line,) = _top(cluster, "pod", "-l", "app=busy", "--containers")
        _, of, used, memory = line.split()
        assert of == "c"
        assert 50 <= int(used.removesuffix("m")) <= 300
        assert memory.endswith("Mi")
    finally:
        cluster.kubectl("delete", "hpa,deployment", "busy", "--ignore-not-found")


def _top(cluster: Cluster, *what: str) -> list[str]:
    return cluster.kubectl("top", *what, "--no-headers").stdout.splitlines()
