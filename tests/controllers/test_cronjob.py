"""A CronJob begins its Jobs when they are due, one at a time or not, and keeps few of the old ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from pinnace.apis.batch.schedule import parse
from pinnace.apis.resources import CRON_JOBS, JOBS
from pinnace.apiserver.server import ApiServer
from pinnace.client.client import Client
from pinnace.controllers.cronjob import CronJobController
from pinnace.controllers.cronjob_times import due, is_too_late, make_job, surplus
from pinnace.machinery.meta import Obj, format_time, name_of, utc_now
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import messages, running
from tests.controllers.test_manager import managing, node_agent, until

KEY = "default/tick"
NOW = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)


def cron_job(schedule: str = "* * * * *", *, created: datetime = NOW, last: str = "", **spec: Any) -> Obj:
    container = {"name": "main", "image": "tick:1"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    made: Obj = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "tick", "namespace": "default", "uid": "u", "creationTimestamp": format_time(created)},
        "spec": {
            "schedule": schedule,
            "jobTemplate": {
                "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
                "spec": {"template": template},
            },
            **spec,
        },
    }
    if last:
        made["status"] = {"lastScheduleTime": last}
    return made


def ago(**span: float) -> datetime:
    return NOW - timedelta(**span)


@pytest.mark.parametrize(
    ("owner", "expected", "too_many"),
    [
        (cron_job(), "", False),
        (cron_job(created=ago(minutes=1)), "12:00", False),
        (cron_job(created=ago(minutes=10)), "12:00", False),
        (cron_job(created=ago(days=1), last="2026-01-01T12:00:00Z"), "", False),
        (cron_job(created=ago(minutes=99)), "12:00", False),
        (cron_job(created=ago(minutes=101)), "12:00", True),
        (cron_job(created=ago(days=3000)), "12:00", True),
        (cron_job(created=ago(days=3000), startingDeadlineSeconds=600), "12:00", False),
        (cron_job("50 11 * * *", created=ago(hours=1), startingDeadlineSeconds=60), "", False),
        (cron_job("50 11 * * *", created=ago(hours=1), startingDeadlineSeconds=700), "11:50", False),
        (cron_job("0 9,10 * * *", created=ago(days=30)), "10:00", False),
        (cron_job("@every 7m", created=ago(minutes=20)), "11:54", False),
    ],
)
def test_which_run_is_due(owner: Obj, expected: str, too_many: bool) -> None:
    found = due(owner, parse(owner["spec"]["schedule"]), UTC, NOW)
    assert (f"{found.at:%H:%M}" if found else "", bool(found and found.too_many)) == (expected, too_many)


@pytest.mark.parametrize(("deadline", "expected"), [(None, False), (60, True), (600, False)])
def test_a_run_can_be_too_late(deadline: int | None, expected: bool) -> None:
    spec: Obj = {} if deadline is None else {"startingDeadlineSeconds": deadline}
    assert is_too_late(cron_job(**spec), ago(minutes=5), NOW) is expected


def test_a_job_is_named_after_its_minute() -> None:
    made = make_job(cron_job(), datetime(2026, 1, 1, 12, tzinfo=UTC), ZoneInfo("Europe/Berlin"))
    assert made["metadata"]["name"] == f"tick-{int(datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()) // 60}"
    assert made["metadata"]["labels"] == {"a": "b"}
    assert made["metadata"]["annotations"] == {
        "c": "d",
        "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T13:00:00+01:00",
    }


def test_old_jobs_go() -> None:
    def job(name: str, kind: str) -> Obj:
        conditions = [{"type": kind, "status": "True"}] if kind else []
        status = {"startTime": f"2026-01-01T0{name}:00:00Z", "conditions": conditions}
        return {"metadata": {"name": name}, "status": status}

    jobs = [job("3", "Complete"), job("1", "Complete"), job("2", "Complete"), job("4", "Failed"), job("5", "")]
    limits: Obj = {"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0}
    assert [name_of(one) for one in surplus(cron_job(**limits), jobs)] == ["1", "2", "4"]
    assert surplus(cron_job(), jobs) == []


async def begin(api: FakeApi, policy: str = "Allow", **spec: Any) -> None:
    """A CronJob whose last run began two minutes ago and goes on."""
    owner = {"apiVersion": "batch/v1", "kind": "CronJob", "name": "tick", "uid": "", "controller": True}
    last = format_time(utc_now() - timedelta(minutes=2))
    made = await api.client.create(CRON_JOBS, cron_job(concurrencyPolicy=policy, **spec))
    metadata = {
        "name": "tick-1",
        "namespace": "default",
        "ownerReferences": [{**owner, "uid": made["metadata"]["uid"]}],
    }
    job = await api.client.create(JOBS, {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {}})
    active = [{"name": "tick-1", "uid": job["metadata"]["uid"]}]
    await api.set_status(CRON_JOBS, KEY, {"active": active, "lastScheduleTime": last})


def status(api: FakeApi) -> Obj:
    return (api.find(CRON_JOBS, KEY) or {}).get("status") or {}


@pytest.mark.parametrize(("policy", "left"), [("Allow", 2), ("Replace", 1)])
async def test_runs_overlap_or_replace_each_other(policy: str, left: int) -> None:
    """Conformance: "CronJob AllowConcurrent", "CronJob ReplaceConcurrent" """
    api = FakeApi()
    await begin(api, policy)
    async with running(api, CronJobController):
        await api.until(lambda: messages(api, "SuccessfulCreate"))
        await api.until(lambda: len(status(api)["active"]) == left and len(api.all(JOBS)) == left)
        (created,) = messages(api, "SuccessfulCreate")
        assert created == f"Created job {status(api)['active'][-1]['name']}"


async def test_a_run_waits_for_the_one_before_and_is_counted() -> None:
    """Conformance: "CronJob ForbidConcurrent" """
    api = FakeApi()
    await begin(api, "Forbid")
    async with running(api, CronJobController):
        await api.until(lambda: messages(api, "JobAlreadyActive"))
        assert len(api.all(JOBS)) == 1
        done = {"conditions": [{"type": "Complete", "status": "True"}], "completionTime": "2026-01-01T12:00:00Z"}
        await api.set_status(JOBS, "default/tick-1", done)
        await api.until(lambda: len(api.all(JOBS)) == 2)
        await api.until(lambda: messages(api, "SawCompletedJob"))
        assert messages(api, "SawCompletedJob") == ["Saw completed job: tick-1, condition: Complete"]
        assert status(api)["lastSuccessfulTime"] == "2026-01-01T12:00:00Z"


async def test_a_suspended_one_begins_nothing() -> None:
    """Conformance: "CronJob Suspend" """
    api = FakeApi()
    await begin(api, suspend=True)
    async with running(api, CronJobController):
        await api.set_status(JOBS, "default/tick-1", {"conditions": [{"type": "Failed", "status": "True"}]})
        await api.until(lambda: "active" not in status(api))
        assert len(api.all(JOBS)) == 1


async def test_an_unknown_time_zone_is_told() -> None:
    api = FakeApi()
    await begin(api, timeZone="Moon/Tycho")
    async with running(api, CronJobController):
        await api.until(lambda: messages(api, "UnknownTimeZone"))
        assert messages(api, "UnknownTimeZone") == ['invalid timeZone: "Moon/Tycho": unknown time zone Moon/Tycho']


async def test_against_the_api_server(server: ApiServer, client: Client) -> None:
    """Conformance: "CronJob API Operations" """
    async with managing(server), node_agent(client, "Succeeded"):
        made = await client.create(CRON_JOBS, cron_job())
        last = format_time(utc_now() - timedelta(minutes=2))
        await client.update_status(CRON_JOBS, {**made, "status": {"lastScheduleTime": last}})
        done = await until(
            client, CRON_JOBS, lambda found: [one for one in found if "lastSuccessfulTime" in one.get("status", {})]
        )
        assert done[0]["status"]["lastScheduleTime"] > last
        (job,) = (await client.list(JOBS, "default"))["items"]
        assert "batch.kubernetes.io/cronjob-scheduled-timestamp" in job["metadata"]["annotations"]
