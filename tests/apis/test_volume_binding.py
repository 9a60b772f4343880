"""Claims get the volumes that fit them."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apis.core.volume_binding import default_class, find_volume, mismatch
from pinnace.machinery.meta import Obj, name_of

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
