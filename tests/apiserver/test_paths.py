"""Paths and methods that are not quite right, answered as kube-apiserver answers them."""

from __future__ import annotations

import pytest

from tests.apiserver.conftest import Cluster
from tests.apiserver.custom import established

DEFINITION = {
    "metadata": {"name": "boats.sea.example.com"},
    "spec": {
        "group": "sea.example.com",
        "scope": "Namespaced",
        "names": {"plural": "boats", "kind": "Boat"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}
BOATS = "/apis/sea.example.com/v1/namespaces/default/boats"
PODS = "/api/v1/namespaces/default/pods"
NO_METHOD = "the server does not allow this method on the requested resource"
NO_PATH = "the server could not find the requested resource"
PLAIN = "404 page not found\n"


@pytest.mark.parametrize(
    ("method", "path", "code", "message"),
    [
        ("HEAD", "/api/v1/namespaces/default", 405, ""),
        ("HEAD", "/api/v1/pods", 405, ""),
        ("HEAD", "/api/v1/pods?watch=1", 405, ""),
        ("HEAD", "/api", 405, ""),
        ("HEAD", "/version", 405, ""),
        ("HEAD", "/healthz", 200, ""),
        ("HEAD", "/openapi/v3", 200, ""),
        ("HEAD", BOATS, 200, ""),
        ("HEAD", "/nowhere", 404, ""),
        ("OPTIONS", "/api/v1/pods", 405, NO_METHOD),
        ("OPTIONS", "/apis", 405, NO_METHOD),
        ("TRACE", "/api/v1/pods", 405, NO_METHOD),
        ("PUT", PODS, 405, NO_METHOD),
        ("PATCH", PODS, 405, NO_METHOD),
        ("POST", f"{PODS}/a", 405, NO_METHOD),
        ("POST", "/api/v1/pods", 405, NO_METHOD),
        ("DELETE", "/api/v1/pods", 405, NO_METHOD),
        ("DELETE", "/apis/apps", 405, NO_METHOD),
        ("POST", "/version", 405, NO_METHOD),
        ("GET", f"{PODS}/a/nothing", 404, NO_PATH),
        ("GET", f"{PODS}/a/log/more", 404, NO_PATH),
        ("GET", "/api/v1/namespaces/default/configmaps/a/status", 404, NO_PATH),
        ("GET", "/api/v1/pods/a", 404, NO_PATH),
        ("GET", "/api/v1/namespaces/default/nodes", 404, NO_PATH),
        ("GET", "/apis/apps/v9/deployments", 404, NO_PATH),
        ("GET", "/api/v2/pods", 404, NO_PATH),
        ("GET", "/api//v1/pods", 404, NO_PATH),
        ("GET", "/api/v1//pods", 404, NO_PATH),
        ("GET", "/api/v1/../v1/pods", 404, NO_PATH),
        ("GET", "/api/v1/./pods", 404, NO_PATH),
        ("GET", "//api/v1/pods", 404, PLAIN),
        ("GET", "/apis/nothing", 404, PLAIN),
        ("GET", "/openapi", 404, PLAIN),
        ("POST", "/healthz", 200, "ok"),
        ("GET", f"{BOATS}/a/nothing", 404, 'boats.sea.example.com "a" not found'),
        ("GET", f"{BOATS}/a/scale", 404, 'boats.sea.example.com "a" not found'),
        ("PUT", BOATS, 400, "name must be provided"),
        ("PATCH", BOATS, 400, "name must be provided"),
        ("DELETE", "/apis/sea.example.com/v1/boats", 404, NO_PATH),
        ("POST", "/apis/sea.example.com/v1/boats", 404, NO_PATH),
    ],
)
async def test_paths_and_methods_there_are_not(
    cluster: Cluster, method: str, path: str, code: int, message: str
) -> None:
    if "sea.example.com" in path:
        await established(cluster, DEFINITION)

    answer = await cluster.call(method, path)

    assert answer.status == code
    if answer.headers["content-type"] == "application/json" and method != "HEAD":
        assert (answer.json["message"], answer.json["code"]) == (message, code)
    else:
        assert answer.body.decode() == message


@pytest.mark.parametrize("path", ["/api/", "/apis/apps/v1/", "/version/", "/healthz/", "/api/v1/", "/openapi/v3/"])
async def test_a_slash_at_the_end_changes_nothing(cluster: Cluster, path: str) -> None:
    with_slash, without = await cluster.call("GET", path), await cluster.call("GET", path[:-1])

    assert with_slash.status == without.status == 200
    assert with_slash.body == without.body


async def test_clients_are_told_where_the_server_is(cluster: Cluster) -> None:
    told = (await cluster.call("GET", "/api")).json["serverAddressByClientCIDRs"]

    assert told == [{"clientCIDR": "0.0.0.0/0", "serverAddress": f"127.0.0.1:{cluster.port}"}]
