"""What a server tells below /debug/pprof/."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from pinnace.wire import profiling
from pinnace.wire.http import Peer, Request, Response


async def ask(path: str, query: str = "") -> Response:
    answer = profiling.answer(Request("GET", path, query, {}, b"", Peer("")))
    assert answer is not None
    return answer if isinstance(answer, Response) else await answer


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/debug/pprof", b"goroutine:"),
        ("/debug/pprof/", b"profile:"),
        ("/debug/pprof/cmdline", b"python"),
        ("/debug/pprof/goroutine", b"task a-name: "),
    ],
)
async def test_each_path_tells_its_own(path: str, words: bytes) -> None:
    task = asyncio.create_task(asyncio.Event().wait(), name="a-name")
    await asyncio.sleep(0)  # it has begun
    answer = await ask(path)
    assert (answer.status, words in answer.body) == (200, True), answer.body
    task.cancel()


async def test_a_profile_is_a_line_for_each_stack_and_how_often_it_was_seen() -> None:
    lines = (await ask("/debug/pprof/profile", "seconds=0.1")).body.decode().splitlines()
    stacks, counts = zip(*(line.rsplit(" ", 1) for line in lines), strict=True)
    assert all(int(count) > 0 for count in counts)
    assert any("asyncio.base_events.BaseEventLoop.run_forever" in stack for stack in stacks)


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "never", "61"])
async def test_a_profile_of_no_or_of_endless_time_is_refused(seconds: str) -> None:
    assert (await ask("/debug/pprof/profile", f"seconds={seconds}")).status == 400


def test_the_most_frequent_stack_comes_first() -> None:
    assert profiling.collapsed(Counter({("a", "b"): 1, ("a",): 2})) == "a 2\na;b 1\n"


def test_another_path_there_is_not() -> None:
    assert profiling.answer(Request("GET", "/debug/pprof/other", "", {}, b"", Peer(""))) is None
