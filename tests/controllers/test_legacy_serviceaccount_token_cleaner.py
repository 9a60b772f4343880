"""Tokens that accounts once got by themselves are retired when nobody has used them for long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinnace.apis.resources import CONFIG_MAPS, PODS, SECRETS, SERVICE_ACCOUNTS
from pinnace.controllers.legacy_serviceaccount_token_cleaner import (
    INVALID_SINCE,
    LAST_USED,
    TRACKING,
    LegacyServiceAccountTokenCleaner,
    day_of,
    is_tracked_for,
    next_step,
    secrets_of,
)
from pinnace.machinery.meta import Obj, labels_of, utc_now
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import running
from tests.controllers.test_serviceaccount_token import account, secret

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
YEAR = timedelta(days=365)
LONG_AGO = "2025-01-01T00:00:00Z"


def old(made: str = LONG_AGO, **labels: str) -> Obj:
    one = secret("u1")
    one["metadata"] |= {"creationTimestamp": made, "labels": labels}
    return one


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (old(), "mark"),
        (old("2025-06-01T00:00:00Z"), ""),
        (old(**{LAST_USED: "2025-02-01"}), "mark"),
        (old(**{LAST_USED: "2025-03-01"}), ""),
        (old(**{LAST_USED: "yesterday"}), ""),
        (old(**{INVALID_SINCE: "2025-02-01"}), "delete"),
        (old(**{INVALID_SINCE: "2025-03-01"}), ""),
        (old(**{INVALID_SINCE: "soon"}), "mark"),
        (old(**{INVALID_SINCE: "2025-02-01", LAST_USED: "2026-02-01"}), ""),
        ({**old(), "metadata": {**old()["metadata"], "deletionTimestamp": LONG_AGO}}, ""),
    ],
)
def test_what_becomes_of_a_token(one: Obj, expected: str) -> None:
    assert next_step(one, NOW, YEAR) == expected


@pytest.mark.parametrize(
    ("since", "expected"), [("2025-02-27", True), ("2025-03-01", False), ("", False), ("never", False)]
)
def test_nothing_is_taken_for_unused_before_uses_were_noted_for_long(since: str, expected: bool) -> None:
    assert is_tracked_for(day_of(since), NOW, YEAR) is expected


def test_pods_have_secrets_in_many_ways() -> None:
    spec = {
        "volumes": [
            {"name": "a", "secret": {"secretName": "mounted"}},
            {"name": "b", "projected": {"sources": [{"secret": {"name": "projected"}}]}},
        ],
        "containers": [{"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "variable", "key": "k"}}}]}],
        "initContainers": [{"envFrom": [{"secretRef": {"name": "all"}}]}],
    }
    assert set(filter(None, secrets_of({"spec": spec}))) == {"mounted", "projected", "variable", "all"}


def tracking(since: str) -> Obj:
    meta = {"name": TRACKING, "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"since": since}}


async def cluster(labels: dict[str, str] | None = None, *, listed: bool = True) -> FakeApi:
    """One with an old token, which its account lists."""
    api = FakeApi()
    await api.client.create(CONFIG_MAPS, tracking("2020-01-01"))
    its = account()
    if listed:
        its["secrets"] = [{"name": "robot-token"}]
    await api.client.create(SERVICE_ACCOUNTS, its)
    await api.client.create(SECRETS, old("2020-01-01T00:00:00Z", **(labels or {})))
    return api


def fresh() -> Obj:
    """Another token, which the cleaner comes to after the others."""
    one = old("2020-01-01T00:00:00Z", **{INVALID_SINCE: "2020-01-01"})
    one["metadata"]["name"] = "z-last"
    return one


async def seen_all(api: FakeApi) -> None:
    """Until the cleaner has dealt with what was there before."""
    its = dict(api.find(SERVICE_ACCOUNTS, "default/robot") or {})
    its["secrets"] = [*(its.get("secrets") or ()), {"name": "z-last"}]
    await api.client.update(SERVICE_ACCOUNTS, its)
    await api.client.create(SECRETS, fresh())
    await api.until(lambda: api.find(SECRETS, "default/z-last") is None)


async def test_an_unused_token_is_marked_and_a_marked_one_deleted() -> None:
    api = await cluster()
    async with running(api, LegacyServiceAccountTokenCleaner):
        await api.until(lambda: INVALID_SINCE in labels_of(api.find(SECRETS, "default/robot-token") or {}))
    marked = labels_of(api.find(SECRETS, "default/robot-token") or {})
    assert marked[INVALID_SINCE] == utc_now().strftime("%Y-%m-%d")

    api = await cluster({INVALID_SINCE: "2021-01-01"})
    async with running(api, LegacyServiceAccountTokenCleaner):
        await api.until(lambda: api.find(SECRETS, "default/robot-token") is None)


@pytest.mark.parametrize("why", ["made by hand", "mounted"])
async def test_a_token_that_may_be_needed_stays(why: str) -> None:
    api = await cluster({INVALID_SINCE: "2021-01-01"}, listed=why != "made by hand")
    if why == "mounted":
        volumes: list[Any] = [{"name": "t", "secret": {"secretName": "robot-token"}}]
        meta = {"name": "p", "namespace": "default"}
        await api.client.create(PODS, {"kind": "Pod", "metadata": meta, "spec": {"volumes": volumes}})
    async with running(api, LegacyServiceAccountTokenCleaner):
        await seen_all(api)
    assert api.find(SECRETS, "default/robot-token") is not None
