"""Lets one of several processes act: the one that holds a Lease.

A holder renews the lease; the others watch its renewals by their own clock and take it over when none came for its
whole duration. Clocks of machines are never compared. Specified by
https://kubernetes.io/docs/concepts/architecture/leases/#leader-election; timings are client-go's defaults.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from pinnace.client.client import Client
from pinnace.client.measures import LEADING
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, format_micro_time, get_in, replace_in, utc_now
from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()

_LEASES = GVR("coordination.k8s.io", "v1", "leases")


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds; each must be shorter than the one before."""

    lease: float = 15.0  # a lease not renewed for so long may be taken over
    renew_deadline: float = 10.0  # a holder that could not renew for so long stops acting
    retry: float = 2.0  # between attempts to take or renew


@dataclass(frozen=True, slots=True, kw_only=True)
class Election:
    """Which lease is run for, by whom."""

    name: str
    namespace: str = "kube-system"
    identity: str = field(default_factory=lambda: f"{socket.gethostname()}_{os.getpid()}")
    timing: Timing = field(default_factory=Timing)


class LeaseLock:
    """One process's hand on a Lease; `try_hold` takes or renews it."""

    def __init__(self, client: Client, namespace: str, name: str, identity: str, timing: Timing | None = None) -> None:
        self.identity = identity
        self.name = name
        self._client = client
        self._namespace = namespace
        self._timing = timing or Timing()
        self._seen: Any = None  # holder and renewTime when the lease was last seen to change
        self._seen_at = 0.0  # by our own steady clock

    async def try_hold(self) -> bool:
        """Take the lease if it is free or run out, renew it if it is ours; whether it is ours now."""
        try:
            lease = await self._client.get(_LEASES, self.name, self._namespace)
        except ApiError as error:
            if not error.is_not_found:
                raise
            return await self._write(self._client.create, self._fresh())
        spec = lease.get("spec") or {}
        seen = (spec.get("holderIdentity"), spec.get("renewTime"))
        if seen != self._seen:
            self._seen, self._seen_at = seen, time.monotonic()
        holder = spec.get("holderIdentity") or ""
        duration = float(spec.get("leaseDurationSeconds") or self._timing.lease)
        if holder and holder != self.identity and time.monotonic() < self._seen_at + duration:
            return False
        return await self._write(self._client.update, self._held(lease))

    async def release(self) -> None:
        """Give the lease up so that another may take it at once."""
        try:
            lease = await self._client.get(_LEASES, self.name, self._namespace)
            if get_in(lease, "spec", "holderIdentity") == self.identity:
                spec = {**lease["spec"], "leaseDurationSeconds": 1, "renewTime": format_micro_time(utc_now())}
                del spec["holderIdentity"]  # an empty one is refused
                await self._client.update(_LEASES, replace_in(lease, spec, "spec"))
        except ApiError as error:
            _log.debug("lease not released", lease=self.name, error=error.message)

    async def _write(self, write: Callable[[GVR, Obj], Awaitable[Obj]], lease: Obj) -> bool:
        try:
            await write(_LEASES, lease)
        except ApiError as error:
            if error.is_conflict or error.is_already_exists:
                return False  # another was quicker
            raise
        return True

    def _fresh(self) -> Obj:
        lease: Obj = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": self._namespace},
        }
        return self._held(lease)

    def _held(self, lease: Obj) -> Obj:
        now = format_micro_time(utc_now())
        spec = dict(lease.get("spec") or {})
        if spec.get("holderIdentity") != self.identity:
            spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (1 if "acquireTime" in spec else 0)
            spec["acquireTime"] = now
        spec["holderIdentity"] = self.identity
        spec["leaseDurationSeconds"] = int(self._timing.lease)
        spec["renewTime"] = now
        return replace_in(lease, spec, "spec")


class LeadershipLost(Exception):
    """The lease could not be renewed in time: whoever acted on it must stop."""


async def run_elected(client: Client, election: Election, work: Callable[[], Awaitable[None]]) -> None:
    """`run_as_leader` for a server: a lost lease is logged before it is raised, for the process to end by."""
    lock = LeaseLock(client, election.namespace, election.name, election.identity, election.timing)
    try:
        await run_as_leader(lock, work, election.timing)
    except LeadershipLost:
        _log.error("leadership lost", lease=election.name, identity=election.identity)
        raise


async def run_as_leader(lock: LeaseLock, work: Callable[[], Awaitable[None]], timing: Timing | None = None) -> None:
    """Wait for the lease, then run `work` while renewing it; returns when `work` does.

    Raises LeadershipLost, with `work` cancelled, when the lease was lost. The lease is released on the way out.
    """
    timing = timing or Timing()
    LEADING.set(0, lock.name)
    try:
        while not await _attempt(lock):  # noqa: ASYNC110 - the lease is another machine's, no event can tell
            await asyncio.sleep(timing.retry * (1 + random.random() * 0.2))
        LEADING.set(1, lock.name)
        _log.info("became leader", lease=lock.name, identity=lock.identity)
        await _work_while_held(lock, work, timing)
    finally:
        LEADING.set(0, lock.name)
        # Also when cancelled while taking it: the answer may have been on its way.
        await asyncio.shield(lock.release())


async def _work_while_held(lock: LeaseLock, work: Callable[[], Awaitable[None]], timing: Timing) -> None:
    task = asyncio.ensure_future(work())
    try:
        await _renew_until(lock, task, timing)
    finally:
        await end_tasks([task])
    task.result()


async def _renew_until(lock: LeaseLock, task: asyncio.Future[None], timing: Timing) -> None:
    renewed = time.monotonic()
    while not task.done():
        await asyncio.wait([task], timeout=timing.retry)
        if await _attempt(lock):
            renewed = time.monotonic()
        elif time.monotonic() - renewed > timing.renew_deadline:
            raise LeadershipLost(lock.name)


async def _attempt(lock: LeaseLock) -> bool:
    try:
        return await lock.try_hold()
    except ApiError as error:
        _log.debug("lease not held", lease=lock.name, error=error.message)
        return False
