"""The metrics API behind a real API server, of hollow nodes whose pods use what their annotations say."""

from __future__ import annotations

import pytest

from pinnace.client.https import tls_context
from pinnace.client.kubeconfig import Kubeconfig
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity
from pinnace.metrics_server.scraper import Kubelet, kubelet_of
from pinnace.metrics_server.server import MetricsServer
from pinnace.testing import Cluster

BASE = "/apis/metrics.k8s.io/v1beta1"


def _get(cluster: Cluster, path: str, **params: str) -> Obj:
    return cluster.api.request("GET", f"{BASE}/{path}", params=params)


def _pod(name: str, cpu: str, containers: int = 1) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": name},
            "annotations": {"hollow.pinnace.dev/cpu": cpu, "hollow.pinnace.dev/memory": "64Mi"},
        },
        "spec": {"containers": [{"name": f"c{number}", "image": "none"} for number in range(containers)]},
    }


def _measured(cluster: Cluster, name: str) -> Obj:
    """PodMetrics of a pod, as soon as there are any."""

    def found() -> Obj | None:
        try:
            return _get(cluster, f"namespaces/default/pods/{name}")
        except ApiError as error:
            if error.message != f'podmetrics.metrics.k8s.io "default/{name}" not found':
                raise
            return None

    measured: Obj = cluster.api.wait_until(found)
    return measured


def test_pods_and_their_containers(cluster: Cluster, metrics: MetricsServer) -> None:
    cluster.api.create(_pod("two", "250m", containers=2), "default")
    found = _measured(cluster, "two")
    assert (found["kind"], found["apiVersion"]) == ("PodMetrics", "metrics.k8s.io/v1beta1")
    assert found["metadata"]["labels"] == {"app": "two"}
    assert [one["name"] for one in found["containers"]] == ["c0", "c1"]
    assert [one["usage"]["memory"] for one in found["containers"]] == ["64Mi", "64Mi"]
    for one in found["containers"]:
        assert Quantity.parse(one["usage"]["cpu"]).milli_value() == pytest.approx(250, abs=3)
    assert found["timestamp"].endswith("Z")
    assert found["window"].endswith("s")


def test_lists_and_selectors(cluster: Cluster, metrics: MetricsServer) -> None:
    for name in ("one", "other"):
        cluster.api.create(_pod(name, "10m"), "default")
        _measured(cluster, name)

    def names(path: str, **params: str) -> list[str]:
        listed = _get(cluster, path, **params)
        assert (listed["kind"], listed["apiVersion"]) == ("PodMetricsList", "metrics.k8s.io/v1beta1")
        return [item["metadata"]["name"] for item in listed["items"]]

    assert {"one", "other"} <= set(names("pods"))
    assert {"one", "other"} <= set(names("namespaces/default/pods"))
    assert names("namespaces/kube-system/pods") == []
    assert names("pods", labelSelector="app=one") == ["one"]
    assert names("namespaces/default/pods", fieldSelector="metadata.name=other") == ["other"]
    nodes = _get(cluster, "nodes", labelSelector="kubernetes.io/hostname=node-1")
    assert (nodes["kind"], [one["metadata"]["name"] for one in nodes["items"]]) == ("NodeMetricsList", ["node-1"])
    assert set(_get(cluster, "nodes/node-2")["usage"]) == {"cpu", "memory"}


@pytest.mark.parametrize(
    ("path", "params", "code", "message"),
    [
        ("nodes/none", {}, 404, 'nodes "none" not found'),
        ("namespaces/default/pods/none", {}, 404, 'pods "none" not found'),
        ("things", {}, 404, "the server could not find the requested resource"),
        ("nodes", {"watch": "true"}, 405, "the server does not allow this method on the requested resource"),
        (
            "pods",
            {"fieldSelector": "spec.nodeName=a"},
            400,
            '"spec.nodeName" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
    ],
)
def test_what_cannot_be_answered(
    cluster: Cluster, metrics: MetricsServer, path: str, params: dict[str, str], code: int, message: str
) -> None:
    with pytest.raises(ApiError) as failed:
        _get(cluster, path, **params)
    assert (failed.value.code, failed.value.message) == (code, message)


def test_selector_that_is_none_and_bad_methods_are_refused(cluster: Cluster, metrics: MetricsServer) -> None:
    with pytest.raises(ApiError) as failed:
        _get(cluster, "pods", labelSelector="a in")
    assert failed.value.code == 400
    with pytest.raises(ApiError) as failed:
        cluster.api.request("DELETE", f"{BASE}/nodes/node-1")
    assert failed.value.code == 405


def test_documents_tell_of_both_kinds(cluster: Cluster, metrics: MetricsServer) -> None:
    resources = cluster.api.request("GET", BASE)["resources"]
    assert [(one["name"], one["kind"], one["namespaced"], one["verbs"]) for one in resources] == [
        ("nodes", "NodeMetrics", False, ["get", "list"]),
        ("pods", "PodMetrics", True, ["get", "list"]),
    ]
    index = cluster.api.request("GET", "/openapi/v3")["paths"]["apis/metrics.k8s.io/v1beta1"]
    path, _, query = index["serverRelativeURL"].partition("?")
    schemas = cluster.api.request("GET", path, params=dict([query.split("=")]))["components"]["schemas"]
    assert "io.k8s.metrics.pkg.apis.metrics.v1beta1.PodMetrics" in schemas
    whole = cluster.api.wait_until(
        lambda: (found := cluster.api.request("GET", "/openapi/v2"))["paths"].get(f"{BASE}/nodes") and found
    )
    assert "io.k8s.metrics.pkg.apis.metrics.v1beta1.NodeMetrics" in whole["definitions"]


async def _ask(url: str, cluster: Cluster, certificate: bool) -> tuple[int, str]:
    connection = Kubeconfig(cluster.kubeconfig_dict()).connection()
    context = tls_context(connection)
    context.check_hostname = False
    if certificate:
        file = cluster.directory / "front-proxy-client.crt"
        context.load_cert_chain(file, file.with_suffix(".key"))
    else:
        import ssl

        context = ssl.create_default_context(cadata=cluster.ca)
        context.check_hostname = False
    import aiohttp

    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
        return answer.status, await answer.text()


async def test_only_front_proxies_are_answered_but_health_is_told_to_all(
    cluster: Cluster, metrics: MetricsServer
) -> None:
    url = "https://{}:{}".format(*metrics.address)
    assert (await _ask(f"{url}{BASE}/nodes", cluster, certificate=False))[0] == 401
    assert (await _ask(f"{url}{BASE}/nodes", cluster, certificate=True))[0] == 401  # for nobody
    for path in ("/livez", "/readyz", "/healthz", "/readyz/metric-storage-ready"):
        assert await _ask(url + path, cluster, certificate=False) == (200, "ok")
    assert (await _ask(f"{url}/livez/other", cluster, certificate=False))[0] == 404


@pytest.mark.parametrize(
    ("status", "kubelet"),
    [
        ({}, None),
        ({"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}, Kubelet("n", "10.0.0.1", 10250)),
        (
            {
                "addresses": [
                    {"type": "ExternalIP", "address": "2.2.2.2"},
                    {"type": "InternalIP", "address": "fd00::1"},
                ],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": 4321}},
            },
            Kubelet("n", "fd00::1", 4321),
        ),
    ],
)
def test_kubelet_is_where_its_node_says(status: Obj, kubelet: Kubelet | None) -> None:
    assert kubelet_of({"metadata": {"name": "n"}, "status": status}, ("InternalIP", "ExternalIP")) == kubelet
