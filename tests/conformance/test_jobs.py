"""Jobs: indexes, and policies of success and failure. The test ends pods as their programs would."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.testing import Api, Cluster

INDEX = "batch.kubernetes.io/job-completion-index"


def job(name: str, **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "example.com/any"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


def lasting() -> dict[str, Any]:
    """A template of pods that run until they are told to end."""
    container = {"name": "c", "image": "example.com/any"}
    annotations = {"hollow.pinnace.dev/run-seconds": "1000"}
    return {"metadata": {"annotations": annotations}, "spec": {"restartPolicy": "Never", "containers": [container]}}


def indexed(completions: int, **spec: Any) -> dict[str, Any]:
    return job("j", completionMode="Indexed", completions=completions, parallelism=completions, **spec)


def running(api: Api, namespace: str, count: int) -> dict[str, str]:
    """Wait for so many running pods; their names by their index."""

    def found() -> dict[str, str] | None:
        pods = api.list("pods", namespace, fields="status.phase=Running")
        names = {one["metadata"].get("annotations", {}).get(INDEX, ""): one["metadata"]["name"] for one in pods}
        return names if len(pods) == count else None

    listed: dict[str, str] = api.wait_until(found)
    return listed


def all_running(api: Api, namespace: str, count: int) -> list[str]:
    """Wait for so many running pods; their names."""
    api.wait_until(lambda: len(api.list("pods", namespace, fields="status.phase=Running")) == count)
    return [one["metadata"]["name"] for one in api.list("pods", namespace)]


def condition(api: Api, namespace: str, kind: str) -> dict[str, Any]:
    """Wait until the Job has ended so; the condition."""
    ended = api.wait_for("jobs", "j", kind, namespace)
    return next(one for one in ended["status"]["conditions"] if one["type"] == kind)


def test_every_pod_has_an_index_of_its_own(cluster: Cluster, api: Api, namespace: str) -> None:
    """Conformance: "Ensure Pods of an Indexed Job get a unique index." """
    api.create(indexed(4), namespace)
    pods = running(api, namespace, 4)
    assert set(pods) == {"0", "1", "2", "3"}
    for name in pods.values():
        cluster.finish_pod(name, namespace)
    condition(api, namespace, "Complete")
    assert api.get("jobs", "j", namespace)["status"]["completedIndexes"] == "0-3"


def test_a_job_ends_early_by_an_exit_code(cluster: Cluster, api: Api, namespace: str) -> None:
    """Conformance: "Verify Pod Failure policy allows to fail job early on exit code." """
    rule = {"action": "FailJob", "onExitCodes": {"containerName": "c", "operator": "In", "values": [42]}}
    api.create(job("j", parallelism=2, completions=4, backoffLimit=6, podFailurePolicy={"rules": [rule]}), namespace)
    cluster.finish_pod(all_running(api, namespace, 2)[0], namespace, exit_code=42)
    assert condition(api, namespace, "Failed")["reason"] == "PodFailurePolicy"


@pytest.mark.parametrize(
    ("rule", "finished"),
    [({"succeededIndexes": "0"}, ["0"]), ({"succeededCount": 2}, ["1", "2"])],
    ids=["indexes", "count"],
)
def test_a_job_succeeds_before_all_indexes_do(
    cluster: Cluster, api: Api, namespace: str, rule: dict[str, Any], finished: list[str]
) -> None:
    """Conformance: "Ensure that job with successPolicy succeededIndexes rule succeeded even when some indexes remain
    pending", "Ensure that job with successPolicy succeededCount rule succeeded even when some indexes remain pending"
    """
    api.create(indexed(4, successPolicy={"rules": [rule]}), namespace)
    pods = running(api, namespace, 4)
    for index in finished:
        cluster.finish_pod(pods[index], namespace)
    assert condition(api, namespace, "SuccessCriteriaMet")["reason"] == "SuccessPolicy"
    condition(api, namespace, "Complete")


def test_a_job_with_a_success_policy_may_succeed_wholly(cluster: Cluster, api: Api, namespace: str) -> None:
    """Conformance: "Ensure that job with successPolicy succeeded when all indexes succeeded" """
    api.create(indexed(2, successPolicy={"rules": [{"succeededCount": 2}]}), namespace)
    for name in running(api, namespace, 2).values():
        cluster.finish_pod(name, namespace)
    condition(api, namespace, "Complete")
    assert api.get("jobs", "j", namespace)["status"]["completedIndexes"] == "0,1"


def test_a_job_lives(api: Api, namespace: str) -> None:
    """Conformance: "Jobs, manage lifecycle" """
    api.create(job("j", suspend=True, completions=2, parallelism=2), namespace)
    api.wait_for("jobs", "j", "Suspended", namespace)
    patched = api.patch("jobs", "j", {"metadata": {"labels": {"a": "patched"}}, "spec": {"suspend": False}}, namespace)
    assert patched["metadata"]["labels"]["a"] == "patched"
    all_running(api, namespace, 2)
    assert [one["metadata"]["name"] for one in api.list("jobs", labels="a=patched")] == ["j"]
    path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    params = {"labelSelector": "a=patched", "propagationPolicy": "Background"}
    api.request("DELETE", path, params=params)
    api.wait_gone("jobs", "j", namespace)
    api.wait_until(lambda: not api.list("pods", namespace))


def test_a_deleted_job_takes_its_pods_along(api: Api, namespace: str) -> None:
    """Conformance: "Jobs, active pods, graceful termination" """
    api.create(job("j", parallelism=2, completions=4, template=lasting()), namespace)
    api.wait_for("jobs", "j", lambda obj: obj.get("status", {}).get("active") == 2, namespace)
    all_running(api, namespace, 2)
    api.delete("jobs", "j", namespace)
    api.wait_gone("jobs", "j", namespace)
    api.wait_until(lambda: not api.list("pods", namespace))


def test_evictions_are_no_failures_if_the_policy_says_so(cluster: Cluster, api: Api, namespace: str) -> None:
    """Conformance: "Ensure pod failure policy allows to ignore failure matching on the DisruptionTarget condition" """
    rules = [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": {"operator": "NotIn", "values": [0]}},
    ]
    api.create(indexed(2, backoffLimit=0, podFailurePolicy={"rules": rules}, template=lasting()), namespace)
    evicted = running(api, namespace, 2)
    for name in evicted.values():
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
        api.request("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", eviction)
        api.wait_gone("pods", name, namespace)
    fresh = running(api, namespace, 2)
    assert set(fresh) == {"0", "1"}
    assert not set(fresh.values()) & set(evicted.values())
    for name in fresh.values():
        cluster.finish_pod(name, namespace)
    condition(api, namespace, "Complete")
    status = api.get("jobs", "j", namespace)["status"]
    assert (status["succeeded"], status.get("failed", 0)) == (2, 0)
