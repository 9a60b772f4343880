"""kube-scheduler as a process of its own: profiles by --config, health and metrics on --secure-port."""

from __future__ import annotations

import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.testing import Cluster
from tests.support.ports import free_port

PINNACE = Path(sys.executable).with_name("pinnace")
CONFIGURATION = """\
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
leaderElection: {leaderElect: false}
clientConnection: {kubeconfig: KUBECONFIG}
profiles:
- schedulerName: spreading
- schedulerName: packing
  pluginConfig:
  - {name: NodeResourcesFit, args: {scoringStrategy: {type: MostAllocated}}}
  plugins: {score: {disabled: [{name: NodeResourcesBalancedAllocation}]}}
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(scheduler=False, nodes=2) as made:
        yield made


def test_profiles_and_health(cluster: Cluster, tmp_path: Path) -> None:
    file = tmp_path / "scheduler.yaml"
    file.write_text(CONFIGURATION.replace("KUBECONFIG", str(cluster.kubeconfig)))
    port = free_port()
    flags = ["--config", str(file), "--bind-address", "127.0.0.1", "--secure-port", str(port)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [PINNACE, "kube-scheduler", *flags, "--cert-dir", str(tmp_path)], stdout=log, stderr=log
        )
    try:
        for name in ("spreading", "packing"):
            for number in range(4):
                container = {"name": "c", "image": "example.com/any", "resources": {"requests": {"cpu": "500m"}}}
                cluster.api.create(
                    {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{name}-{number}"},
                     "spec": {"schedulerName": name, "containers": [container]}}, "default")  # fmt: skip
                cluster.api.wait_for("pods", f"{name}-{number}", "Ready", "default")
        pods = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in cluster.api.list("pods", "default")}
        assert len({node for name, node in pods.items() if name.startswith("spreading")}) == 2
        assert len({node for name, node in pods.items() if name.startswith("packing")}) == 1
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/healthz", context=context, timeout=30) as answer:
            assert answer.read() == b"ok"
    finally:
        process.terminate()
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
