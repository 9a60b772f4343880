"""`lightkube`: typed models, server-side apply, patches, waiting, logs."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightkube import ApiError, Client, KubeConfig
from lightkube.models.apps_v1 import DeploymentSpec
from lightkube.models.core_v1 import Container, PodSpec, PodTemplateSpec
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Node, Pod
from lightkube.types import PatchType

from pinnace.testing import Cluster


@pytest.fixture
def client(kubeconfig: Path, namespace: str) -> Client:
    return Client(config=KubeConfig.from_file(str(kubeconfig)), namespace=namespace, field_manager="lightkube-test")


def config_map(**data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name="one", labels={"app": "a"}), data=data)


def test_objects_are_made_changed_and_deleted(client: Client) -> None:
    made = client.create(config_map(a="1"))
    assert made.metadata is not None
    assert made.metadata.uid
    patched = client.patch(ConfigMap, "one", {"data": {"b": "2"}}, patch_type=PatchType.MERGE)
    assert patched.data == {"a": "1", "b": "2"}
    patched.data = {"c": "3"}
    assert client.replace(patched).data == {"c": "3"}
    assert [one.data for one in client.list(ConfigMap, labels={"app": "a"})] == [{"c": "3"}]
    client.delete(ConfigMap, "one")
    with pytest.raises(ApiError) as caught:
        client.get(ConfigMap, "one")
    assert (caught.value.status.code, caught.value.status.reason) == (404, "NotFound")


def test_objects_are_applied(client: Client) -> None:
    assert client.apply(config_map(a="1", b="2")).data == {"a": "1", "b": "2"}
    assert client.apply(config_map(a="3")).data == {"a": "3"}
    with pytest.raises(ApiError) as caught:
        client.apply(config_map(a="4"), field_manager="another")
    assert caught.value.status.code == 409
    assert client.apply(config_map(a="4"), field_manager="another", force=True).data == {"a": "4"}


def test_changes_are_watched(client: Client, namespace: str) -> None:
    client.create(config_map())
    seen = []
    for event, obj in client.watch(ConfigMap, labels={"app": "a"}, server_timeout=30):
        seen.append((event, obj.metadata.name if obj.metadata else ""))
        if event == "ADDED":
            client.patch(ConfigMap, "one", {"data": {"a": "1"}}, patch_type=PatchType.MERGE)
        elif event == "MODIFIED":
            client.delete(ConfigMap, "one")
        else:
            break
    assert seen == [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]


def test_a_deployment_becomes_available(cluster: Cluster, client: Client, namespace: str) -> None:
    pods = PodTemplateSpec(
        metadata=ObjectMeta(labels={"app": "web"}),
        spec=PodSpec(containers=[Container(name="main", image="example.com/any")]),
    )
    spec = DeploymentSpec(selector=LabelSelector(matchLabels={"app": "web"}), template=pods, replicas=1)
    client.create(Deployment(metadata=ObjectMeta(name="web"), spec=spec))
    client.wait(Deployment, "web", for_conditions=["Available"])
    scale = client.get(Deployment.Scale, "web")
    assert scale.spec is not None
    assert scale.spec.replicas == 1
    [pod] = client.list(Pod, labels={"app": "web"})
    assert pod.metadata is not None
    assert pod.metadata.name is not None
    cluster.set_log(pod.metadata.name, "one\ntwo\n", namespace, container="main")
    assert list(client.log(pod.metadata.name)) == ["one\n", "two\n"]
    assert [one.metadata.name for one in client.list(Node) if one.metadata] == ["node-1"]
