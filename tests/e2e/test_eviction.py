"""Pods that write more than they may are evicted; what the node tells of its pods, and to whom."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.pods import Obj, container, pod
from tests.e2e.test_pod_life import create, wait

pytestmark = [pytest.mark.e2e, pytest.mark.root]

WRITE = "dd if=/dev/zero of={path} bs=1M count=4; sleep 1000"


def limited(name: str, **more: Obj) -> Obj:
    """A container that may write a mebibyte, and writes four to its log, its own files or a volume."""
    resources = {"limits": {"ephemeral-storage": "1Mi"}}
    return container(name, WRITE.format(path="/file"), resources=resources, **more)


def test_who_writes_more_than_allowed_is_evicted(cluster: Cluster, namespace: str) -> None:
    volume = [{"name": "cache", "emptyDir": {"sizeLimit": "1Mi"}}]
    writer = container("c", WRITE.format(path="/cache/file"), volumeMounts=[{"name": "cache", "mountPath": "/cache"}])
    roomy = container("roomy", "sleep 1000", resources={"limits": {"ephemeral-storage": "1Gi"}})
    pods = {
        "volume": pod("volume", writer, volumes=volume),
        "whole": pod("whole", limited("c")),
        "one": pod("one", limited("c"), roomy),
        "within": pod("within", container("c", "sleep 1000", resources={"limits": {"ephemeral-storage": "1Gi"}})),
    }
    for made in pods.values():
        create(cluster, namespace, made)
    for name, words in {
        "volume": 'Usage of EmptyDir volume "cache" exceeds the limit "1Mi". ',
        "whole": "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ",
        "one": 'Container c exceeded its local ephemeral storage limit "1Mi". ',
    }.items():
        wait(cluster, namespace, f"pod/{name}", ".status.phase", "Failed")
        status = cluster.json("get", "pod", name, "-n", namespace)["status"]
        assert (status["reason"], status["message"]) == ("Evicted", words)
        condition = next(one for one in status["conditions"] if one["type"] == "DisruptionTarget")
        assert (condition["status"], condition["reason"]) == ("True", "TerminationByKubelet")
    assert cluster.json("get", "pod", "within", "-n", namespace)["status"]["phase"] == "Running"


def test_what_the_node_tells_of_a_pod(cluster: Cluster, namespace: str) -> None:
    spoken = {"exec": {"command": ["test", "-f", "/spoken"]}, "periodSeconds": 1, "timeoutSeconds": 30}
    create(cluster, namespace, pod("p", container("c", "echo hello; touch /spoken; sleep 1000", readinessProbe=spoken)))
    cluster.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/p", "--timeout=60s")
    (node,) = [one["metadata"]["name"] for one in cluster.json("get", "nodes")["items"]]
    base = f"/api/v1/nodes/{node}/proxy"
    summary = json.loads(cluster.kubectl("get", "--raw", f"{base}/stats/summary").stdout)
    (found,) = [one for one in summary["pods"] if one["podRef"]["namespace"] == namespace]
    assert found["network"]["name"] == "eth0"
    assert found["containers"][0]["memory"]["workingSetBytes"] > 0
    assert found["containers"][0]["logs"]["usedBytes"] > 0
    assert found["process_stats"]["process_count"] >= 1
    cadvisor = cluster.kubectl("get", "--raw", f"{base}/metrics/cadvisor").stdout
    assert f'namespace="{namespace}",pod="p"' in cadvisor


def test_who_is_not_known_to_the_node_is_told_nothing(cluster: Cluster) -> None:
    """Not even with a token, unless its owner may."""
    (node,) = cluster.json("get", "nodes")["items"]
    address = next(one["address"] for one in node["status"]["addresses"] if one["type"] == "InternalIP")
    port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    token = cluster.kubectl("create", "token", "default", "-n", "default").stdout.strip()
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE

    def answer(**headers: str) -> tuple[int, str]:
        request = urllib.request.Request(f"https://{address}:{port}/pods", headers=headers)
        try:
            with urllib.request.urlopen(request, context=tls, timeout=20) as response:
                return response.status, ""
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    assert answer() == (401, "Unauthorized")
    assert answer(Authorization="Bearer nobody") == (401, "Unauthorized")
    user = "user=system:serviceaccount:default:default"
    refused = f"Forbidden ({user}, verb=get, resource=nodes, subresource(s)=[pods proxy])\n"
    assert answer(Authorization=f"Bearer {token}") == (403, refused)
