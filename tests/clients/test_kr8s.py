"""`kr8s`: objects with methods, waiting, scaling, logs."""

from __future__ import annotations

from pathlib import Path

import kr8s
import pytest
from kr8s.objects import ConfigMap, Deployment, Pod

from pinnace.testing import Cluster
from tests.conformance.samples import template


@pytest.fixture
def api(kubeconfig: Path, namespace: str) -> kr8s.Api:
    return kr8s.api(kubeconfig=str(kubeconfig), namespace=namespace)


def test_objects_are_made_changed_and_deleted(api: kr8s.Api, namespace: str) -> None:
    made = ConfigMap({"metadata": {"name": "one", "namespace": namespace}, "data": {"a": "1"}}, api=api)
    made.create()
    assert made.exists()
    made.patch({"data": {"b": "2"}})
    made.label(app="a")
    assert dict(ConfigMap.get("one", namespace=namespace, api=api).data) == {"a": "1", "b": "2"}
    assert [one.name for one in api.get("configmaps", namespace=namespace, label_selector={"app": "a"})] == ["one"]
    made.delete()
    made.wait("delete", timeout=30)
    with pytest.raises(kr8s.NotFoundError):
        ConfigMap.get("one", namespace=namespace, api=api, timeout=0)


def test_a_deployment_is_scaled_and_its_pods_are_ready(cluster: Cluster, api: kr8s.Api, namespace: str) -> None:
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "template": template(app="web")}
    web = Deployment({"metadata": {"name": "web", "namespace": namespace}, "spec": spec}, api=api)
    web.create()
    web.wait("condition=Available", timeout=30)
    web.scale(2)
    cluster.api.wait_for("deploy", "web", lambda obj: obj["status"].get("readyReplicas") == 2, namespace)
    pods = web.pods()
    assert len(pods) == 2
    name = pods[0].name
    cluster.set_log(name, "hello\n", namespace, container="main")
    assert list(Pod.get(name, namespace=namespace, api=api).logs()) == ["hello"]


def test_changes_are_watched(api: kr8s.Api, namespace: str) -> None:
    body = {"metadata": {"name": "one", "namespace": namespace, "labels": {"app": "a"}}}
    made = ConfigMap(body, api=api)
    made.create()
    seen = []
    for event, obj in api.watch("configmaps", namespace=namespace, label_selector={"app": "a"}):
        seen.append((event, obj.name))
        if event == "ADDED":
            made.annotate(a="b")
        elif event == "MODIFIED":
            made.delete()
        else:
            break
    assert seen == [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]


def test_the_server_is_introduced(api: kr8s.Api) -> None:
    assert api.version()["major"] == "1"
    assert api.whoami() == "kubernetes-admin"
    assert {"Pod", "Deployment", "CustomResourceDefinition"} <= {one["kind"] for one in api.api_resources()}
