"""What the scheduler counts while pods come, go, fail and are bound."""

from __future__ import annotations

import asyncio

from pinnace.client.client import Client
from pinnace.machinery.metrics import text
from pinnace.scheduler.scheduler import Scheduler
from tests.scheduler.objects import node, pod
from tests.scheduler.test_scheduler import SmallApi


async def test_attempts_queues_and_sizes() -> None:
    api = SmallApi()
    api.put("nodes", node("a", cpu="1"))
    scheduler = Scheduler(Client(api))
    task = asyncio.ensure_future(scheduler.run())
    try:
        api.put("pods", pod("fits", cpu="1"))
        await api.until(lambda: "fits" in api.placed())
        api.put("pods", pod("waits", cpu="1"))
        await api.until(lambda: api.condition("waits"))
        api.put("pods", pod("gated", schedulingGates=[{"name": "g"}]))
        await api.until(lambda: any(event["reason"] == "Scheduled" for event in api.events))
        lines = text(scheduler.metrics.families).splitlines()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    for line in (
        'scheduler_schedule_attempts_total{profile="default-scheduler",result="scheduled"} 1',
        'scheduler_schedule_attempts_total{profile="default-scheduler",result="unschedulable"} 1',
        'scheduler_pending_pods{queue="unschedulable"} 1',
        'scheduler_pending_pods{queue="active"} 0',
        'scheduler_unschedulable_pods{plugin="NodeResourcesFit",profile="default-scheduler"} 1',
        'scheduler_cache_size{type="nodes"} 1',
        "scheduler_preemption_attempts_total 1",
        "scheduler_pod_scheduling_attempts_count 1",
    ):
        assert line in lines
