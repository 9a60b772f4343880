"""The end of a turn of the event loop."""

from __future__ import annotations

import asyncio
import gc
from weakref import ref

from pinnace.wire.turns import current_turn


async def test_callbacks_run_once_when_the_turn_ends_and_fail_alone() -> None:
    ran: list[int] = []
    failures: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))

    def fail() -> None:
        raise RuntimeError

    turn = current_turn()
    for callback in (lambda: ran.append(1), fail, lambda: ran.append(2), lambda: turn.at_end(lambda: ran.append(3))):
        turn.at_end(callback)
    assert ran == []
    await asyncio.sleep(0)
    assert (ran, len(failures)) == ([1, 2], 1)
    await asyncio.sleep(0)
    assert ran == [1, 2, 3]
    await asyncio.sleep(0)
    assert ran == [1, 2, 3]


def test_loops_are_let_go() -> None:
    async def use() -> ref[asyncio.AbstractEventLoop]:
        current_turn().at_end(lambda: None)
        return ref(asyncio.get_running_loop())

    first = asyncio.run(use())
    second = asyncio.run(use())
    gc.collect()
    assert (first(), second()) == (None, None)
