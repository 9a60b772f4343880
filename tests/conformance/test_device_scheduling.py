"""Pods with ResourceClaims: devices are allocated with the node, reserved, and given back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pinnace.testing import Api, Cluster

V1 = "resource.k8s.io/v1"
DRIVER = "gpu.example.com"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes, the second of which has two devices."""
    with Cluster(nodes=2) as made:
        selectors = [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}]
        made.api.create({"apiVersion": V1, "kind": "DeviceClass", "metadata": {"name": "gpu"},
                         "spec": {"selectors": selectors}})  # fmt: skip
        spec = {"driver": DRIVER, "nodeName": "node-2", "devices": [{"name": "d1"}, {"name": "d2"}],
                "pool": {"name": "node-2", "generation": 1, "resourceSliceCount": 1}}  # fmt: skip
        made.api.create({"apiVersion": V1, "kind": "ResourceSlice", "metadata": {"name": "s"}, "spec": spec})
        yield made


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = cluster.create_namespace()
    yield name
    cluster.delete_namespace(name)
    cluster.api.wait_gone("namespaces", name)


def wanting(count: int) -> dict[str, Any]:
    return {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu", "count": count}}]}}


def pod(name: str, **claim: str) -> dict[str, Any]:
    container = {"name": "main", "image": "example.com/any", "resources": {"claims": [{"name": "c"}]}}
    spec = {"containers": [container], "resourceClaims": [{"name": "c", **claim}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def why(api: Api, name: str, namespace: str) -> str:
    def told(obj: dict[str, Any]) -> Any:
        return next((one.get("message") for one in obj["status"].get("conditions", ()) if one.get("message")), "")

    message: str = told(api.wait_for("pods", name, told, namespace))
    return message


def test_a_pod_goes_where_its_devices_are(api: Api, namespace: str) -> None:
    api.create({"apiVersion": V1, "kind": "ResourceClaim", "metadata": {"name": "both"}, "spec": wanting(2)}, namespace)
    api.create(pod("p", resourceClaimName="both"), namespace)
    placed = api.wait_for("pods", "p", "Ready", namespace)
    assert placed["spec"]["nodeName"] == "node-2"
    status = api.get("resourceclaims", "both", namespace)["status"]
    assert [one["device"] for one in status["allocation"]["devices"]["results"]] == ["d1", "d2"]
    assert status["reservedFor"] == [{"resource": "pods", "name": "p", "uid": placed["metadata"]["uid"]}]


def test_pods_of_a_template_wait_until_devices_are_given_back(api: Api, namespace: str) -> None:
    api.create({"apiVersion": V1, "kind": "ResourceClaimTemplate", "metadata": {"name": "t"},
                "spec": {"spec": wanting(1)}}, namespace)  # fmt: skip
    for number in (1, 2):
        api.create(pod(f"p{number}", resourceClaimTemplateName="t"), namespace)
        api.wait_for("pods", f"p{number}", "Ready", namespace)
    api.create(pod("p3", resourceClaimTemplateName="t"), namespace)
    api.wait_until(lambda: "cannot allocate all claims" in why(api, "p3", namespace))
    assert why(api, "p3", namespace).startswith("0/2 nodes are available: 2 cannot allocate all claims. ")
    api.delete("pods", "p1", namespace)
    api.wait_for("pods", "p3", "Ready", namespace)


def test_what_a_claim_lacks_is_said(api: Api, namespace: str) -> None:
    api.create(pod("early", resourceClaimName="later"), namespace)
    assert why(api, "early", namespace).startswith(
        '0/2 nodes are available: resourceclaim.resource.k8s.io "later" not found. '
    )
    asked = {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "none"}}]}}
    api.create({"apiVersion": V1, "kind": "ResourceClaim", "metadata": {"name": "odd"}, "spec": asked}, namespace)
    api.create(pod("odd", resourceClaimName="odd"), namespace)
    assert "request r: device class none does not exist" in why(api, "odd", namespace)
