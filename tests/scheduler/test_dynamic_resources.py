"""Devices from slice to pod: claims are allocated and reserved as pods are bound, against the API server."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from pinnace.testing import Cluster

DRIVER = "gpu.example.com"
ATTRIBUTES = f'device.attributes["{DRIVER}"]'
GROUP = "resource.k8s.io/v1"


def made(kind: str, name: str, spec: Obj, version: str = GROUP) -> Obj:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def publish(pinnace: Cluster, *devices: Obj, **more: Any) -> str:
    """A class and the devices of it, on the one node; its name."""
    [node] = [one["metadata"]["name"] for one in pinnace.api.list("nodes")]
    selectors = [{"cel": {"expression": f'device.driver == "{DRIVER}"'}}]
    pinnace.api.create(made("DeviceClass", "gpu", {"selectors": selectors, **more}))
    pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": DRIVER, "pool": pool, "nodeName": node, "devices": list(devices)}
    pinnace.api.create(made("ResourceSlice", "gpus", spec))
    return str(node)


def claim(name: str, **exactly: Any) -> Obj:
    wanted = {"name": "r", "exactly": {"deviceClassName": "gpu", **exactly}}
    return made("ResourceClaim", name, {"devices": {"requests": [wanted]}})


def pod(name: str, *claims: str, **resources: str) -> Obj:
    container = {"name": "c", "image": "c", "resources": {"requests": resources, "limits": resources}}
    named = [{"name": one, "resourceClaimName": one} for one in claims]
    return made("Pod", name, {"containers": [container], "resourceClaims": named}, "v1")


def is_bound(obj: Obj) -> bool:
    return bool(obj["spec"].get("nodeName"))


def says(words: str) -> Any:
    def check(obj: Obj) -> bool:
        return any(words in (one.get("message") or "") for one in obj["status"].get("conditions") or ())

    return check


@pytest.mark.pinnace(nodes=1)
def test_shares_of_a_device_are_given_out_until_it_is_full(pinnace: Cluster) -> None:
    api = pinnace.api
    publish(pinnace, {"name": "d", "allowMultipleAllocations": True, "capacity": {"memory": {"value": "8Gi"}}})
    for name in ("a", "b"):
        api.create(claim(name, capacity={"requests": {"memory": "4Gi"}}), "default")
        api.create(pod(name, name), "default")
        api.wait_for("pods", name, is_bound, "default")
    results = [
        api.get("resourceclaims", name, "default")["status"]["allocation"]["devices"]["results"] for name in "ab"
    ]
    assert [one["consumedCapacity"] for [one] in results] == [{"memory": "4Gi"}] * 2
    assert len({one["shareID"] for [one] in results}) == 2
    api.create(claim("c", capacity={"requests": {"memory": "1Gi"}}), "default")
    api.create(pod("c", "c"), "default")
    api.wait_for("pods", "c", says("1 cannot allocate all claims"), "default")
    api.delete("pods", "a", "default")
    api.wait_for("pods", "c", is_bound, "default")


@pytest.mark.pinnace(nodes=1)
def test_a_pod_waits_until_its_device_is_attached(pinnace: Cluster) -> None:
    api = pinnace.api
    conditions = {"bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]}
    publish(pinnace, {"name": "d", **conditions})
    api.create(claim("a"), "default")
    api.create(pod("a", "a"), "default")

    def report(kind: str) -> None:
        found = api.wait_for("resourceclaims", "a", lambda obj: (obj.get("status") or {}).get("allocation"), "default")
        assert found["status"]["allocation"]["allocationTimestamp"]
        [result] = found["status"]["allocation"]["devices"]["results"]
        said = {"type": kind, "status": "True", "reason": "Said", "message": "by the driver"}
        said["lastTransitionTime"] = "2026-01-01T00:00:00Z"
        device = {key: result[key] for key in ("driver", "pool", "device")} | {"conditions": [said]}
        api.update({**found, "status": {**found["status"], "devices": [device]}}, subresource="status")

    assert api.wait_for("pods", "a", lambda obj: obj["status"].get("nominatedNodeName"), "default")
    report("Broken")
    why = 'running PreBind plugin "DynamicResources": claim a binding failed: reason=Said, message="by the driver"'
    api.wait_for("pods", "a", says(why), "default")
    api.wait_for("resourceclaims", "a", lambda obj: not obj["status"].get("devices"), "default")
    assert not is_bound(api.get("pods", "a", "default"))
    report("Attached")
    found = api.wait_for("pods", "a", is_bound, "default")
    assert "nominatedNodeName" not in found["status"]


@pytest.mark.pinnace(nodes=1)
def test_a_device_stands_behind_an_extended_resource(pinnace: Cluster) -> None:
    api = pinnace.api
    publish(pinnace, {"name": "d"}, extendedResourceName="example.com/gpu")
    api.create(pod("a", **{"example.com/gpu": "1"}), "default")
    found = api.wait_for("pods", "a", is_bound, "default")
    status = found["status"]["extendedResourceClaimStatus"]
    mapping = {"containerName": "c", "requestName": "container-0-request-0", "resourceName": "example.com/gpu"}
    assert status["requestMappings"] == [mapping]
    made = api.get("resourceclaims", status["resourceClaimName"], "default")
    assert made["metadata"]["name"].startswith("a-extended-resources-")
    assert made["status"]["allocation"]["devices"]["results"][0]["device"] == "d"
    assert made["status"]["reservedFor"][0]["name"] == "a"
    api.create(pod("b", **{"example.com/gpu": "1"}), "default")
    api.wait_for("pods", "b", says("1 cannot allocate all claims"), "default")
    api.delete("pods", "a", "default")
    api.wait_gone("resourceclaims", status["resourceClaimName"], "default")
    api.wait_for("pods", "b", is_bound, "default")


@pytest.mark.pinnace(nodes=1)
def test_a_rule_keeps_pods_off_a_device(pinnace: Cluster) -> None:
    api = pinnace.api
    publish(pinnace, {"name": "d"})
    taint = {"key": "example.com/broken", "effect": "NoSchedule"}
    api.create(made("DeviceTaintRule", "broken", {"deviceSelector": {"device": "d"}, "taint": taint}))
    api.create(claim("a"), "default")
    api.create(pod("a", "a"), "default")
    api.wait_for("pods", "a", says("1 cannot allocate all claims"), "default")
    api.delete("devicetaintrules", "broken")
    api.wait_for("pods", "a", is_bound, "default")


@pytest.mark.pinnace(nodes=3)
def test_a_pod_goes_where_its_first_choice_is(pinnace: Cluster) -> None:
    api = pinnace.api
    api.create(made("DeviceClass", "gpu", {}))
    for place, node in enumerate(sorted(one["metadata"]["name"] for one in api.list("nodes"))):
        pool = {"name": node, "generation": 1, "resourceSliceCount": 1}
        attributes = {"size": {"string": "big" if place == 1 else "small"}}
        devices = [{"name": "d", "attributes": attributes}]
        api.create(made("ResourceSlice", node, {"driver": DRIVER, "pool": pool, "nodeName": node, "devices": devices}))
    alternatives = [
        {
            "name": size,
            "deviceClassName": "gpu",
            "selectors": [{"cel": {"expression": f"{ATTRIBUTES}.size == '{size}'"}}],
        }
        for size in ("big", "small")
    ]
    wanted = {"devices": {"requests": [{"name": "r", "firstAvailable": alternatives}]}}
    api.create(made("ResourceClaim", "a", wanted), "default")
    api.create(pod("a", "a"), "default")
    api.wait_for("pods", "a", is_bound, "default")
    [result] = api.get("resourceclaims", "a", "default")["status"]["allocation"]["devices"]["results"]
    assert result["request"] == "r/big"
