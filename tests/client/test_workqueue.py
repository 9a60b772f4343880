"""A key waits at most once, is worked on by one worker at a time, and comes back later each time it fails."""

from __future__ import annotations

import asyncio

from pinnace.client.workqueue import WorkQueue


async def take(queue: WorkQueue) -> str:
    async with asyncio.timeout(30):
        return await queue.get()


async def test_a_key_waits_once() -> None:
    queue = WorkQueue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert [await take(queue), await take(queue)] == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_added_while_worked_on_comes_back_when_done() -> None:
    queue = WorkQueue()
    queue.add("a")
    assert await take(queue) == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0  # no second worker gets it
    queue.done("a")
    assert await take(queue) == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_workers_wait_for_keys() -> None:
    queue = WorkQueue()
    workers = [asyncio.create_task(take(queue)) for _ in range(2)]
    cancelled = asyncio.create_task(take(queue))
    await asyncio.sleep(0)
    cancelled.cancel()
    queue.add("a")
    queue.add("b")
    assert sorted(await asyncio.gather(*workers)) == ["a", "b"]


async def test_a_worker_cancelled_as_it_was_woken_passes_the_key_on() -> None:
    queue = WorkQueue()
    first = asyncio.create_task(queue.get())
    second = asyncio.create_task(take(queue))
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await second == "a"


async def test_of_several_times_the_earliest_counts() -> None:
    queue = WorkQueue()
    queue.add_after("slow", 60)
    queue.add_after("a", 60)
    queue.add_after("a", 0.01)
    queue.add_after("a", 30)
    assert await take(queue) == "a"
    queue.done("a")
    assert len(queue) == 0
    queue.close()


async def test_failures_come_back_later_each_time() -> None:
    queue = WorkQueue(first_pause=0.01, longest_pause=0.05)
    loop = asyncio.get_running_loop()
    pauses = []
    for _ in range(5):
        start = loop.time()
        queue.add_rate_limited("a")
        await take(queue)
        queue.done("a")
        pauses.append(loop.time() - start)
    for pause, least in zip(pauses, (0.01, 0.02, 0.04, 0.05, 0.05), strict=True):
        assert pause >= least * 0.9
    assert queue.failures("a") == 5
    queue.forget("a")
    assert queue.failures("a") == 0
