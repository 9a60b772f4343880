"""Pods with claims on a control plane with its volume controllers: where they go, and why they do not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pinnace.testing import Api, Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(nodes=3) as made:
        for name, mode, provisioner in (
            ("local", "WaitForFirstConsumer", "kubernetes.io/no-provisioner"),
            ("made", "WaitForFirstConsumer", "csi.example.com"),
            ("now", "Immediate", "csi.example.com"),
        ):
            made.api.create({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name},
                             "provisioner": provisioner, "volumeBindingMode": mode})  # fmt: skip
        yield made


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = cluster.create_namespace()
    yield name
    cluster.delete_namespace(name)
    cluster.api.wait_gone("namespaces", name)


def claim(name: str, class_name: str, mode: str = "ReadWriteOnce") -> dict[str, Any]:
    spec = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": class_name}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def volume(name: str, class_name: str, node: str, mode: str = "ReadWriteOnce", **source: Any) -> dict[str, Any]:
    there = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
    spec = {"accessModes": [mode], "capacity": {"storage": "2Gi"}, "storageClassName": class_name,
            **(source or {"local": {"path": "/mnt"}}),
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [there]}]}}}  # fmt: skip
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def pod(name: str, *claims: str, **spec: Any) -> dict[str, Any]:
    volumes = [{"name": f"v{n}", "persistentVolumeClaim": {"claimName": one}} for n, one in enumerate(claims)]
    spec = {"containers": [{"name": "main", "image": "example.com/any"}], "volumes": volumes, **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def why(api: Api, name: str, namespace: str) -> str:
    """What the pod says of its being without a node."""

    def told(obj: dict[str, Any]) -> Any:
        return next((one.get("message") for one in obj["status"].get("conditions", ()) if one.get("message")), "")

    message: str = told(api.wait_for("pods", name, told, namespace))
    return message


NOT_HELPFUL = "preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."


def test_a_pod_goes_where_a_volume_for_its_claim_is(api: Api, namespace: str) -> None:
    api.create(volume("on-2", "local", "node-2"))
    api.create(claim("data", "local"), namespace)
    api.create(pod("p", "data"), namespace)
    assert api.wait_for("pods", "p", "Ready", namespace)["spec"]["nodeName"] == "node-2"
    assert api.wait_for("persistentvolumeclaims", "data", None, namespace)["spec"]["volumeName"] == "on-2"
    api.create(pod("q", "data"), namespace)
    assert api.wait_for("pods", "q", "Ready", namespace)["spec"]["nodeName"] == "node-2"
    api.create(claim("more", "local"), namespace)
    api.create(pod("r", "more"), namespace)
    assert why(api, "r", namespace) == (
        "0/3 nodes are available: 3 node(s) didn't find available persistent volumes to bind. " + NOT_HELPFUL
    )
    api.create(volume("on-3", "local", "node-3"))
    assert api.wait_for("pods", "r", "Ready", namespace)["spec"]["nodeName"] == "node-3"
    for name in ("on-2", "on-3"):
        api.delete("persistentvolumes", name)


def test_a_provisioner_is_told_the_node_and_awaited(api: Api, namespace: str) -> None:
    api.create(claim("data", "made"), namespace)
    api.create(pod("p", "data", nodeSelector={"kubernetes.io/hostname": "node-3"}), namespace)
    selected = "volume.kubernetes.io/selected-node"
    found = api.wait_for(
        "persistentvolumeclaims", "data", lambda obj: selected in obj["metadata"].get("annotations", {}), namespace
    )
    assert found["metadata"]["annotations"][selected] == "node-3"
    assert "nodeName" not in api.get("pods", "p", namespace)["spec"]
    made = volume("made", "made", "node-3", csi={"driver": "csi.example.com", "volumeHandle": "h"})
    made["spec"]["claimRef"] = {"kind": "PersistentVolumeClaim", "namespace": namespace, "name": "data",
                                "uid": found["metadata"]["uid"]}  # fmt: skip
    api.create(made)
    assert api.wait_for("pods", "p", "Ready", namespace)["spec"]["nodeName"] == "node-3"
    api.delete("persistentvolumes", "made")


def test_a_provisioner_that_takes_the_node_back_has_the_pod_scheduled_again(api: Api, namespace: str) -> None:
    api.create(claim("data", "made"), namespace)
    api.create(pod("p", "data"), namespace)
    selected = "volume.kubernetes.io/selected-node"

    def has(obj: dict[str, Any]) -> bool:
        return selected in obj["metadata"].get("annotations", {})

    api.wait_for("persistentvolumeclaims", "data", has, namespace)
    api.patch("persistentvolumeclaims", "data", {"metadata": {"annotations": {selected: None}}}, namespace)
    assert why(api, "p", namespace) == (
        'running PreBind plugin "VolumeBinding": binding volumes: provisioning failed for PVC "data"'
    )
    api.wait_for("persistentvolumeclaims", "data", has, namespace)


def test_claims_that_nothing_binds_are_waited_for(api: Api, namespace: str) -> None:
    api.create(pod("early", "later"), namespace)
    assert why(api, "early", namespace) == (
        '0/3 nodes are available: persistentvolumeclaim "later" not found. ' + NOT_HELPFUL
    )
    api.create(claim("unbound", "now"), namespace)
    api.create(pod("p", "unbound"), namespace)
    assert why(api, "p", namespace) == (
        "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. " + NOT_HELPFUL
    )
    api.create(volume("fits", "now", "node-1"))
    assert api.wait_for("pods", "p", "Ready", namespace)["spec"]["nodeName"] == "node-1"
    api.delete("persistentvolumes", "fits")


def test_one_pod_alone_uses_a_claim_of_that_mode(api: Api, namespace: str) -> None:
    api.create(volume("alone", "local", "node-1", "ReadWriteOncePod"))
    api.create(claim("alone", "local", "ReadWriteOncePod"), namespace)
    api.create(pod("first", "alone"), namespace)
    api.wait_for("pods", "first", "Ready", namespace)
    api.create(pod("second", "alone"), namespace)
    assert "3 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode" in why(
        api, "second", namespace
    )
    api.delete("pods", "first", namespace)
    api.wait_for("pods", "second", "Ready", namespace)
    api.delete("persistentvolumes", "alone")


def test_a_node_takes_as_many_volumes_as_its_driver_can_attach(api: Api, namespace: str) -> None:
    driver = {"name": "csi.example.com", "nodeID": "n", "allocatable": {"count": 1}}
    api.create({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "node-1"},
                "spec": {"drivers": [driver]}})  # fmt: skip
    for number in (1, 2):
        source: dict[str, Any] = {"csi": {"driver": "csi.example.com", "volumeHandle": f"h{number}"}}
        api.create(volume(f"limited-{number}", "now", "node-1", **source))
        api.create(claim(f"c{number}", "now"), namespace)
        api.wait_for("persistentvolumeclaims", f"c{number}", lambda obj: obj["status"]["phase"] == "Bound", namespace)
    api.create(pod("first", "c1"), namespace)
    api.wait_for("pods", "first", "Ready", namespace)
    api.create(pod("second", "c2"), namespace)
    assert "1 node(s) exceed max volume count" in why(api, "second", namespace)
    api.delete("pods", "first", namespace)
    api.wait_for("pods", "second", "Ready", namespace)
    for name in ("limited-1", "limited-2"):
        api.delete("persistentvolumes", name)
