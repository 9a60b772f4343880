"""Claims, volumes and their classes in use outlive their deletion."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.resources import PERSISTENT_VOLUMES, VOLUME_ATTRIBUTES_CLASSES
from pinnace.controllers.volume_protection import (
    CLAIM_FINALIZER,
    CLASS_FINALIZER,
    VacProtectionController,
    attributes_of,
    claims_of,
    guarded,
    uses,
)
from pinnace.testing import Cluster
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import running


def claim(*finalizers: str, deleting: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "data", "namespace": "ns", "finalizers": list(finalizers)}
    if deleting:
        metadata["deletionTimestamp"] = "2024-01-01T00:00:00Z"
    return {"metadata": metadata}


@pytest.mark.parametrize(
    ("obj", "in_use", "expected"),
    [
        (claim(), False, [CLAIM_FINALIZER]),
        (claim("other"), True, ["other", CLAIM_FINALIZER]),
        (claim(CLAIM_FINALIZER), False, None),
        (claim(CLAIM_FINALIZER, deleting=True), True, None),
        (claim("other", CLAIM_FINALIZER, deleting=True), False, ["other"]),
        (claim("other", deleting=True), False, None),
    ],
)
def test_finalizers_are_there_while_they_are_needed(obj: Any, in_use: bool, expected: list[str] | None) -> None:
    assert guarded(obj, CLAIM_FINALIZER, in_use=in_use) == expected


def test_a_pod_uses_named_and_ephemeral_claims() -> None:
    volumes = [
        {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "b", "ephemeral": {"volumeClaimTemplate": {}}},
        {"name": "c", "emptyDir": {}},
    ]
    pod = {"metadata": {"name": "web", "namespace": "ns"}, "spec": {"volumes": volumes}}
    assert list(claims_of(pod)) == ["ns/data", "ns/web-b"]


@pytest.mark.parametrize(
    ("named", "node", "grace", "owner", "expected"),
    [
        ("data", "n1", None, None, True),
        ("data", "n1", 0, None, True),  # until it is gone
        ("data", "", None, None, False),
        ("other", "n1", None, None, False),
        ("", "n1", None, "u", True),  # its own
        ("", "n1", 30, "u", True),
        ("", "n1", 0, "u", False),  # its node is done with it
        ("", "n1", None, "another", False),
        ("", "n1", None, None, False),
        ("", "", None, "u", False),
    ],
)
def test_how_long_a_pod_has_a_claim(
    named: str, node: str, grace: int | None, owner: str | None, expected: bool
) -> None:
    source: dict[str, Any] = {"persistentVolumeClaim": {"claimName": named}} if named else {"ephemeral": {}}
    metadata: dict[str, Any] = {"name": "web", "namespace": "ns", "uid": "u"}
    if grace is not None:
        metadata |= {"deletionTimestamp": "2024-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace}
    pod = {"metadata": metadata, "spec": {"nodeName": node, "volumes": [{"name": "v", **source}]}}
    wanted: dict[str, Any] = {"metadata": {"name": "data" if named else "web-v", "namespace": "ns"}}
    if owner is not None:
        wanted["metadata"]["ownerReferences"] = [{"kind": "Pod", "name": "web", "uid": owner, "controller": True}]
    assert uses(pod, wanted) is expected


def test_which_classes_a_claim_has() -> None:
    spec = {"volumeAttributesClassName": "gold"}
    status = {
        "currentVolumeAttributesClassName": "silver",
        "modifyVolumeStatus": {"targetVolumeAttributesClassName": "gold"},
    }
    assert list(attributes_of({"spec": spec, "status": status})) == ["gold", "silver"]
    assert list(attributes_of({"spec": {}})) == []


async def test_a_class_in_use_stays() -> None:
    api = FakeApi()
    one = {"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttributesClass", "metadata": {"name": "gold"}}
    pv = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"}}
    await api.client.create(PERSISTENT_VOLUMES, {**pv, "spec": {"volumeAttributesClassName": "gold"}})
    async with running(api, VacProtectionController):
        await api.client.create(VOLUME_ATTRIBUTES_CLASSES, one)
        await api.until(
            lambda: api.all(VOLUME_ATTRIBUTES_CLASSES)[0]["metadata"].get("finalizers") == [CLASS_FINALIZER]
        )
        await api.client.delete(VOLUME_ATTRIBUTES_CLASSES, "gold")
        assert api.all(VOLUME_ATTRIBUTES_CLASSES)
        await api.client.delete(PERSISTENT_VOLUMES, "pv")
        await api.until(lambda: not api.all(VOLUME_ATTRIBUTES_CLASSES))


@pytest.mark.pinnace(scheduler=False, nodes=1)
def test_a_claim_goes_with_the_last_pod_that_uses_it(pinnace: Cluster) -> None:
    api = pinnace.api
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    for name in ("unused", "data"):
        body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
        api.create(body)
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    pod_spec = {"nodeName": "node-1", "containers": [{"name": "c", "image": "x"}], "volumes": [volume]}
    api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user"}, "spec": pod_spec})
    api.wait_for("pods", "user", "Ready")
    api.delete("pvc", "data")
    api.delete("pvc", "unused")
    api.wait_gone("pvc", "unused")
    assert api.get("pvc", "data")["metadata"]["deletionTimestamp"]
    api.delete("pods", "user")
    api.wait_gone("pvc", "data")


@pytest.mark.pinnace(scheduler=False, nodes=1)
def test_a_pod_deleted_in_the_foreground_goes_with_its_own_claims(pinnace: Cluster) -> None:
    """Each waits for the other otherwise."""
    api = pinnace.api
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    volume = {"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": spec}}}
    pod_spec = {"nodeName": "node-1", "containers": [{"name": "c", "image": "x"}], "volumes": [volume]}
    api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "user"}, "spec": pod_spec})
    api.wait_for("pods", "user", "Ready")
    assert api.get("pvc", "user-v")["metadata"]["finalizers"] == [CLAIM_FINALIZER]
    api.delete("pods", "user", propagation="Foreground")
    api.wait_gone("pods", "user")
    api.wait_gone("pvc", "user-v")
