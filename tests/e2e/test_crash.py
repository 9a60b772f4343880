"""kill -9 of any process, and of all at once: no acknowledged write is lost, containers run on, all comes back."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnace.cluster.profile import Profile
from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.root]

LIMIT = 120.0  # seconds


class Writer(threading.Thread):
    """Creates ConfigMaps at about 200 a second and remembers which were acknowledged."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        super().__init__(daemon=True)
        config = json.loads((cluster.directory / "config.json").read_text())
        self._port = config["api_server_port"]
        pki = cluster.directory / "pki"
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._ended = threading.Event()
        self.acknowledged: list[str] = []

    def run(self) -> None:
        number = 0
        while not self._ended.is_set():
            connection = http.client.HTTPSConnection("127.0.0.1", self._port, timeout=30, context=self._tls)
            try:
                while not self._ended.wait(0.005):
                    number += 1
                    name = f"write-{number}"
                    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
                    connection.request("POST", self._path, json.dumps(body), {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status == 201:
                        self.acknowledged.append(name)
            except (OSError, http.client.HTTPException):
                pass  # killed under us: connect again
            finally:
                connection.close()

    def wait_for(self, more: int) -> None:
        """Until so many further writes were acknowledged."""
        wanted, deadline = len(self.acknowledged) + more, time.monotonic() + LIMIT
        while len(self.acknowledged) < wanted:
            assert time.monotonic() < deadline, "the API server did not come back"
            self._ended.wait(0.01)

    def finish(self) -> None:
        self._ended.set()
        self.join(60)


def processes(cluster: Cluster) -> dict[int, str]:
    """Every server process of the cluster, not those that hold containers: pid and what it runs."""
    found = {}
    places = (f"{cluster.home}/", f"{Profile(cluster.profile, cluster.home).run_dir}/")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        ours = "pinnace." in command or command.startswith("containerd ")
        if ours and any(place in command for place in places):
            found[int(entry.name)] = command
    return found


def kill(pids: list[int]) -> None:
    assert all(pid > 0 for pid in pids)  # 0 would be the tests themselves
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it died with one killed before it


@pytest.fixture(scope="module")
def workload(cluster: Cluster) -> Iterator[str]:
    """A namespace with two pods that must not notice anything."""
    cluster.kubectl("create", "namespace", "crash")
    forever = ("sh", "-c", "trap exit TERM; sleep 86400 & wait")  # unlike a bare sleep, it heeds SIGTERM as process 1
    cluster.kubectl(
        "-n", "crash", "create", "deployment", "steady", "--image=busybox:1.36", "--replicas=2", "--", *forever
    )
    cluster.kubectl("-n", "crash", "rollout", "status", "deployment/steady", "--timeout=120s")
    yield "crash"
    cluster.kubectl("delete", "namespace", "crash", "--timeout=180s")


def containers(cluster: Cluster) -> dict[str, tuple[str, str, int]]:
    """Container id, start time and restarts of each pod."""
    items = cluster.json("-n", "crash", "get", "pods", "-l", "app=steady")["items"]
    return {
        item["metadata"]["name"]: (
            status["containerID"],
            status["state"]["running"]["startedAt"],
            status["restartCount"],
        )
        for item in items
        for status in item["status"]["containerStatuses"]
    }


def prove_that_pods_still_start(cluster: Cluster, name: str) -> None:
    cluster.kubectl("-n", "crash", "run", name, "--image=busybox:1.36", "--restart=Never", "--", "echo", "alive")
    cluster.kubectl("-n", "crash", "wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
    assert cluster.kubectl("-n", "crash", "logs", name).stdout == "alive\n"


@pytest.mark.parametrize("victim", ["cluster.controlplane", "cluster.node", "cluster.supervisor", "containers", ""])
def test_killing_it_during_writes_loses_nothing(cluster: Cluster, workload: str, victim: str) -> None:
    before = containers(cluster)
    writer = Writer(cluster, workload)
    writer.start()
    writer.wait_for(100)
    victims = [
        pid
        for pid, command in processes(cluster).items()
        if (cluster.keeper if victim == "containers" else victim) in command
    ]
    assert victims

    kill(victims)

    writer.wait_for(100)
    writer.finish()
    kept = {item["metadata"]["name"] for item in cluster.json("-n", workload, "get", "configmaps")["items"]}
    assert set(writer.acknowledged) <= kept
    prove_that_pods_still_start(cluster, f"after-{victim.replace('.', '-') or 'all'}")
    assert containers(cluster) == before
    # One request: `kubectl delete --all` sends one for each object, and holds itself to a few a second.
    cluster.kubectl("delete", "--raw", f"/api/v1/namespaces/{workload}/configmaps")


def test_start_again_after_a_crash_is_a_start_of_what_is_there(cluster: Cluster, workload: str) -> None:
    before = containers(cluster)

    cluster.pinnace("start")

    assert containers(cluster) == before
    assert cluster.pinnace("status").returncode == 0
