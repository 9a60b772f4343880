"""What API servers said of the versions they store is forgotten when they are gone."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pinnace.apis.resources import LEASES, STORAGE_VERSIONS
from pinnace.controllers.storage_version_gc import StorageVersionGarbageCollector, without_gone
from pinnace.machinery.meta import Obj
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, running

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def reported(**encodings: str) -> Obj:
    said = [{"apiServerID": server, "encodingVersion": version} for server, version in encodings.items()]
    kind = {"apiVersion": STORAGE_VERSIONS.api_version, "kind": "StorageVersion"}
    return {**kind, "metadata": {"name": "apps.deployments"}, "spec": {}, "status": {"storageVersions": said}}


def lease(name: str, identity: str = "kube-apiserver") -> Obj:
    labels = {"apiserver.kubernetes.io/identity": identity}
    kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    return {**kind, "metadata": {"name": name, "namespace": "kube-system", "labels": labels}, "spec": {}}


@pytest.mark.parametrize(
    ("version", "leases", "left", "common"),
    [
        (reported(a="v1"), {"a": lease("a")}, None, None),
        (reported(a="v1"), {}, [], None),
        (reported(a="v1"), {"a": lease("a", "another")}, [], None),
        (reported(a="v1", b="v2"), {"a": lease("a")}, ["a"], "v1"),
        (reported(a="v1", b="v2", c="v1"), {"a": lease("a"), "b": lease("b")}, ["a", "b"], None),
    ],
)
def test_who_is_left(version: Obj, leases: dict[str, Obj], left: list[str] | None, common: str | None) -> None:
    status = without_gone(version, leases.get, NOW)
    assert (None if status is None else [one["apiServerID"] for one in status["storageVersions"]]) == left
    assert (status or {}).get("commonEncodingVersion") == common


async def test_versions_follow_the_leases_of_servers() -> None:
    api = FakeApi()
    for name in ("a", "b"):
        await api.client.create(LEASES, lease(name))
    await api.client.create(STORAGE_VERSIONS, reported(a="v1", b="v2"))
    async with running(api, StorageVersionGarbageCollector):
        await api.client.delete(LEASES, "b", "kube-system")
        agreed = ("True", "CommonEncodingVersionSet", "Common encoding version set")
        await api.until(
            lambda: conditions(api.find(STORAGE_VERSIONS, "apps.deployments")).get("AllEncodingVersionsEqual") == agreed
        )
        await api.client.delete(LEASES, "a", "kube-system")
        await api.until(lambda: not api.all(STORAGE_VERSIONS))
