"""The end of a turn of the event loop: what was written within the turn leaves then, in one write for each connection.

Many changes that were committed together reach a watcher one after the other, within one turn: a system call for each
would cost more than all else. The loop runs callbacks in rounds and a callback added in one round runs in the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakKeyDictionary


class Turn:
    """What waits for the end of a loop's present turn."""

    __slots__ = ("_callbacks",)

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def at_end(self, callback: Callable[[], None]) -> None:
        """Call once when the turn ends."""
        if not self._callbacks:
            asyncio.get_running_loop().call_soon(self._end)
        self._callbacks.append(callback)

    def _end(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception as error:  # one must not keep the others from theirs
                context = {"message": "at the end of a turn", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


# A turn does not hold its loop: it would never be let go.
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turn] = WeakKeyDictionary()


def current_turn() -> Turn:
    """The running loop's."""
    loop = asyncio.get_running_loop()
    turn = _turns.get(loop)
    if turn is None:
        turn = _turns[loop] = Turn()
    return turn
