"""Claims of the default StorageClass: a directory for each, its data kept as long as the claim."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import Cluster

pytestmark = [pytest.mark.root, pytest.mark.e2e]


def claim(name: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "10Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def pod(name: str, script: str) -> dict[str, Any]:
    container = {
        "name": "c",
        "image": "busybox:1.36",
        "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": [volume]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_data_of_a_claim_outlive_its_pods_and_go_with_it(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s")
    for made in (claim("data"), pod("writer", "echo kept > /data/file")):
        made["metadata"]["namespace"] = namespace
        cluster.apply(made)
    done = ("--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", "-n", namespace)
    cluster.kubectl("wait", *done, "pod/writer")
    reader = pod("reader", "cat /data/file")
    reader["metadata"]["namespace"] = namespace
    cluster.apply(reader)
    cluster.kubectl("wait", *done, "pod/reader")
    assert cluster.kubectl("logs", "-n", namespace, "reader").stdout == "kept\n"

    bound = cluster.json("get", "pvc", "data", "-n", namespace)
    assert bound["spec"]["storageClassName"] == "standard"
    volume = cluster.json("get", "pv", bound["spec"]["volumeName"])
    directory = cluster.directory / "volumes" / namespace / "data"
    assert volume["spec"]["hostPath"]["path"] == str(directory)
    assert (directory / "file").read_text() == "kept\n"

    cluster.kubectl("delete", "pod", "writer", "reader", "-n", namespace)
    cluster.kubectl("delete", "pvc", "data", "-n", namespace)
    cluster.kubectl("wait", "--for=delete", f"pv/{volume['metadata']['name']}", "--timeout=30s")
    assert not directory.exists()
