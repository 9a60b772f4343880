"""A Job runs until enough pods have succeeded or too many failed, counts each once, and lets them go."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.apis.resources import JOBS, PODS
from pinnace.controllers.job import JobController
from pinnace.controllers.job_backoff import backoff_left
from pinnace.controllers.job_indexes import format_indexes, parse_indexes
from pinnace.controllers.job_policies import FINALIZER
from pinnace.machinery.meta import Obj, format_time, name_of
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import conditions, messages, report, running

KEY = "default/pi"


def job(**spec: Any) -> Obj:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "pi", "namespace": "default"},
        "spec": {
            "parallelism": 1,
            "completions": 1,
            "backoffLimit": 6,
            "completionMode": "NonIndexed",
            "selector": {"matchLabels": {"job-name": "pi"}},
            "template": {
                "metadata": {"labels": {"job-name": "pi"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "pi", "image": "perl"}]},
            },
            **spec,
        },
    }


def status(api: FakeApi) -> dict[str, Any]:
    return (api.find(JOBS, KEY) or {}).get("status") or {}


def fresh(api: FakeApi) -> list[Obj]:
    return [pod for pod in api.all(PODS) if not pod.get("status") and "deletionTimestamp" not in pod["metadata"]]


def finished(api: FakeApi, kind: str) -> bool:
    return kind in conditions(api.find(JOBS, KEY))


async def test_a_job_completes() -> None:
    api = FakeApi()
    async with running(api, JobController):
        await api.client.create(JOBS, job(parallelism=2, completions=3))
        for _ in range(3):
            pod = (await api.until(lambda: fresh(api)))[0]
            assert pod["metadata"]["finalizers"] == [FINALIZER]
            assert len([one for one in api.all(PODS) if (one.get("status") or {}).get("phase") != "Succeeded"]) <= 2
            await report(api, pod, "Succeeded")
        await api.until(lambda: finished(api, "Complete"))
        words = ("True", "CompletionsReached", "Reached expected number of succeeded pods")
        assert conditions(api.find(JOBS, KEY)) == {"SuccessCriteriaMet": words, "Complete": words}
        found = status(api)
        assert (found["succeeded"], found["ready"], found["terminating"]) == (3, 0, 0)
        assert found["uncountedTerminatedPods"] == {}
        assert "completionTime" in found
        assert "startTime" in found
        assert "active" not in found
        assert not any("finalizers" in pod["metadata"] for pod in api.all(PODS))
        await api.until(lambda: "Job completed" in messages(api, "Completed"))
        assert len(api.all(PODS)) == 3


async def test_too_many_failures_end_a_job() -> None:
    api = FakeApi()
    async with running(api, JobController):
        await api.client.create(JOBS, job(backoffLimit=0, parallelism=2, completions=2))
        failing, other = await api.until(lambda: len(fresh(api)) == 2 and fresh(api))
        await report(api, failing, "Failed")
        await api.until(lambda: finished(api, "Failed"))
        words = ("True", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
        assert conditions(api.find(JOBS, KEY)) == {"FailureTarget": words, "Failed": words}
        assert name_of(other) not in [name_of(pod) for pod in api.all(PODS)]
        await api.until(lambda: messages(api, "BackoffLimitExceeded") == [words[2]])


async def test_a_deadline_ends_a_job() -> None:
    api = FakeApi()
    async with running(api, JobController):
        await api.client.create(JOBS, job(activeDeadlineSeconds=1))
        await api.until(lambda: finished(api, "Failed"))
        assert conditions(api.find(JOBS, KEY))["Failed"] == (
            "True",
            "DeadlineExceeded",
            "Job was active longer than specified deadline",
        )
        assert api.all(PODS) == []


async def test_a_suspended_job_has_no_pods_until_it_is_resumed() -> None:
    api = FakeApi()
    async with running(api, JobController):
        await api.client.create(JOBS, job())
        await api.until(lambda: fresh(api))
        await api.client.patch(JOBS, "pi", {"spec": {"suspend": True}}, "default")
        await api.until(lambda: not api.all(PODS) and "Suspended" in conditions(api.find(JOBS, KEY)))
        assert conditions(api.find(JOBS, KEY))["Suspended"] == ("True", "JobSuspended", "Job suspended")
        await api.until(lambda: not status(api).get("active"))
        assert "startTime" not in status(api)
        assert not status(api).get("failed")  # nobody failed
        await api.client.patch(JOBS, "pi", {"spec": {"suspend": False}}, "default")
        await api.until(lambda: fresh(api) and "startTime" in status(api))
        assert conditions(api.find(JOBS, KEY))["Suspended"] == ("False", "JobResumed", "Job resumed")


async def test_every_index_is_completed_once() -> None:
    api = FakeApi()
    async with running(api, JobController):
        await api.client.create(JOBS, job(completionMode="Indexed", completions=4, parallelism=2))
        seen = []
        for _ in range(4):
            pod = (await api.until(lambda: fresh(api)))[0]
            seen.append(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])
            assert pod["spec"]["hostname"] == f"pi-{seen[-1]}"
            assert name_of(pod).startswith(f"pi-{seen[-1]}-")
            (variable,) = pod["spec"]["containers"][0]["env"]
            assert variable["name"] == "JOB_COMPLETION_INDEX"
            await report(api, pod, "Succeeded")
        await api.until(lambda: finished(api, "Complete"))
        assert sorted(seen) == ["0", "1", "2", "3"]
        assert status(api)["completedIndexes"] == "0-3"
        assert status(api)["succeeded"] == 4


async def test_a_work_queue_ends_when_all_have_ended_and_one_succeeded() -> None:
    api = FakeApi()
    async with running(api, JobController):
        queue = job(parallelism=3)
        del queue["spec"]["completions"]
        await api.client.create(JOBS, queue)
        first, *others = await api.until(lambda: len(fresh(api)) == 3 and fresh(api))
        await report(api, first, "Succeeded")
        await api.until(lambda: status(api).get("succeeded") == 1)
        assert not finished(api, "Complete")
        for pod in others:
            await report(api, pod, "Succeeded")
        await api.until(lambda: finished(api, "Complete"))
        assert len(api.all(PODS)) == 3


@pytest.mark.parametrize("deadly", range(1, 12))
async def test_counting_survives_being_killed_in_between(deadly: int) -> None:
    """Whatever write is the last one before the controller dies, the next controller counts every pod once."""
    api = FakeApi()
    await api.client.create(JOBS, job(parallelism=2, completions=2))
    async with running(api, JobController):
        for pod in await api.until(lambda: len(fresh(api)) == 2 and fresh(api)):
            await api.until(lambda: status(api).get("active"))
            await report(api, pod, "Succeeded")
            for _ in range(deadly):
                await asyncio.sleep(0)
            break
    for pod in fresh(api):
        await report(api, pod, "Succeeded")
    async with running(api, JobController):
        await api.until(lambda: finished(api, "Complete"))
    assert status(api)["succeeded"] == 2


async def test_pods_of_a_deleted_job_are_let_go() -> None:
    api = FakeApi()
    async with running(api, JobController):
        await api.client.create(JOBS, job())
        await api.until(lambda: fresh(api))
        await api.client.delete(JOBS, "pi", "default")
        await api.until(lambda: "finalizers" not in api.all(PODS)[0]["metadata"])


async def test_what_is_adopted_is_held_and_what_is_released_let_go() -> None:
    """Conformance: "Jobs, orphan pods, re-adoption"."""
    api = FakeApi()
    async with running(api, JobController):
        await api.client.create(JOBS, job())
        await api.until(lambda: fresh(api))
        name = name_of(api.all(PODS)[0])
        orphaned = {"ownerReferences": None, "finalizers": None}
        await api.client.patch(PODS, name, {"metadata": orphaned}, "default")
        await api.until(lambda: (api.find(PODS, f"default/{name}") or {})["metadata"].get("finalizers") == [FINALIZER])

        await api.client.patch(PODS, name, {"metadata": {"labels": None}}, "default")

        await api.until(lambda: not (api.find(PODS, f"default/{name}") or {})["metadata"].get("ownerReferences"))
        await api.until(lambda: not (api.find(PODS, f"default/{name}") or {})["metadata"].get("finalizers"))


async def test_a_pod_that_is_no_jobs_any_more_is_let_go() -> None:
    api = FakeApi()
    meta = {"name": "stray", "namespace": "default", "finalizers": [FINALIZER]}
    await api.client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {}})
    async with running(api, JobController):
        await api.until(lambda: not (api.find(PODS, "default/stray") or {})["metadata"].get("finalizers"))


@pytest.mark.parametrize(
    ("failures", "expected"),
    [([], 0), ([0], 10), ([4], 6), ([0, 30], 20), ([0, 1, 2], 40), ([0] * 10, 600), ([60], 0)],
)
def test_failures_are_backed_off_from(failures: list[int], expected: float) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    pods = [
        {
            "metadata": {"name": str(n), "creationTimestamp": format_time(now - timedelta(seconds=ago))},
            "status": {"phase": "Failed"},
        }
        for n, ago in enumerate(failures)
    ]
    assert backoff_left(job(), pods, now) == expected


@pytest.mark.parametrize(
    ("indexes", "text"),
    [(set(), ""), ({0}, "0"), ({0, 1}, "0,1"), ({0, 1, 2}, "0-2"), ({1, 3, 4, 5, 7}, "1,3-5,7")],
)
def test_indexes_are_written_in_their_shortest_form(indexes: set[int], text: str) -> None:
    assert format_indexes(indexes) == text


@given(st.sets(st.integers(0, 200)))
def test_indexes_survive_being_written(indexes: set[int]) -> None:
    assert parse_indexes(format_indexes(indexes)) == indexes
