"""A namespace holds its pods to a Pod Security Standard."""

from __future__ import annotations

from typing import Any

from tests.apiserver.conftest import Cluster, pod
from tests.apiserver.test_objects import deployment

PREFIX = "pod-security.kubernetes.io"
PODS = "/api/v1/namespaces/default/pods"


async def label(cluster: Cluster, **levels: str) -> Any:
    labels = {f"{PREFIX}/{mode.replace('_', '-')}": level for mode, level in levels.items()}
    patch = {"metadata": {"labels": labels}}
    return await cluster.call("PATCH", "/api/v1/namespaces/default", patch, content_type="application/merge-patch+json")


async def test_what_violates_the_enforced_level_is_refused(cluster: Cluster) -> None:
    await label(cluster, enforce="baseline")
    refused = await cluster.refused("POST", PODS, pod("a", hostNetwork=True))
    assert refused.code == 403
    assert refused.message == (
        'pods "a" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
    )
    await cluster.request("POST", PODS, pod("b"))


async def test_the_author_of_a_pod_is_warned(cluster: Cluster) -> None:
    await label(cluster, warn="baseline", warn_version="v1.30")
    answer = await cluster.call("POST", PODS, pod("a", hostNetwork=True))
    assert answer.status == 201
    assert answer.warnings == [
        '299 - "would violate PodSecurity \\"baseline:v1.30\\": host namespaces (hostNetwork=true)"'
    ]


async def test_the_author_of_a_workload_is_warned_of_what_is_enforced(cluster: Cluster) -> None:
    await label(cluster, enforce="baseline")
    workload = deployment("web")
    workload["spec"]["template"]["spec"]["hostPID"] = True
    answer = await cluster.call("POST", "/apis/apps/v1/namespaces/default/deployments", workload)
    assert answer.status == 201
    assert answer.warnings == [
        '299 - "would violate PodSecurity \\"baseline:latest\\": host namespaces (hostPID=true)"'
    ]


async def test_who_tightens_the_level_hears_of_the_pods_there_are(cluster: Cluster) -> None:
    for name in ("a", "b", "c"):
        await cluster.request("POST", PODS, pod(name, hostNetwork=True))
    answer = await label(cluster, enforce="baseline")
    assert answer.status == 200
    level = 'existing pods in namespace \\"default\\" violate the new PodSecurity enforce level \\"baseline:latest\\"'
    assert answer.warnings == [f'299 - "{level}"', '299 - "a (and 2 other pods): host namespaces"']
    assert (await label(cluster, enforce="privileged")).warnings == []


async def test_a_level_that_is_none_is_refused(cluster: Cluster) -> None:
    answer = await label(cluster, enforce="strict")
    assert answer.status == 422
    assert answer.json["message"] == (
        f'Namespace "default" is invalid: metadata.labels[{PREFIX}/enforce]: Invalid value: "strict": '
        "must be one of privileged, baseline, restricted"
    )
