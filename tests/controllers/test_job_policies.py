"""A Job's own rules: failures that end it, or do not count, and successes that are enough."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pinnace.apis.resources import JOBS, PODS
from pinnace.controllers.job import JobController
from pinnace.controllers.job_policies import FINALIZER
from pinnace.controllers.job_status import ending, is_managed_elsewhere, progress
from pinnace.machinery.meta import Obj
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, running
from tests.controllers.test_job import job

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def failed(code: int = 1, *, container: str = "main", condition: str = "") -> Obj:
    found = [{"type": condition, "status": "True"}] if condition else []
    state = {"terminated": {"exitCode": code}}
    return {
        "metadata": {"name": "p", "namespace": "default", "uid": "p", "finalizers": [FINALIZER]},
        "status": {"phase": "Failed", "conditions": found, "containerStatuses": [{"name": container, "state": state}]},
    }


def on_exit(action: str, operator: str, *values: int, **more: str) -> Obj:
    return {"action": action, "onExitCodes": {"operator": operator, "values": list(values), **more}}


def on_condition(action: str, condition: str) -> Obj:
    return {"action": action, "onPodConditions": [{"type": condition, "status": "True"}]}


@pytest.mark.parametrize(
    ("rules", "pod", "reason", "counted"),
    [
        ([on_exit("FailJob", "In", 42)], failed(42), "PodFailurePolicy", 1),
        ([on_exit("FailJob", "In", 42)], failed(1), "", 1),
        ([on_exit("FailJob", "NotIn", 42)], failed(1), "PodFailurePolicy", 1),
        ([on_exit("FailJob", "In", 42, containerName="other")], failed(42), "", 1),
        ([on_exit("FailJob", "In", 42, containerName="main")], failed(42), "PodFailurePolicy", 1),
        ([on_condition("Ignore", "DisruptionTarget")], failed(137, condition="DisruptionTarget"), "", 0),
        ([on_condition("Ignore", "DisruptionTarget")], failed(137), "", 1),
        ([on_exit("Count", "In", 42), on_exit("FailJob", "In", 42)], failed(42), "", 1),
    ],
)
def test_rules_for_failures(rules: list[Obj], pod: Obj, reason: str, counted: int) -> None:
    owner = job(podFailurePolicy={"rules": rules})
    now_at = progress(owner, [pod])
    found = ending(owner, now_at, NOW)
    assert (found.reason if found else "", now_at.failed) == (reason, counted)
    if found:
        code = pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
        said = f"Container main for pod default/p failed with exit code {code} matching FailJob rule at index 0"
        assert found.message == said


@pytest.mark.parametrize(
    ("rule", "done", "expected"),
    [
        ({"succeededIndexes": "0,2"}, "0,2", True),
        ({"succeededIndexes": "0,2"}, "0,1", False),
        ({"succeededCount": 2}, "1,3", True),
        ({"succeededCount": 2}, "1", False),
        ({"succeededIndexes": "0-2", "succeededCount": 1}, "2", True),
        ({"succeededIndexes": "0-2", "succeededCount": 1}, "3", False),
    ],
)
def test_rules_for_success(rule: Obj, done: str, expected: bool) -> None:
    owner = job(completions=5, completionMode="Indexed", successPolicy={"rules": [rule]})
    owner["status"] = {"completedIndexes": done}
    found = ending(owner, progress(owner, []), NOW)
    assert (found is not None) is expected
    if found is not None:
        assert (found.type, found.reason, found.message) == ("Complete", "SuccessPolicy", "Matched rules at index 0")


@pytest.mark.parametrize(
    ("manager", "expected"), [(None, False), ("kubernetes.io/job-controller", False), ("x.io/y", True)]
)
def test_who_manages_a_job(manager: str | None, expected: bool) -> None:
    assert is_managed_elsewhere(job(managedBy=manager)) is expected


async def test_a_failure_ends_the_job() -> None:
    api = FakeApi()

    async with running(api, JobController):
        await api.client.create(JOBS, job(podFailurePolicy={"rules": [on_exit("FailJob", "In", 42)]}))
        pod = await api.until(lambda: api.all(PODS) and api.all(PODS)[0])
        await api.set_status(PODS, f"default/{pod['metadata']['name']}", failed(42)["status"])
        await api.until(lambda: "Failed" in conditions(api.all(JOBS)[0]))
        assert conditions(api.all(JOBS)[0])["Failed"][1] == "PodFailurePolicy"
