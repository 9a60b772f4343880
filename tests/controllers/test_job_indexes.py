"""Indexes of a Job: each fails for itself when `backoffLimitPerIndex` says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinnace.apis.resources import JOBS, PODS
from pinnace.controllers.job import JobController, make_pod
from pinnace.controllers.job_indexes import INDEX, counts_to_write, due, failure_counts
from pinnace.controllers.job_policies import FINALIZER
from pinnace.controllers.job_status import ending, progress
from pinnace.machinery.meta import Obj, annotations_of, format_time
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, running
from tests.controllers.test_job import finished, fresh, job, status
from tests.controllers.test_job_policies import on_condition, on_exit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
COUNT = "batch.kubernetes.io/job-index-failure-count"
IGNORED = "batch.kubernetes.io/job-index-ignored-failure-count"


def per_index(limit: int = 1, **spec: Any) -> Obj:
    indexed = {"completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimitPerIndex": limit}
    return job(**{**indexed, **spec})


def pod(index: int, phase: str, *, failures: int = 0, ignored: int = 0, code: int = 1, ago: float = 0) -> Obj:
    annotations = {INDEX: str(index), COUNT: str(failures), IGNORED: str(ignored)}
    terminated = {"exitCode": code, "finishedAt": format_time(NOW - timedelta(seconds=ago))}
    name = f"{index}-{failures}-{ignored}"
    metadata: Obj = {"name": name, "namespace": "default", "uid": name, "finalizers": [FINALIZER]}
    metadata["annotations"] = annotations
    statuses = [{"name": "main", "state": {"terminated": terminated}}] if phase in ("Failed", "Succeeded") else []
    disrupted = [{"type": "DisruptionTarget", "status": "True"}] if code == 137 else []
    return {"metadata": metadata, "status": {"phase": phase, "containerStatuses": statuses, "conditions": disrupted}}


RULES = {"rules": [on_exit("FailIndex", "In", 42), on_condition("Ignore", "DisruptionTarget")]}


@pytest.mark.parametrize(
    ("pods", "given_up", "to_replace"),
    [
        ([], set(), set()),
        ([pod(0, "Failed")], set(), {0}),
        ([pod(0, "Failed", failures=1)], {0}, set()),
        ([pod(0, "Failed"), pod(0, "Running", failures=1)], set(), set()),
        ([pod(0, "Failed"), pod(0, "Failed", failures=1)], {0}, set()),
        ([pod(0, "Failed", code=42)], {0}, set()),
        ([pod(0, "Failed", failures=1, code=137)], set(), {0}),
        ([pod(2, "Failed", failures=9), pod(3, "Failed", failures=9)], {2}, set()),
        ([pod(1, "Succeeded"), pod(1, "Failed")], set(), set()),
    ],
)
def test_indexes_are_given_up_or_tried_again(pods: list[Obj], given_up: set[int], to_replace: set[int]) -> None:
    now_at = progress(per_index(podFailurePolicy=RULES), pods)
    assert (now_at.failed_indexes, set(now_at.last_failures)) == (given_up, to_replace)


@pytest.mark.parametrize(
    ("replaced", "expected"),
    [
        (None, {COUNT: "0"}),
        (pod(0, "Failed"), {COUNT: "1"}),
        (pod(0, "Failed", failures=2, ignored=1), {COUNT: "3", IGNORED: "1"}),
        (pod(0, "Failed", failures=2, code=137), {COUNT: "2", IGNORED: "1"}),
    ],
)
def test_failures_are_handed_on(replaced: Obj | None, expected: dict[str, str]) -> None:
    assert counts_to_write(per_index(podFailurePolicy=RULES), replaced) == expected


@pytest.mark.parametrize(
    ("failures", "now", "wait"),
    [
        ({}, [0, 1, 2], None),
        ({0: pod(0, "Failed")}, [1, 2], 10.0),
        ({0: pod(0, "Failed", ago=10)}, [0, 1, 2], None),
        ({0: pod(0, "Failed", failures=1, ago=5), 2: pod(2, "Failed", ignored=2, ago=38)}, [1], 2.0),
        ({0: pod(0, "Failed", failures=40)}, [1, 2], 600.0),
    ],
)
def test_each_index_waits_for_itself(failures: dict[int, Obj], now: list[int], wait: float | None) -> None:
    assert due([0, 1, 2], failures, NOW) == (now, wait)


@pytest.mark.parametrize(
    ("done", "given_up", "most", "reason", "message"),
    [
        ("0,1", "", None, "", ""),
        ("0,1", "2", None, "FailedIndexes", "Job has failed indexes"),
        ("0", "2", None, "", ""),
        ("", "1,2", 1, "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"),
        ("", "2", 0, "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"),
        ("", "2", 1, "", ""),
    ],
)
def test_failed_indexes_end_a_job(done: str, given_up: str, most: int | None, reason: str, message: str) -> None:
    owner = {**per_index(maxFailedIndexes=most), "status": {"completedIndexes": done, "failedIndexes": given_up}}
    found = ending(owner, progress(owner, []), NOW)
    assert (found.reason, found.message) == (reason, message) if found else not reason


def test_a_pod_says_how_often_its_index_failed() -> None:
    owner = per_index()
    owner["metadata"]["uid"] = "u"
    assert failure_counts(make_pod(owner, 0, pod(0, "Failed", failures=2))) == (3, 0)
    del owner["spec"]["backoffLimitPerIndex"]
    assert COUNT not in annotations_of(make_pod(owner, 0))


async def test_an_index_fails_and_the_others_go_on() -> None:
    """Conformance: "Ensure that all indexes are executed for an indexed job with backoffLimitPerIndex despite some
    failing".
    """
    api = FakeApi()
    async with running(api, JobController):
        await api.client.create(JOBS, per_index(limit=0, completions=2, parallelism=1))
        (first,) = await api.until(lambda: fresh(api))
        await api.set_status(PODS, f"default/{first['metadata']['name']}", {"phase": "Failed"})
        (second,) = await api.until(lambda: fresh(api))
        assert annotations_of(second)[INDEX] == "1"
        await api.until(lambda: status(api)["failedIndexes"] == "0")
        await api.set_status(PODS, f"default/{second['metadata']['name']}", {"phase": "Succeeded"})
        await api.until(lambda: finished(api, "Failed"))
        words = ("True", "FailedIndexes", "Job has failed indexes")
        assert conditions(api.find(JOBS, "default/pi")) == {"FailureTarget": words, "Failed": words}
        found = status(api)
        assert (found["completedIndexes"], found["failedIndexes"]) == ("1", "0")
        assert (found["succeeded"], found["failed"]) == (1, 1)
        assert not any(one["metadata"].get("finalizers") for one in api.all(PODS))


async def test_too_many_failed_indexes_end_the_job_at_once() -> None:
    """Conformance: "Terminate job execution when the maxFailedIndexes is exceeded"."""
    api = FakeApi()
    async with running(api, JobController):
        await api.client.create(JOBS, per_index(limit=0, completions=4, parallelism=1, maxFailedIndexes=0))
        (first,) = await api.until(lambda: fresh(api))
        await api.set_status(PODS, f"default/{first['metadata']['name']}", {"phase": "Failed"})
        await api.until(lambda: finished(api, "Failed"))
        assert conditions(api.find(JOBS, "default/pi"))["Failed"][1] == "MaxFailedIndexesExceeded"
        assert len(api.all(PODS)) == 1
        assert (status(api)["failedIndexes"], status(api)["failed"]) == ("0", 1)


async def test_a_rule_gives_an_index_up() -> None:
    """Conformance: "Mark indexes as failed when the FailIndex action is matched in podFailurePolicy"."""
    api = FakeApi()
    exited = {"terminated": {"exitCode": 42, "finishedAt": "2020-01-01T00:00:00Z"}}
    failure = {"phase": "Failed", "containerStatuses": [{"name": "pi", "state": exited}]}
    async with running(api, JobController):
        await api.client.create(JOBS, per_index(limit=5, completions=2, parallelism=2, podFailurePolicy=RULES))
        first, second = await api.until(lambda: len(fresh(api)) == 2 and fresh(api))
        await api.set_status(PODS, f"default/{first['metadata']['name']}", failure)
        await api.until(lambda: status(api).get("failedIndexes") == annotations_of(first)[INDEX])
        await api.set_status(PODS, f"default/{second['metadata']['name']}", {"phase": "Succeeded"})
        await api.until(lambda: finished(api, "Failed"))
        assert len(api.all(PODS)) == 2


async def test_the_last_failed_pod_is_kept_until_it_is_replaced() -> None:
    api = FakeApi()
    long_ago = {"terminated": {"exitCode": 1, "finishedAt": "2020-01-01T00:00:00Z"}}
    failure = {"phase": "Failed", "containerStatuses": [{"name": "pi", "state": long_ago}]}
    async with running(api, JobController):
        await api.client.create(JOBS, per_index(limit=1, completions=1, parallelism=1))
        (first,) = await api.until(lambda: fresh(api))
        await api.set_status(PODS, f"default/{first['metadata']['name']}", failure)
        (second,) = await api.until(lambda: fresh(api))
        assert annotations_of(second)[COUNT] == "1"
        await api.until(lambda: status(api).get("failed") == 1)
        key = f"default/{first['metadata']['name']}"
        await api.until(lambda: not (api.find(PODS, key) or {})["metadata"].get("finalizers"))
        await api.set_status(PODS, f"default/{second['metadata']['name']}", failure)
        await api.until(lambda: finished(api, "Failed"))
        assert (status(api)["failed"], status(api)["failedIndexes"]) == (2, "0")
