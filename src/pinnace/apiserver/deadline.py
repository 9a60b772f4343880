"""How long a request may take, and what ends its work: its time is up, or its client is gone.

Work is never ended while the store has a write of its: such a write is made or refused, and what waits for it, like
the reservation of an address, must hear which.
https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/ (`--request-timeout`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Container
from typing import Any

from pinnace.apiserver.request_info import RequestInfo
from pinnace.machinery import errors
from pinnace.machinery.duration import parse_duration
from pinnace.wire.http import Request

WRITE_SECONDS = 34.0  # at most for a write to a resource
SWEEP_SECONDS = 1.0
_LOOK_AGAIN = 0.05  # seconds, while the store has a write
_STREAMS = frozenset(("attach", "exec", "log", "portforward", "proxy"))
_READS = frozenset(("get", "list", "watch"))


def is_long_running(info: RequestInfo) -> bool:
    """Whether it may last as long as client and backend like: watches, logs, sessions, what is proxied."""
    return info.verb in ("watch", "proxy") or (info.is_resource and info.subresource in _STREAMS)


def is_mutating(info: RequestInfo) -> bool:
    return info.verb not in _READS


def seconds_for(request: Request, info: RequestInfo, most: float) -> float:
    """The time that a request has: what `?timeout=` says, and `most` at most. Raises 400 for what is no duration."""
    seconds = most
    if "timeout=" in request.query and (text := request.params().get("timeout")):
        try:
            asked = parse_duration(text)
        except ValueError:
            why = "missing unit in" if text.lstrip("+-").replace(".", "", 1).isdecimal() else "invalid"
            what = f'time: {why} duration "{text}"'
            raise errors.bad_request(f"invalid timeout specified in the request URL - {what}") from None
        if 0 < asked < most:
            seconds = asked
    return min(seconds, WRITE_SECONDS) if info.is_resource and is_mutating(info) else seconds


def too_late(info: RequestInfo) -> errors.ApiError:
    """What a client hears when the time is up."""
    if info.is_resource:
        return errors.timeout("request did not complete within requested timeout - context deadline exceeded")
    return errors.timeout("request did not complete within the allotted timeout")


class Deadlines:
    """Those of one server. Most are far away and never come: one timer looks after all of them every now and then."""

    def __init__(self, writing: Container[asyncio.Task[Any]]) -> None:
        """`writing` are the tasks that the store must answer first."""
        self._writing = writing
        self._open: set[Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, request: Request, seconds: float) -> Deadline:
        """From within the task that works on the request."""
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        made = Deadline(self, request, task, loop.time() + seconds)
        self._open.add(made)
        if seconds < SWEEP_SECONDS:
            loop.call_later(seconds, made.end)
        if self._timer is None:
            self._timer = loop.call_later(SWEEP_SECONDS, self._sweep)
        return made

    def open(self) -> tuple[int, int]:
        """How many requests are being worked on: reads, and writes."""
        writes = sum(deadline.is_mutating for deadline in self._open)
        return len(self._open) - writes, writes

    def forget(self, deadline: Deadline) -> None:
        self._open.discard(deadline)

    def is_writing(self, task: asyncio.Task[Any]) -> bool:
        return task in self._writing

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(SWEEP_SECONDS, self._sweep) if self._open else None
        now = loop.time()
        for deadline in [each for each in self._open if each.at <= now]:
            deadline.end()


class Deadline:
    """Watches over the task that works on one request."""

    __slots__ = ("_all", "_request", "_task", "at", "is_over")

    def __init__(self, every: Deadlines, request: Request, task: asyncio.Task[Any], at: float) -> None:
        self._all = every
        self._request = request
        self._task: asyncio.Task[Any] | None = task  # until the work is done
        self.at = at  # on the event loop's clock
        self.is_over = False  # the task was cancelled by us
        request.abandoned = self.end

    @property
    def is_mutating(self) -> bool:
        return self._request.method not in ("GET", "HEAD")

    def end(self) -> None:
        """The time is up, or nobody waits for the answer."""
        if self._task is None or self.is_over:
            return
        if self._all.is_writing(self._task):
            asyncio.get_running_loop().call_later(_LOOK_AGAIN, self.end)
        else:
            self.is_over = True
            self._task.cancel()

    def close(self) -> None:
        """The work is done."""
        self._task = self._request.abandoned = None
        self._all.forget(self)

    def was_cause(self) -> bool:
        """Whether a cancellation that the task has caught is ours alone; then it is made undone."""
        return self.is_over and self._task is not None and self._task.uncancel() == 0
