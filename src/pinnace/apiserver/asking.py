"""Questions that only another server can answer, put by code that does not wait: whose token is this, may they do that.

Requests are admitted in one synchronous step, which costs them no task. Where a webhook or an issuer must be asked, the
step raises `MustAsk` instead; whoever can wait asks, and takes the step again, which then finds the answer: an answer
counts for as long as it is to be remembered, and at least as long as somebody who has waited for it is on the way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

REMEMBERED = 10_000  # answers


class MustAsk(Exception):  # not an error: the way a step says what it is waiting for
    """The step cannot go on before `ask` was awaited; what that returns is to be held until the step is through."""

    def __init__(self, ask: Callable[[], Awaitable[object]]) -> None:
        super().__init__("another server must be asked")
        self.ask = ask


async def asking(step: Callable[[], T], question: MustAsk | None = None) -> T:
    """What `step` returns once everything it needs is asked; `question` is what stopped it the first time."""
    held: list[object] = []
    try:
        while True:
            if question is not None:
                held.append(await question.ask())
            try:
                return step()
            except MustAsk as next_question:
                question = next_question
    finally:
        held.clear()  # at once, whatever still refers to this frame


async def going_again(step: Callable[[], Awaitable[T]], question: MustAsk) -> T:
    """The same for a step that is a coroutine and was stopped by `question`."""
    held: list[object] = []
    try:
        while True:
            held.append(await question.ask())
            try:
                return await step()
            except MustAsk as next_question:
                question = next_question
    finally:
        held.clear()


class Answer(Generic[T]):
    """What somebody was told."""

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: T) -> None:
        self.value = value


class Answers(Generic[K, T]):
    """Answers by question, each for its time; those who put one question at once wait for one answer."""

    def __init__(self) -> None:
        self._kept: dict[K, tuple[Answer[T], float]] = {}
        self._held: WeakValueDictionary[K, Answer[T]] = WeakValueDictionary()
        self._asked: dict[K, asyncio.Task[tuple[T, float]]] = {}

    def get(self, key: K, ask: Callable[[], Awaitable[tuple[T, float]]]) -> T:
        """The answer. Raises MustAsk where it is not known: then `ask` gives it, and the seconds it counts."""
        kept = self._kept.get(key)
        if kept is not None and kept[1] > time.monotonic():
            return kept[0].value
        held = self._held.get(key)
        if held is not None:
            return held.value
        raise MustAsk(lambda: self._ask(key, ask))

    def forget(self) -> None:
        """Ask again from now on."""
        self._kept.clear()

    async def _ask(self, key: K, ask: Callable[[], Awaitable[tuple[T, float]]]) -> Answer[T]:
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(_run(ask))
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        value, seconds = await asyncio.shield(task)
        answer = self._held[key] = Answer(value)
        if seconds > 0:
            if len(self._kept) >= REMEMBERED:
                self._kept.clear()
            self._kept[key] = answer, time.monotonic() + seconds
        return answer


async def _run(ask: Callable[[], Awaitable[tuple[T, float]]]) -> tuple[T, float]:
    return await ask()
