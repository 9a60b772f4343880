"""One of several holds the lease; another takes it over when it is released or not renewed."""

from __future__ import annotations

import asyncio

import pytest

from pinnace.apis.resources import LEASES
from pinnace.client.leader_election import LeadershipLost, LeaseLock, Timing, run_as_leader
from pinnace.machinery.errors import unavailable
from tests.client.fake_api import FakeApi

QUICK = Timing(lease=0.3, renew_deadline=0.2, retry=0.02)


def lock(api: FakeApi, identity: str) -> LeaseLock:
    return LeaseLock(api.client, "kube-system", "manager", identity, QUICK)


async def test_the_first_holds_and_renews() -> None:
    api = FakeApi()
    one, other = lock(api, "one"), lock(api, "other")
    assert await one.try_hold()
    assert not await other.try_hold()
    assert await one.try_hold()
    (lease,) = api.all(LEASES)
    assert lease["spec"]["holderIdentity"] == "one"
    assert lease["spec"]["leaseTransitions"] == 0


async def test_a_released_lease_is_taken_at_once() -> None:
    api = FakeApi()
    one, other = lock(api, "one"), lock(api, "other")
    await one.try_hold()
    await one.release()
    assert await other.try_hold()
    (lease,) = api.all(LEASES)
    assert lease["spec"]["holderIdentity"] == "other"
    assert lease["spec"]["leaseTransitions"] == 1


async def test_a_lease_that_is_not_renewed_is_taken_over() -> None:
    api = FakeApi()
    await lock(api, "dead").try_hold()
    lease = api.all(LEASES)[0]
    await api.client.patch(LEASES, "manager", {"spec": {"leaseDurationSeconds": 0.1}}, "kube-system")
    assert lease["spec"]["holderIdentity"] == "dead"
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    async with asyncio.timeout(30):
        await run_as_leader(lock(api, "heir"), work, QUICK)
    assert done.is_set()


async def test_who_cannot_renew_stops() -> None:
    api = FakeApi()
    working, stopped = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        working.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    leader = asyncio.create_task(run_as_leader(lock(api, "one"), work, QUICK))
    async with asyncio.timeout(30):
        await working.wait()
        api.fail = lambda *_: unavailable("down")
        with pytest.raises(LeadershipLost):
            await leader
    assert stopped.is_set()
