"""What conformance demands of kubectl against this server; the pods run in name only."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from pinnace.testing import Api, Cluster
from tests.conformance.conftest import KUBECTL
from tests.conformance.samples import template

Kubectl = Callable[..., str]
pytestmark = pytest.mark.skipif(not KUBECTL, reason="needs kubectl")


def controller(replicas: int = 1, image: str = "example.com/agnhost:1") -> dict[str, Any]:
    pods = template(app="agnhost", role="primary")
    pods["spec"]["containers"][0] |= {"name": "agnhost", "image": image, "ports": [{"containerPort": 6379}]}
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "agnhost-primary", "labels": {"app": "agnhost"}},
        "spec": {"replicas": replicas, "selector": {"app": "agnhost", "role": "primary"}, "template": pods},
    }


def run_controller(kubectl: Kubectl, api: Api, namespace: str, replicas: int = 1) -> list[str]:
    """Start the controller; the names of its running pods."""
    kubectl("create", "-f", "-", stdin=json.dumps(controller(replicas)))
    return running(api, namespace, replicas)


def running(api: Api, namespace: str, count: int) -> list[str]:
    def names() -> list[str] | None:
        found = api.list("pods", namespace, labels="app=agnhost", fields="status.phase=Running")
        alive = [one["metadata"]["name"] for one in found if "deletionTimestamp" not in one["metadata"]]
        return alive if len(alive) == count == len(api.list("pods", namespace, labels="app=agnhost")) else None

    listed: list[str] = api.wait_until(names)
    return listed


def test_the_versions(kubectl: Kubectl) -> None:
    """Conformance: "Kubectl, check version v1", "Kubectl, version" """
    assert "v1" in kubectl("api-versions").split()
    said, _ = json.JSONDecoder().raw_decode(kubectl("version", "-o", "json"))  # a warning may follow
    for which in ("clientVersion", "serverVersion"):
        assert {"major", "minor", "gitVersion", "gitCommit"} <= said[which].keys()


def test_the_cluster_info(kubectl: Kubectl, cluster: Cluster) -> None:
    """Conformance: "Kubectl, cluster info" """
    said = kubectl("cluster-info")
    assert "Kubernetes control plane" in said
    assert cluster.url in said


def test_describe(kubectl: Kubectl, api: Api, namespace: str) -> None:
    """Conformance: "Kubectl, describe pod or rc" """
    [pod] = run_controller(kubectl, api, namespace)
    kubectl("expose", "rc", "agnhost-primary", "--port=6379")
    for words, wanted in (
        (("pod", pod), ("Name:", "Namespace:", "Node:", "Labels:", "app=agnhost", "role=primary", "Status:", "Running",
                        "IP:", "Controlled By:", "ReplicationController/agnhost-primary", "Image:", "State:",
                        "QoS Class:")),
        (("rc", "agnhost-primary"), ("Name:", "Selector:", "app=agnhost,role=primary", "Labels:", "Replicas:",
                                     "1 current", "1 desired", "Pods Status:", "1 Running", "Pod Template:",
                                     "Events:")),
        (("service", "agnhost-primary"), ("Name:", "Namespace:", "Labels:", "Selector:", "Type:", "ClusterIP", "IP:",
                                          "Port:", "Endpoints:", "Session Affinity:")),
        (("node", "node-1"), ("Name:", "Labels:", "Annotations:", "CreationTimestamp:", "Conditions:", "Type", "Status",
                              "LastHeartbeatTime", "Reason", "Message", "Addresses:", "Capacity:", "Version",
                              "Kubelet Version", "Pods")),
        (("namespace", namespace), ("Name:", "Labels:", "Annotations:", "Status:", "Active")),
    ):  # fmt: skip
        said = kubectl("describe", *words)
        assert [one for one in wanted if one not in said] == []


def test_diff(kubectl: Kubectl) -> None:
    """Conformance: "Kubectl, diff Deployment" """
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "httpd"}}, "template": template(app="httpd")}
    body: dict[str, Any] = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "httpd"}, "spec": spec}
    kubectl("create", "-f", "-", stdin=json.dumps(body))
    text = json.dumps(body).replace("example.com/any", "example.com/busybox")
    said = kubectl("diff", "-f", "-", stdin=text, codes=(1,))
    changes = {line[0]: line.partition("image: ")[2] for line in said.splitlines() if "image: " in line}
    assert changes == {"-": "example.com/any", "+": "example.com/busybox"}


def test_expose(kubectl: Kubectl, api: Api, namespace: str) -> None:
    """Conformance: "Kubectl, create service, replication controller" """
    run_controller(kubectl, api, namespace)
    kubectl("expose", "rc", "agnhost-primary", "--name=rm2", "--port=1234", "--target-port=6379")
    kubectl("expose", "service", "rm2", "--name=rm3", "--port=2345", "--target-port=6379")
    for name, port in (("rm2", 1234), ("rm3", 2345)):
        [served] = api.get("service", name, namespace)["spec"]["ports"]
        assert (served["port"], served["targetPort"]) == (port, 6379)
        endpoints = api.wait_for("endpoints", name, lambda obj: obj.get("subsets"), namespace)
        assert endpoints["subsets"][0]["ports"][0]["port"] == 6379


def test_label(kubectl: Kubectl, api: Api, namespace: str) -> None:
    """Conformance: "Kubectl, label update" """
    kubectl("run", "pause", "--image=example.com/pause")
    kubectl("label", "pods", "pause", "testing-label=testing-label-value")
    assert "testing-label-value" in kubectl("get", "pod", "pause", "-L", "testing-label")
    assert "pause" in kubectl("get", "pods", "-l", "testing-label")
    kubectl("label", "pods", "pause", "testing-label-")
    assert "testing-label-value" not in kubectl("get", "pod", "pause", "-L", "testing-label")
    assert "No resources found" in kubectl("get", "pods", "-l", "testing-label")


def test_annotate_by_patch(kubectl: Kubectl, api: Api, namespace: str) -> None:
    """Conformance: "Kubectl, patch to annotate" """
    for pod in run_controller(kubectl, api, namespace, 2):
        kubectl("patch", "pod", pod, "-p", '{"metadata":{"annotations":{"x":"y"}}}')
    assert [one["metadata"]["annotations"]["x"] for one in api.list("pods", namespace)] == ["y", "y"]


def test_replace(kubectl: Kubectl, api: Api, namespace: str) -> None:
    """Conformance: "Kubectl, replace" """
    kubectl("run", "e2e", "--image=example.com/httpd:1", "--labels=run=e2e")
    api.wait_for("pods", "e2e", "Ready", namespace)
    live = kubectl("get", "pod", "e2e", "-o", "json")
    kubectl("replace", "-f", "-", stdin=live.replace("example.com/httpd:1", "example.com/busybox:1"))
    assert api.get("pods", "e2e", namespace)["spec"]["containers"][0]["image"] == "example.com/busybox:1"
    uid = api.get("pods", "e2e", namespace)["metadata"]["uid"]
    kubectl("replace", "--force", "-f", "-", stdin=kubectl("get", "pod", "e2e", "-o", "json"))
    assert api.get("pods", "e2e", namespace)["metadata"]["uid"] != uid


def test_run(kubectl: Kubectl, api: Api, namespace: str) -> None:
    """Conformance: "Kubectl, run pod" """
    kubectl("run", "httpd", "--restart=Never", "--image=example.com/httpd")
    [container] = api.get("pods", "httpd", namespace)["spec"]["containers"]
    assert container["image"] == "example.com/httpd"


def test_a_dry_run_changes_nothing(kubectl: Kubectl, api: Api, namespace: str) -> None:
    """Conformance: "Kubectl, server-side dry-run Pod" """
    kubectl("run", "httpd", "--image=example.com/httpd", "--labels=run=e2e")
    patch = '{"spec":{"containers":[{"name": "httpd","image": "example.com/busybox"}]}}'
    kubectl("patch", "pod", "httpd", "-p", patch, "--dry-run=server")
    [container] = api.get("pods", "httpd", namespace)["spec"]["containers"]
    assert container["image"] == "example.com/httpd"


def test_scale(kubectl: Kubectl, api: Api, namespace: str) -> None:
    """Conformance: "Kubectl, replication controller", "Kubectl, scale replication controller" """
    run_controller(kubectl, api, namespace, 2)
    for replicas in (1, 2):
        kubectl("scale", "rc", "agnhost-primary", f"--replicas={replicas}", "--timeout=5m")
        running(api, namespace, replicas)


@pytest.mark.parametrize("where", ["port", "socket"])
def test_proxy(cluster: Cluster, tmp_path: Path, where: str) -> None:
    """Conformance: "Kubectl, proxy port zero", "Kubectl, proxy socket" """
    path = tmp_path / "kubectl.sock"
    words = ["--port=0", "--disable-filter"] if where == "port" else [f"--unix-socket={path}"]
    with subprocess.Popen(
        [KUBECTL, "--kubeconfig", cluster.kubeconfig, "proxy", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
    ) as proxy:
        try:
            assert proxy.stdout is not None
            line = proxy.stdout.readline()
            if where == "port":
                with urlopen(f"http://{line.split()[-1]}/api/", timeout=30) as answer:
                    body = answer.read()
            else:
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(30)
                    client.connect(str(path))
                    client.sendall(b"GET /api/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
                    body = client.makefile("rb").read().partition(b"\r\n\r\n")[2]
            assert json.loads(body)["versions"] == ["v1"]
        finally:
            proxy.terminate()
