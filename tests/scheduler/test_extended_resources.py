"""Extended resources that devices stand behind: which class, which requests, and what the pod's status says."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from pinnace.scheduler.device_allocation import Allocator, Taken
from pinnace.scheduler.devices import Inventory
from pinnace.scheduler.extended_resources import (
    Backing,
    Request,
    claim_spec,
    classes_by_resource,
    is_claim_of,
    new_claim,
    requests_of,
    status_for,
)
from pinnace.scheduler.plugins.node_resources_fit import NodeResourcesFit
from tests.scheduler.objects import cluster, handle, info, node, pod, shape

GPU = "example.com/gpu"


def container(name: str, **requests: str) -> Obj:
    named = {key.replace("gpu", GPU).replace("nic", "example.com/nic"): value for key, value in requests.items()}
    return {"name": name, "image": "x", "resources": {"requests": named}}


def device_class(name: str, resource: str = "", created: str = "2026-01-01T00:00:00Z") -> Obj:
    spec: Obj = {"extendedResourceName": resource} if resource else {}
    return {"metadata": {"name": name, "namespace": "", "creationTimestamp": created}, "spec": spec}


def test_every_request_of_every_container_is_named_by_its_place() -> None:
    spec = {
        "initContainers": [container("first", cpu="1", gpu="1")],
        "containers": [
            container("a", cpu="1"),
            container("b", gpu="2", memory="1Gi", nic="1"),
            container("c", gpu="0"),
        ],
    }
    spec["containers"][0]["resources"]["requests"]["deviceclass.resource.kubernetes.io/fpga"] = "1"
    assert requests_of(spec) == (
        Request("container-0-request-1", "first", GPU, 1),
        Request("container-1-request-1", "a", "deviceclass.resource.kubernetes.io/fpga", 1),
        Request("container-2-request-0", "b", GPU, 2),
        Request("container-2-request-1", "b", "example.com/nic", 1),
    )


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([device_class("a", GPU)], "a"),
        ([device_class("a", GPU), device_class("b", GPU, "2026-01-02T00:00:00Z")], "b"),
        ([device_class("b", GPU), device_class("a", GPU)], "a"),
        ([device_class("a")], None),
    ],
)
def test_the_latest_class_stands_behind_a_resource(classes: list[Obj], expected: str | None) -> None:
    found = classes_by_resource(classes)
    assert found.get(GPU) == expected
    assert found["deviceclass.resource.kubernetes.io/a"] == "a"


def test_the_claim_and_the_status_of_its_pod() -> None:
    owner = pod("p", container={"resources": {"requests": {GPU: "2", "cpu": "1"}}})
    requests = requests_of(owner["spec"])
    claim = new_claim(owner, claim_spec(requests, {GPU: "gpu"}))
    assert claim["metadata"]["generateName"] == "p-extended-resources-"
    assert claim["metadata"]["annotations"] == {"resource.kubernetes.io/extended-resource-claim": "true"}
    exactly = {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}
    assert claim["spec"] == {"devices": {"requests": [{"name": "container-0-request-1", "exactly": exactly}]}}
    assert is_claim_of(claim, "uid-p")
    assert not is_claim_of(claim, "another")
    claim["metadata"]["name"] = "p-extended-resources-x"
    mapping = {"containerName": "c", "resourceName": GPU, "requestName": "container-0-request-1"}
    assert status_for(claim, requests) == {"resourceClaimName": "p-extended-resources-x", "requestMappings": [mapping]}
    slices = {"spec": {
        "driver": "d", "pool": {"name": "n", "generation": 1, "resourceSliceCount": 1}, "nodeName": "n",
        "devices": [{"name": "x"}, {"name": "y"}]}}  # fmt: skip
    found = Allocator([claim], {"gpu": {"spec": {}}}, Taken()).allocate(Inventory([slices]).on("n", {})) or []
    assert [one["device"] for one in found[0]["devices"]["results"]] == ["x", "y"]


@pytest.mark.parametrize(
    ("extra", "classes", "reasons"),
    [
        ({}, [], (f"Insufficient {GPU}",)),
        ({}, [device_class("gpu", GPU)], None),
        ({GPU: "0"}, [device_class("gpu", GPU)], None),
        ({GPU: "1"}, [device_class("gpu", GPU)], (f"Insufficient {GPU}",)),
        ({GPU: "2"}, [], None),
    ],
)
def test_devices_stand_in_where_the_kubelet_knows_nothing_of_the_resource(
    extra: dict[str, Any], classes: list[Obj], reasons: tuple[str, ...] | None
) -> None:
    cache = cluster()
    known = handle(cache, deviceclasses=classes)
    fit = NodeResourcesFit(backing=Backing(known.objects, lambda: cache.storage_version))
    rejection = fit.filter(shape(container={"resources": {"requests": {GPU: "2"}}}), info(node("n", extra=extra)))
    assert (rejection and rejection.reasons) == reasons
