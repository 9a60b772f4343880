"""What is good but unwise in an object comes back as a warning, to those who talk HTTP."""

from __future__ import annotations

from tests.apiserver.conftest import Cluster, pod
from tests.apiserver.test_objects import deployment

NAMESPACE = "/api/v1/namespaces/default"


async def test_the_author_of_a_pod_is_warned_once(cluster: Cluster) -> None:
    env = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    container = {"name": "c", "image": "i", "env": env}
    answer = await cluster.call("POST", f"{NAMESPACE}/pods", pod("a", containers=[container]))
    assert answer.status == 201
    hides = 'spec.containers[0].env[1]: hides previous definition of \\"A\\", which may be dropped when using apply'
    assert answer.warnings == [f'299 - "{hides}"']
    patch = {"metadata": {"labels": {"a": "b"}}}
    answer = await cluster.call("PATCH", f"{NAMESPACE}/pods/a", patch, content_type="application/merge-patch+json")
    assert answer.warnings == []


async def test_the_author_of_a_workload_is_warned_when_the_spec_changes(cluster: Cluster) -> None:
    path = "/apis/apps/v1/namespaces/default/deployments"
    named = (
        "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; "
        "a DNS label is recommended: [must not contain dots]"
    )
    body = deployment("web")
    body["metadata"]["name"] = "a.b"
    assert (await cluster.call("POST", path, body)).warnings == [f'299 - "{named}"']
    patch = {"spec": {"replicas": 2}}
    answer = await cluster.call("PATCH", f"{path}/a.b", patch, content_type="application/merge-patch+json")
    assert answer.warnings == [f'299 - "{named}"']


async def test_who_reads_endpoints_is_told_of_slices(cluster: Cluster) -> None:
    answer = await cluster.call("GET", f"{NAMESPACE}/endpoints")
    assert answer.status == 200
    assert answer.warnings == ['299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"']
