"""The short way of a GET answers what the whole way does, and leaves to it what it cannot say itself."""

from __future__ import annotations

import pytest

from tests.apiserver.conftest import Cluster, config_map, pod

MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def test_an_object_is_the_same_by_either_way(cluster: Cluster) -> None:
    await cluster.request("POST", MAPS, config_map("a"))
    await cluster.request("POST", "/api/v1/namespaces/default/pods", pod("a"))
    for path in (f"{MAPS}/a", "/api/v1/namespaces/default/pods/a", "/api/v1/namespaces/default"):
        plain, whole = await cluster.call("GET", path), await cluster.call("GET", f"{path}?resourceVersion=0")
        assert plain.status == whole.status == 200
        assert plain.json == whole.json
        assert plain.headers["content-type"] == whole.headers["content-type"] == "application/json"


async def test_an_object_is_read_as_it_is_now(cluster: Cluster) -> None:
    for round_of in range(2):
        made = await cluster.request("POST", MAPS, config_map("a"))
        assert (await cluster.call("GET", f"{MAPS}/a")).json == made
        changed = await cluster.request("PUT", f"{MAPS}/a", {**made, "data": {"round": str(round_of)}})
        assert (await cluster.call("GET", f"{MAPS}/a")).json == changed
        await cluster.request("DELETE", f"{MAPS}/a")
        gone = await cluster.call("GET", f"{MAPS}/a")
        assert (gone.status, gone.json["message"]) == (404, 'configmaps "a" not found')


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v1/configmaps/a", 404),
        ("/api/v1/namespaces/default/nodes/a", 404),
        ("/api/v1/namespaces/default/configmaps/a/status", 404),
        ("/api/v1/namespaces/default/configmaps/a/b/c", 404),
        ("/api/v1/namespaces/default/nothings/a", 404),
        ("/apis/authorization.k8s.io/v1/subjectaccessreviews/a", 405),
    ],
)
async def test_what_is_no_stored_object_is_refused_as_ever(cluster: Cluster, path: str, code: int) -> None:
    await cluster.request("POST", MAPS, config_map("a"))
    for _ in range(2):  # before and after the path is known
        assert (await cluster.call("GET", path)).status == code


async def test_other_forms_and_methods_of_a_known_path(cluster: Cluster) -> None:
    await cluster.request("POST", MAPS, config_map("a"))
    assert (await cluster.call("GET", f"{MAPS}/a")).status == 200
    assert (await cluster.call("GET", f"{MAPS}/a", headers={"Accept": TABLE})).json["kind"] == "Table"
    assert b"\n  " in (await cluster.call("GET", f"{MAPS}/a", headers={"User-Agent": "curl/8.0"})).body
    assert (await cluster.call("GET", f"{MAPS}/a", headers={"Accept": "image/png"})).status == 406
    assert (await cluster.call("HEAD", f"{MAPS}/a")).status == 405
    assert (await cluster.call("DELETE", f"{MAPS}/a")).status == 200


async def test_a_long_object_is_compressed_for_who_takes_it(cluster: Cluster) -> None:
    await cluster.request("POST", MAPS, {**config_map("a"), "data": {"long": "x" * (200 << 10)}})
    answer = await cluster.call("GET", f"{MAPS}/a", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"


async def test_who_may_not_read_is_refused_on_the_short_way_too(cluster: Cluster) -> None:
    await cluster.request("POST", MAPS, config_map("a"))
    assert (await cluster.call("GET", f"{MAPS}/a")).status == 200
    assert (await cluster.call("GET", f"{MAPS}/a", headers={"Authorization": "Bearer nobody"})).status == 401
