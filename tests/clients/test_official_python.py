"""The official Python client, synchronous: typed and dynamic, watching, patching, electing a leader, informing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config, dynamic, informer, utils, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

from pinnace.testing import Cluster
from tests.conformance.samples import template


@pytest.fixture
def core(kubeconfig: Path) -> Iterator[client.CoreV1Api]:
    config.load_kube_config(str(kubeconfig))
    with client.ApiClient() as api:
        yield client.CoreV1Api(api)


def config_map(name: str, **data: str) -> client.V1ConfigMap:
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels={"app": "a"}), data=data)


def test_objects_are_made_read_changed_and_deleted(core: client.CoreV1Api, namespace: str) -> None:
    made = core.create_namespaced_config_map(namespace, config_map("one", a="1"))
    assert made.metadata.uid
    with pytest.raises(ApiException) as caught:
        core.create_namespaced_config_map(namespace, config_map("one"))
    assert (caught.value.status, "AlreadyExists" in caught.value.body) == (409, True)
    patched = core.patch_namespaced_config_map("one", namespace, {"data": {"b": "2"}})
    assert patched.data == {"a": "1", "b": "2"}
    stale = made
    stale.data = {}
    with pytest.raises(ApiException) as caught:
        core.replace_namespaced_config_map("one", namespace, stale)
    assert caught.value.status == 409
    patched.data = {"c": "3"}
    assert core.replace_namespaced_config_map("one", namespace, patched).data == {"c": "3"}
    assert core.list_namespaced_config_map(namespace, label_selector="app=a").items[0].metadata.name == "one"
    assert core.delete_namespaced_config_map("one", namespace)["status"] == "Success"
    with pytest.raises(ApiException) as caught:
        core.read_namespaced_config_map("one", namespace)
    assert caught.value.status == 404


def test_lists_are_read_in_pages(core: client.CoreV1Api, namespace: str) -> None:
    for number in range(7):
        core.create_namespaced_config_map(namespace, config_map(f"c{number}"))
    found: list[str] = []
    token = None
    while True:
        page = core.list_namespaced_config_map(namespace, limit=3, _continue=token, label_selector="app=a")
        found += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert found == [f"c{number}" for number in range(7)]


def test_changes_are_watched(core: client.CoreV1Api, namespace: str) -> None:
    stream = watch.Watch()
    start = core.list_namespaced_config_map(namespace).metadata.resource_version
    core.create_namespaced_config_map(namespace, config_map("one"))
    core.patch_namespaced_config_map("one", namespace, {"data": {"a": "1"}})
    core.delete_namespaced_config_map("one", namespace)
    seen = []
    for event in stream.stream(
        core.list_namespaced_config_map, namespace, label_selector="app=a", resource_version=start, timeout_seconds=30
    ):
        seen.append((event["type"], event["object"].metadata.name))
        if event["type"] == "DELETED":
            stream.stop()
    assert seen == [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one")]


def test_a_pod_runs_and_its_log_is_read(cluster: Cluster, core: client.CoreV1Api, namespace: str) -> None:
    spec = client.V1PodSpec(containers=[client.V1Container(name="main", image="example.com/any")])
    core.create_namespaced_pod(namespace, client.V1Pod(metadata=client.V1ObjectMeta(name="p"), spec=spec))
    cluster.api.wait_for("pods", "p", "Ready", namespace)
    cluster.set_log("p", "hello\nworld\n", namespace, container="main")
    assert core.read_namespaced_pod_log("p", namespace) == "hello\nworld\n"
    assert core.read_namespaced_pod_log("p", namespace, tail_lines=1) == "world\n"
    stream = watch.Watch()
    assert list(stream.stream(core.read_namespaced_pod_log, "p", namespace)) == ["hello", "world"]
    assert core.delete_namespaced_pod("p", namespace).metadata.deletion_timestamp


def test_manifests_make_a_deployment_that_becomes_available(cluster: Cluster, core: Any, namespace: str) -> None:
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template(app="web")}
    body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec}
    utils.create_from_dict(core.api_client, body, namespace=namespace)
    cluster.api.wait_for("deploy", "web", "Available", namespace)
    apps = client.AppsV1Api(core.api_client)
    apps.patch_namespaced_deployment_scale("web", namespace, {"spec": {"replicas": 3}})
    cluster.api.wait_for("deploy", "web", lambda obj: obj["status"].get("readyReplicas") == 3, namespace)
    assert apps.read_namespaced_deployment_scale("web", namespace).status.replicas == 3


def test_every_kind_of_patch(core: client.CoreV1Api, namespace: str) -> None:
    api = dynamic.DynamicClient(core.api_client)
    pods = api.resources.get(api_version="v1", kind="Pod")
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": template()["spec"]}
    pods.create(body=body, namespace=namespace)
    image = {"spec": {"containers": [{"name": "main", "image": "example.com/other"}]}}
    kind = "application/strategic-merge-patch+json"
    assert pods.patch(image, "p", namespace, content_type=kind).spec.containers[0].image == "example.com/other"
    label = {"metadata": {"labels": {"a": "b"}}}
    kind = "application/merge-patch+json"
    assert pods.patch(label, "p", namespace, content_type=kind).metadata.labels.a == "b"
    operation = [{"op": "replace", "path": "/metadata/labels/a", "value": "c"}]
    kind = "application/json-patch+json"
    assert pods.patch(operation, "p", namespace, content_type=kind).metadata.labels.a == "c"


def test_the_dynamic_client_finds_every_resource(core: client.CoreV1Api) -> None:
    api = dynamic.DynamicClient(core.api_client)
    assert api.version["kubernetes"]["major"] == "1"
    for version, kind in (("v1", "Pod"), ("apps/v1", "Deployment"), ("events.k8s.io/v1", "Event")):
        assert api.resources.get(api_version=version, kind=kind).kind == kind


def test_one_leads_and_another_follows(core: client.CoreV1Api, namespace: str) -> None:
    leads, ended = threading.Event(), threading.Event()

    def candidate(identity: str, started: Any) -> leaderelection.LeaderElection:
        lock = LeaseLock("leader", namespace, identity)
        return leaderelection.LeaderElection(
            electionconfig.Config(
                lock,
                lease_duration=4,
                renew_deadline=3,
                retry_period=1,
                onstarted_leading=started,
                onstopped_leading=ended.set,
            )
        )

    first = candidate("first", leads.set)
    assert first.try_acquire_or_renew()
    follower = candidate("second", ended.set)
    assert not follower.try_acquire_or_renew()
    threading.Thread(target=first.run, daemon=True).start()
    assert leads.wait(60)
    lease = client.CoordinationV1Api(core.api_client).read_namespaced_lease("leader", namespace)
    assert lease.spec.holder_identity == "first"
    # Another that holds the lease ends the leadership.
    lease.spec.holder_identity = "other"
    while not ended.is_set():
        try:
            client.CoordinationV1Api(core.api_client).replace_namespaced_lease("leader", namespace, lease)
            break
        except ApiException:  # it was renewed in between
            lease = client.CoordinationV1Api(core.api_client).read_namespaced_lease("leader", namespace)
            lease.spec.holder_identity = "other"
    assert ended.wait(60)


def test_an_informer_keeps_a_copy(core: client.CoreV1Api, namespace: str) -> None:
    core.create_namespaced_config_map(namespace, config_map("before"))
    shared = informer.SharedInformer(core.list_namespaced_config_map, namespace=namespace, label_selector="app=a")
    added: dict[str, threading.Event] = {"before": threading.Event(), "after": threading.Event()}
    gone = threading.Event()
    shared.add_event_handler("ADDED", lambda obj: added[obj.metadata.name].set())
    shared.add_event_handler("DELETED", lambda _: gone.set())
    shared.start()
    try:
        assert added["before"].wait(60)
        core.create_namespaced_config_map(namespace, config_map("after"))
        assert added["after"].wait(60)
        core.delete_namespaced_config_map("before", namespace)
        assert gone.wait(60)
        assert [one.metadata.name for one in shared.cache.list()] == ["after"]
    finally:
        shared.stop()


def test_a_service_account_sees_what_it_may(cluster: Cluster, namespace: str) -> None:
    config.load_kube_config(str(cluster.kubeconfig_for_service_account("default", namespace)))
    with client.ApiClient() as api, pytest.raises(ApiException) as caught:
        client.CoreV1Api(api).list_namespaced_secret(namespace)
    assert caught.value.status == 403
