"""Claims get the volumes that fit them, and both say so."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.core.volume_binding import BIND_COMPLETED, BOUND_BY_CONTROLLER, default_class, find_volume, mismatch
from pinnace.apis.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, PODS, STORAGE_CLASSES
from pinnace.controllers.persistentvolume_binder import PersistentVolumeBinder, first_consumer
from pinnace.machinery.meta import GVR, Obj, annotations_of, name_of
from pinnace.testing import Cluster
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import messages, running

KEY = "default/data"
RWO, RWX, ROX = "ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"


def claim(size: str = "1Gi", *modes: str, storage_class: str | None = "", **spec: Any) -> Obj:
    spec = {"accessModes": list(modes or (RWO,)), "resources": {"requests": {"storage": size}}, **spec}
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    metadata = {"name": "data", "namespace": "default", "uid": "u1"}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def volume(name: str, size: str = "1Gi", *modes: str, phase: str = "Available", **spec: Any) -> Obj:
    labels = spec.pop("labels", {})
    annotations = spec.pop("annotations", {})
    spec = {"accessModes": list(modes or (RWO,)), "capacity": {"storage": size}, "hostPath": {"path": "/v"}, **spec}
    metadata = {"name": name, "labels": labels, "annotations": annotations}
    status = {"phase": phase} if phase else {}
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec, "status": status}


def kept_for(name: str = "data", uid: str = "") -> Obj:
    return {"claimRef": {"namespace": "default", "name": name, **({"uid": uid} if uid else {})}}


@pytest.mark.parametrize(
    ("wanted", "volumes", "found"),
    [
        (claim(), [], None),
        (claim(), [volume("a", "5Gi"), volume("b", "2Gi"), volume("c", "500Mi")], "b"),
        (claim("1Gi", RWX), [volume("a", "1Gi", RWO), volume("b", "9Gi", RWO, RWX)], "b"),
        (claim(), [volume("a", "1Gi", RWO, RWX, ROX), volume("b", "9Gi", RWO)], "b"),
        (claim(), [volume("a", storageClassName="fast")], None),
        (claim(storage_class="fast"), [volume("a"), volume("b", storageClassName="fast")], "b"),
        (claim(volumeMode="Block"), [volume("a"), volume("b", volumeMode="Block")], "b"),
        (claim(volumeAttributesClassName="gold"), [volume("a")], None),
        (claim(selector={"matchLabels": {"a": "b"}}), [volume("a"), volume("b", labels={"a": "b"})], "b"),
        (claim(), [volume("a", phase="Released"), volume("b", phase="")], None),
        # One that is kept for the claim is taken whatever its size, and no other's.
        (claim(), [volume("a"), volume("b", "9Gi", **kept_for())], "b"),
        (claim(), [volume("b", **kept_for(uid="u1"))], "b"),
        (claim(), [volume("b", **kept_for(uid="u2")), volume("c", **kept_for("other"))], None),
        (claim("2Gi"), [volume("b", "1Gi", **kept_for())], None),
    ],
)
def test_the_smallest_volume_that_fits(wanted: Obj, volumes: list[Obj], found: str | None) -> None:
    match = find_volume(wanted, volumes, delayed=False)
    assert (name_of(match) if match else None) == found


def test_what_waits_for_a_pod_takes_only_what_is_kept_for_it() -> None:
    assert find_volume(claim(), [volume("a")], delayed=True) is None
    assert find_volume(claim(), [volume("a", **kept_for())], delayed=True) is not None


@pytest.mark.parametrize(
    ("wanted", "named", "why"),
    [
        (claim(), volume("a"), ""),
        (claim("2Gi"), volume("a"), "requested PV is too small"),
        (claim(), volume("a", storageClassName="x"), "storageClassName does not match"),
        (claim(volumeMode="Block"), volume("a"), "incompatible volumeMode"),
        (claim("1Gi", RWX), volume("a"), "incompatible accessMode"),
        (claim(volumeAttributesClassName="x"), volume("a"), "volumeAttributesClassName does not match"),
    ],
)
def test_a_volume_that_is_asked_for_must_fit(wanted: Obj, named: Obj, why: str) -> None:
    assert mismatch(named, wanted) == why


def storage_class(name: str, *, default: bool = False, made: str = "2026-01-01T00:00:00Z", **fields: Any) -> Obj:
    mark = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    metadata = {"name": name, "annotations": mark, "creationTimestamp": made}
    return {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata, **fields}


def test_of_several_defaults_the_newest_counts() -> None:
    classes = [
        storage_class("plain"),
        storage_class("b", default=True),
        storage_class("a", default=True),
        storage_class("new", default=True, made="2026-02-01T00:00:00Z"),
    ]
    assert name_of(default_class(classes) or {}) == "new"
    assert name_of(default_class(classes[:3]) or {}) == "a"
    assert default_class(classes[:1]) is None


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        ([], ("WaitForFirstConsumer", "waiting for first consumer to be created before binding")),
        (["b"], ("WaitForPodScheduled", "waiting for pod b to be scheduled")),
        (["b", "a"], ("WaitForPodScheduled", "waiting for pods a,b to be scheduled")),
    ],
)
def test_what_a_claim_waits_for(pods: list[str], expected: tuple[str, str]) -> None:
    assert first_consumer([{"metadata": {"name": name}, "spec": {}} for name in pods]) == expected
    assert first_consumer([{"metadata": {"name": "x"}, "spec": {"nodeName": "n"}}])[0] == "WaitForFirstConsumer"


# The controller.


def phase(api: FakeApi, resource: GVR, key: str) -> str:
    return str(((api.find(resource, key) or {}).get("status") or {}).get("phase", ""))


async def bound(api: FakeApi, name: str = "pv") -> None:
    await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Bound")
    assert phase(api, PERSISTENT_VOLUMES, name) == "Bound"


async def test_claim_and_volume_are_bound() -> None:
    api = FakeApi()
    async with running(api, PersistentVolumeBinder):
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim())
        text = "no persistent volumes available for this claim and no storage class is set"
        await api.until(lambda: text in messages(api, "FailedBinding"))
        await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Pending")
        await api.client.create(PERSISTENT_VOLUMES, volume("pv", "3Gi", phase=""))
        await bound(api)
    mine, its = api.all(PERSISTENT_VOLUME_CLAIMS)[0], api.all(PERSISTENT_VOLUMES)[0]
    assert mine["spec"]["volumeName"] == "pv"
    assert mine["status"] == {"phase": "Bound", "accessModes": [RWO], "capacity": {"storage": "3Gi"}}
    assert annotations_of(mine) == {BIND_COMPLETED: "yes", BOUND_BY_CONTROLLER: "yes"}
    assert (its["spec"]["claimRef"]["name"], its["spec"]["claimRef"]["uid"]) == ("data", "u1")
    assert annotations_of(its) == {BOUND_BY_CONTROLLER: "yes"}


async def test_a_volume_kept_for_a_claim_goes_back_to_waiting_for_its_name() -> None:
    api = FakeApi()
    async with running(api, PersistentVolumeBinder):
        await api.client.create(PERSISTENT_VOLUMES, volume("pv", phase="", **kept_for()))
        await api.until(lambda: phase(api, PERSISTENT_VOLUMES, "pv") == "Available")
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(volumeName="pv"))
        await bound(api)
        assert annotations_of(api.all(PERSISTENT_VOLUMES)[0]) == {}
        assert annotations_of(api.all(PERSISTENT_VOLUME_CLAIMS)[0]) == {BIND_COMPLETED: "yes"}


@pytest.mark.parametrize(
    ("policy", "marks", "expected", "reason"),
    [
        ("Retain", {}, "Released", ""),
        ("Delete", {"pv.kubernetes.io/provisioned-by": "disk.example.com"}, "Released", ""),
        ("Delete", {}, "Failed", "VolumeFailedDelete"),
        ("Recycle", {}, "Failed", "VolumeFailedRecycle"),
    ],
)
async def test_what_becomes_of_a_volume_whose_claim_is_gone(
    policy: str, marks: dict[str, str], expected: str, reason: str
) -> None:
    api = FakeApi()
    made = volume("pv", phase="", persistentVolumeReclaimPolicy=policy, annotations=marks)
    async with running(api, PersistentVolumeBinder):
        await api.client.create(PERSISTENT_VOLUMES, made)
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim())
        await bound(api)
        await api.client.delete(PERSISTENT_VOLUME_CLAIMS, "data", "default")
        await api.until(lambda: phase(api, PERSISTENT_VOLUMES, "pv") == expected)
        if reason:
            await api.until(lambda: messages(api, reason))
        again = claim()
        again["metadata"]["uid"] = "u2"
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, again)
        await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Pending")
        assert phase(api, PERSISTENT_VOLUMES, "pv") == expected


async def test_a_claim_that_loses_its_volume_says_so() -> None:
    api = FakeApi()
    async with running(api, PersistentVolumeBinder):
        await api.client.create(PERSISTENT_VOLUMES, volume("pv", phase=""))
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim())
        await bound(api)
        await api.client.delete(PERSISTENT_VOLUMES, "pv")
        await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Lost")
        text = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
        await api.until(lambda: text in messages(api, "ClaimLost"))


@pytest.mark.parametrize(
    ("named", "reason", "message"),
    [
        (volume("pv", "1Mi"), "VolumeMismatch", 'Cannot bind to requested volume "pv": requested PV is too small'),
        (volume("pv", **kept_for("other")), "FailedBinding", 'volume "pv" already bound to a different claim.'),
    ],
)
async def test_a_named_volume_that_cannot_be_had(named: Obj, reason: str, message: str) -> None:
    api = FakeApi()
    async with running(api, PersistentVolumeBinder):
        await api.client.create(PERSISTENT_VOLUMES, named)
        await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(volumeName="pv"))
        await api.until(lambda: message in messages(api, reason))
        await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Pending")


@pytest.mark.parametrize(
    ("made", "reason", "message"),
    [
        (
            storage_class("fast", provisioner="disk.example.com", volumeBindingMode="Immediate"),
            "ExternalProvisioning",
            "Waiting for a volume to be created either by the external provisioner 'disk.example.com'",
        ),
        (
            storage_class("fast", provisioner="disk.example.com", volumeBindingMode="WaitForFirstConsumer"),
            "WaitForFirstConsumer",
            "waiting for first consumer",
        ),
        (
            storage_class("fast", provisioner="kubernetes.io/no-provisioner", volumeBindingMode="Immediate"),
            "ProvisioningFailed",
            "no volume plugin matched name: kubernetes.io/no-provisioner",
        ),
        (storage_class("other"), "ProvisioningFailed", 'storageclass.storage.k8s.io "fast" not found'),
    ],
)
async def test_a_volume_is_asked_for(made: Obj, reason: str, message: str) -> None:
    api = FakeApi()
    await api.client.create(STORAGE_CLASSES, made)
    await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(storage_class="fast"))
    async with running(api, PersistentVolumeBinder):
        await api.until(lambda: any(said.startswith(message) for said in messages(api, reason)))
        await api.until(lambda: phase(api, PERSISTENT_VOLUME_CLAIMS, KEY) == "Pending")
    asked = annotations_of(api.all(PERSISTENT_VOLUME_CLAIMS)[0]).get("volume.kubernetes.io/storage-provisioner")
    assert asked == ("disk.example.com" if reason == "ExternalProvisioning" else None)


async def test_a_provisioner_is_asked_once_a_node_is_chosen_and_its_volume_taken() -> None:
    api = FakeApi()
    late = storage_class("fast", provisioner="disk.example.com", volumeBindingMode="WaitForFirstConsumer")
    await api.client.create(STORAGE_CLASSES, late)
    await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(storage_class="fast"))
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]
    meta = {"name": "web", "namespace": "default"}
    await api.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"volumes": volumes}})
    async with running(api, PersistentVolumeBinder):
        await api.until(lambda: "waiting for pod web to be scheduled" in messages(api, "WaitForPodScheduled"))
        chosen = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}}}
        await api.client.patch(PERSISTENT_VOLUME_CLAIMS, "data", chosen, "default")
        await api.until(lambda: messages(api, "ExternalProvisioning"))
        made = volume("pvc-u1", phase="", storageClassName="fast", **kept_for(uid="u1"))
        await api.client.create(PERSISTENT_VOLUMES, made)
        await bound(api, "pvc-u1")


async def test_a_claim_gets_the_default_class_that_comes_later() -> None:
    api = FakeApi()
    await api.client.create(PERSISTENT_VOLUME_CLAIMS, claim(storage_class=None))
    async with running(api, PersistentVolumeBinder):
        await api.until(lambda: messages(api, "FailedBinding"))
        made = storage_class("standard", default=True, provisioner="x.io/y", volumeBindingMode="Immediate")
        await api.client.create(STORAGE_CLASSES, made)
        await api.until(lambda: messages(api, "ExternalProvisioning"))
        assert api.all(PERSISTENT_VOLUME_CLAIMS)[0]["spec"]["storageClassName"] == "standard"


@pytest.mark.pinnace(scheduler=False)
def test_binding_through_the_api(pinnace: Cluster) -> None:
    """What is written is what the API server takes."""
    api = pinnace.api
    wanted = claim(storage_class=None)
    del wanted["metadata"]["uid"]
    api.create(wanted)
    api.create(storage_class("standard", default=True, provisioner="x.io/y", volumeBindingMode="Immediate"))
    api.wait_for("pvc", "data", lambda found: found["spec"].get("storageClassName") == "standard")
    made = volume("pv", phase="", storageClassName="standard")
    del made["status"]
    api.create(made)
    api.wait_for("pvc", "data", lambda found: found["status"]["phase"] == "Bound")
    assert api.get("pv", "pv")["status"]["phase"] == "Bound"
    api.delete("pvc", "data")
    api.wait_for("pv", "pv", lambda found: found["status"]["phase"] == "Released")
