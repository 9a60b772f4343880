"""Hollow nodes at a real API server with controllers and scheduler."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from pinnace.kubelet.hollow.behaviour import PREFIX
from pinnace.kubelet.hollow.nodes import HollowNode, wanted_status
from pinnace.machinery.meta import Obj, parse_time
from pinnace.testing import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=2) as running:
        yield running


def _pod(name: str, **told: str) -> Obj:
    annotations = {PREFIX + key.replace("_", "-"): value for key, value in told.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox:1.36"}]},
    }


def test_pod_runs_and_ends_as_its_annotations_say(cluster: Cluster) -> None:
    cluster.api.create(_pod("short", run_seconds="0.1", exit_code="3"), "default")
    ended = cluster.api.wait_for("pods", "short", lambda pod: pod["status"]["phase"] == "Failed", "default")
    assert ended["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3


def test_pods_have_addresses_of_their_own(cluster: Cluster) -> None:
    for number in range(3):
        cluster.api.create(_pod(f"addressed-{number}"), "default")
    found = {
        cluster.api.wait_for("pods", f"addressed-{number}", _is_running, "default")["status"]["podIP"]
        for number in range(3)
    }
    assert len(found) == 3


def test_each_node_tells_what_its_own_pods_use(cluster: Cluster) -> None:
    cluster.api.create(_pod("busy", cpu="2", memory="1Gi"), "default")
    pod = cluster.api.wait_for("pods", "busy", _is_running, "default")
    here = pod["spec"]["nodeName"]
    other = {"node-1": "node-2", "node-2": "node-1"}[here]
    assert 'container_memory_working_set_bytes{container="c",namespace="default",pod="busy"} 1073741824' in _raw(
        cluster, f"/api/v1/nodes/{here}/proxy/metrics/resource"
    )
    assert '"busy"' not in _raw(cluster, f"/api/v1/nodes/{other}/proxy/metrics/resource")
    assert '"busy"' in _raw(cluster, f"/api/v1/nodes/{here}/proxy/stats/summary")


def test_nodes_keep_a_lease(cluster: Cluster) -> None:
    lease = cluster.api.wait_for("leases", "node-1", lambda lease: "spec" in lease, "kube-node-lease")
    assert lease["spec"]["holderIdentity"] == "node-1"
    assert lease["metadata"]["ownerReferences"][0]["kind"] == "Node"


def test_condition_that_others_changed_is_put_right(cluster: Cluster) -> None:
    ready = {"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown"}
    cluster.api.patch("nodes", "node-2", {"status": {"conditions": [ready]}}, subresource="status")
    node = cluster.api.wait_for("nodes", "node-2", "Ready")
    assert {one["type"]: one["status"] for one in node["status"]["conditions"]}["Ready"] == "True"


def test_pod_that_others_called_unready_is_ready_again(cluster: Cluster) -> None:
    cluster.api.create(_pod("disputed"), "default")
    cluster.api.wait_for("pods", "disputed", "Ready", "default")
    for _ in range(2):
        unready = {"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        pod = cluster.api.get("pods", "disputed", "default")
        others = [one for one in pod["status"]["conditions"] if one["type"] != "Ready"]
        cluster.api.update({**pod, "status": {**pod["status"], "conditions": [*others, unready]}}, subresource="status")
        cluster.api.wait_for("pods", "disputed", "Ready", "default")


def test_node_that_was_deleted_stays_away(cluster: Cluster) -> None:
    cluster.add_node("leaving")
    cluster.api.delete("nodes", "leaving")
    cluster.add_node("coming")  # registered after the deletion was seen
    assert "leaving" not in {node["metadata"]["name"] for node in cluster.api.list("nodes")}


@pytest.mark.parametrize(("seconds", "writes"), [(10, False), (298, False), (300, True)])
def test_status_is_written_every_five_minutes(seconds: int, writes: bool) -> None:
    hollow = HollowNode("n", "127.0.0.1", 10250, "v1.37.0")
    begin = parse_time("2026-05-01T12:00:00Z")
    status = wanted_status({"metadata": {"name": "n"}}, hollow, begin)
    assert status is not None
    later = begin.fromtimestamp(begin.timestamp() + seconds, begin.tzinfo)
    found = wanted_status({"metadata": {"name": "n"}, "status": status}, hollow, later)
    assert (found is not None) == writes


def test_what_others_add_to_the_capacity_can_be_allocated_until_they_take_it_away(cluster: Cluster) -> None:
    gpu = "example.com/gpu"
    cluster.api.patch("nodes", "node-1", {"status": {"capacity": {gpu: "2"}}}, subresource="status")
    cluster.api.wait_for("nodes", "node-1", lambda node: node["status"]["allocatable"].get(gpu) == "2")
    cluster.api.patch("nodes", "node-1", {"status": {"capacity": {gpu: None}}}, subresource="status")
    node = cluster.api.wait_for("nodes", "node-1", lambda node: gpu not in node["status"]["allocatable"])
    assert node["status"]["capacity"]["cpu"] == "8"


def _is_running(pod: Obj) -> bool:
    return bool(pod["status"].get("phase") == "Running")


def _raw(cluster: Cluster, path: str) -> str:
    command = ["kubectl", "--kubeconfig", str(cluster.kubeconfig), "get", "--raw", path]
    found: str = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    return found
