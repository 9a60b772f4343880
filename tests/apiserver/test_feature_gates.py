"""Feature gates over the API: paths, kinds, fields, parameters and plugins that are there where their feature is on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pinnace.apis.runtime_config import RuntimeConfig
from pinnace.machinery.meta import Obj
from tests.apiserver.test_prerelease import EVERYTHING, serving

DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
DEPLOYMENT: Obj = {
    "metadata": {"name": "a"},
    "spec": {
        "selector": {"matchLabels": {"app": "a"}},
        "template": {
            "metadata": {"labels": {"app": "a"}},
            "spec": {
                "containers": [{"name": "c", "image": "i", "lifecycle": {"stopSignal": "SIGUSR1"}}],
                "os": {"name": "linux"},
            },
        },
    },
}
NOTHING = RuntimeConfig()


async def resources(cluster: Any, path: str) -> set[str]:
    answer = await cluster.call("GET", path)
    return {each["name"] for each in answer.json["resources"]} if answer.status == 200 else set()


@pytest.mark.parametrize(
    ("minor", "gates", "there"),
    [
        (31, {}, False),
        (32, {"InPlacePodVerticalScaling": True}, True),
        (33, {}, True),
        (33, {"InPlacePodVerticalScaling": False}, False),
    ],
)
async def test_the_path_resize(pki: Path, tmp_path: Path, minor: int, gates: Mapping[str, bool], there: bool) -> None:
    async with serving(pki, tmp_path / "state.db", minor, NOTHING, gates) as cluster:
        assert ("pods/resize" in await resources(cluster, "/api/v1")) is there


@pytest.mark.parametrize(("on", "left"), [(True, {"stopSignal": "SIGUSR1"}), (False, {})])
async def test_fields_that_are_off_are_dropped(pki: Path, tmp_path: Path, on: bool, left: Obj) -> None:
    async with serving(pki, tmp_path / "state.db", 37, NOTHING, {"ContainerStopSignals": on}) as cluster:
        made = await cluster.request("POST", DEPLOYMENTS, DEPLOYMENT)
        assert made["spec"]["template"]["spec"]["containers"][0]["lifecycle"] == left


@pytest.mark.parametrize(("gates", "there"), [({"ClusterTrustBundle": True}, True), ({}, False)])
async def test_kinds_that_a_feature_brings(pki: Path, tmp_path: Path, gates: Mapping[str, bool], there: bool) -> None:
    async with serving(pki, tmp_path / "state.db", 34, EVERYTHING, gates) as cluster:
        found = await resources(cluster, "/apis/certificates.k8s.io/v1beta1")
        assert ("clustertrustbundles" in found) is there


@pytest.mark.parametrize(("minor", "gates", "status"), [(33, {}, 422), (33, {"WatchList": True}, 200), (34, {}, 200)])
async def test_streaming_lists(pki: Path, tmp_path: Path, minor: int, gates: Mapping[str, bool], status: int) -> None:
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1"
    async with serving(pki, tmp_path / "state.db", minor, NOTHING, gates) as cluster:
        answer = await cluster.call("GET", f"/api/v1/namespaces?{query}")
        assert answer.status == status
        if status == 422:
            words = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            assert words in answer.json["message"]


async def test_what_is_off_is_neither_there_nor_waited_for(pki: Path, tmp_path: Path) -> None:
    gates = {"APIServerIdentity": False, "StorageVersionHash": False}
    async with serving(pki, tmp_path / "state.db", 37, NOTHING, gates) as cluster:
        leases = await cluster.request("GET", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases")
        assert leases["items"] == []
        assert (await cluster.call("GET", "/readyz")).status == 200
        found = (await cluster.call("GET", "/api/v1")).json["resources"]
        assert not any("storageVersionHash" in each for each in found)


async def test_metrics_tell_how_gates_are_set(pki: Path, tmp_path: Path) -> None:
    async with serving(pki, tmp_path / "state.db", 37, NOTHING, {"ContainerStopSignals": True}) as cluster:
        told = (await cluster.call("GET", "/metrics")).body.decode()
    assert 'kubernetes_feature_enabled{name="ContainerStopSignals",stage="ALPHA"} 1' in told
    assert 'kubernetes_feature_enabled{name="CompositePodGroup",stage="ALPHA"} 0' in told
    assert 'kubernetes_feature_enabled{name="DynamicResourceAllocation",stage=""} 1' in told
