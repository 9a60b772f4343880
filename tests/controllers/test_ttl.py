"""Nodes are told how long to cache, the trust bundle is published, and what is old goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinnace.apis.resources import (
    CLUSTER_TRUST_BUNDLES,
    NODES,
    PERSISTENT_VOLUMES,
    POD_CERTIFICATE_REQUESTS,
    VOLUME_ATTRIBUTES_CLASSES,
)
from pinnace.controllers.clustertrustbundle_publisher import ClusterTrustBundlePublisher, bundle
from pinnace.controllers.podcertificaterequest_cleaner import PodCertificateRequestCleaner, forgotten_in
from pinnace.controllers.ttl import ANNOTATION, TtlController, next_step
from pinnace.controllers.volume_protection import CLASS_FINALIZER, VacProtectionController, attributes_of
from pinnace.machinery.meta import Obj, annotations_of, format_time, name_of
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import running

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("step", "nodes", "expected"),
    [(0, 100, 0), (0, 101, 1), (1, 95, 1), (1, 89, 0), (0, 1500, 3), (4, 10, 0), (4, 1800, 4), (5, 20_000, 5)],
)
def test_the_steps_overlap(step: int, nodes: int, expected: int) -> None:
    assert next_step(step, nodes) == expected


async def test_nodes_are_told() -> None:
    api = FakeApi()
    async with running(api, TtlController):
        await api.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n0"}})
        await api.until(lambda: annotations_of(api.all(NODES)[0]).get(ANNOTATION) == "0")
        for number in range(1, 101):
            await api.client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"n{number}"}})
        await api.until(lambda: annotations_of(api.find(NODES, "n100") or {"metadata": {}}).get(ANNOTATION) == "15")


def request(ago: float) -> Obj:
    metadata = {"name": "r", "namespace": "default", "creationTimestamp": format_time(NOW - timedelta(seconds=ago))}
    return {"apiVersion": "certificates.k8s.io/v1", "kind": "PodCertificateRequest", "metadata": metadata}


@pytest.mark.parametrize(("ago", "left"), [(0, 900), (600, 300), (900, 0)])
def test_requests_for_pods_are_short_lived(ago: float, left: float) -> None:
    assert forgotten_in(request(ago), NOW) == left


async def test_an_old_request_goes() -> None:
    api = FakeApi()
    await api.client.create(POD_CERTIFICATE_REQUESTS, request(10**8))
    async with running(api, PodCertificateRequestCleaner):
        await api.until(lambda: not api.all(POD_CERTIFICATE_REQUESTS))


async def test_the_newest_authority_alone_is_published() -> None:
    api = FakeApi()
    await api.client.create(CLUSTER_TRUST_BUNDLES, bundle("OLD"))
    others = {**bundle("OTHER"), "metadata": {"name": "x:y:z"}, "spec": {"signerName": "x/y", "trustBundle": "OTHER"}}
    await api.client.create(CLUSTER_TRUST_BUNDLES, others)

    def make(client: Any, informers: Any) -> ClusterTrustBundlePublisher:
        return ClusterTrustBundlePublisher(client, informers, "PEM")

    name = "kubernetes.io:kube-apiserver-serving:c7928766ea95d47e82bcb5af"
    async with running(api, make):
        await api.until(
            lambda: {name_of(one) for one in api.all(CLUSTER_TRUST_BUNDLES)} == {name_of(bundle("PEM")), "x:y:z"}
        )
    assert len(name_of(bundle("PEM"))) == len(name)


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
