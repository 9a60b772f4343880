"""Alpha and beta versions over the API: served where they are asked for, as second views of the same objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pinnace.apis import builtin
from pinnace.apis.runtime_config import RuntimeConfig, parse_runtime_config
from pinnace.apiserver.server import ApiServer
from pinnace.machinery.meta import Obj
from pinnace.machinery.schema import Schemas
from pinnace.store.sqlite import SqliteStore
from tests.apiserver.conftest import Cluster, options_for

CLAIMS = "/apis/resource.k8s.io/{}/namespaces/default/resourceclaims"
EVERYTHING = parse_runtime_config("api/all=true", builtin.GROUPS)


@asynccontextmanager
async def serving(
    pki: Path, state: Path, minor: int, config: RuntimeConfig, gates: Mapping[str, bool] | None = None
) -> AsyncIterator[Cluster]:
    store = SqliteStore.open(state)
    server = ApiServer(options_for(pki, minor=minor, runtime_config=config, feature_gates=gates or {}), store)
    try:
        await server.start()
        yield Cluster(server, store, pki)
    finally:
        await server.stop()
        await store.close()


def claim(request: Obj) -> Obj:
    return {"metadata": {"name": "gpu"}, "spec": {"devices": {"requests": [request]}}}


async def test_nothing_before_its_time_is_served_unless_asked_for(pki: Path, tmp_path: Path) -> None:
    async with serving(pki, tmp_path / "state.db", 37, RuntimeConfig()) as cluster:
        answer = await cluster.call("GET", CLAIMS.format("v1beta1"))
        groups = (await cluster.call("GET", "/apis")).json["groups"]

    assert answer.status == 404
    assert {version["version"] for group in groups for version in group["versions"]} == {"v1", "v2"}


@pytest.mark.parametrize("minor", Schemas.minors())
async def test_all_of_it_can_be_listed_and_explained(pki: Path, tmp_path: Path, minor: int) -> None:
    async with serving(pki, tmp_path / "state.db", minor, EVERYTHING, {"AllAlpha": True, "AllBeta": True}) as cluster:
        for kind in cluster.server.api.registry.kinds:
            if "list" in kind.verbs and kind.group:
                answer = await cluster.call("GET", f"/apis/{kind.group}/{kind.version}/{kind.plural}")
                assert (kind.gvr, answer.status, answer.json["kind"]) == (kind.gvr, 200, f"{kind.kind}List")
        documents = (await cluster.call("GET", "/openapi/v3")).json["paths"]
        for group, versions in cluster.server.api.registry.groups():
            assert {f"apis/{group}/{version}" for version in versions if group} <= set(documents)


async def test_versions_are_views_of_the_same_objects(pki: Path, tmp_path: Path) -> None:
    flat = {"name": "one", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1}
    async with serving(pki, tmp_path / "state.db", 37, EVERYTHING) as cluster:
        created = (await cluster.call("POST", CLAIMS.format("v1beta1"), claim(flat))).json
        shown = (await cluster.call("GET", CLAIMS.format("v1") + "/gpu")).json
        listed = (await cluster.call("GET", CLAIMS.format("v1beta2"))).json
        watch = await cluster.watch(CLAIMS.format("v1beta1") + "?watch=1&resourceVersion=0")
        event = await watch.next()
        watch.close()

    assert event is not None
    details = {name: value for name, value in flat.items() if name != "name"}
    assert created["spec"]["devices"]["requests"] == [flat]
    assert (shown["apiVersion"], shown["spec"]["devices"]["requests"]) == (
        "resource.k8s.io/v1",
        [{"name": "one", "exactly": details}],
    )
    assert [item["metadata"]["uid"] for item in listed["items"]] == [created["metadata"]["uid"]]
    assert event["object"]["spec"]["devices"]["requests"] == [flat]


async def test_a_newer_kubernetes_serves_what_an_older_one_stored(pki: Path, tmp_path: Path) -> None:
    config = parse_runtime_config("resource.k8s.io/v1beta1=true", builtin.GROUPS)
    flat = {"name": "one", "deviceClassName": "gpu"}
    async with serving(pki, tmp_path / "state.db", 32, config) as cluster:
        created = (await cluster.call("POST", CLAIMS.format("v1beta1"), claim(flat))).json
    async with serving(pki, tmp_path / "state.db", 37, RuntimeConfig()) as cluster:
        shown = (await cluster.call("GET", CLAIMS.format("v1") + "/gpu")).json
        patched = await cluster.call(
            "PATCH",
            CLAIMS.format("v1") + "/gpu",
            {"metadata": {"labels": {"a": "b"}}},
            content_type="application/merge-patch+json",
        )

    assert shown["apiVersion"] == "resource.k8s.io/v1"
    assert shown["metadata"]["uid"] == created["metadata"]["uid"]
    assert shown["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] == "gpu"
    assert (patched.status, patched.json["metadata"]["labels"]) == (200, {"a": "b"})
