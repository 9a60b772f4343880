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


class Deadline:
    """Watches over the task that works on one request."""

    __slots__ = ("_loop", "_request", "_task", "_timer", "_writing", "is_over")

    def __init__(self, request: Request, seconds: float, writing: Container[asyncio.Task[Any]]) -> None:
        """From within the task; `writing` are the tasks that the store must answer first."""
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._request = request
        self._writing = writing
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._end)
        self.is_over = False  # the task was cancelled by us
        request.abandoned = self._end

    def _end(self) -> None:
        self._timer.cancel()
        if self._task in self._writing:
            self._timer = self._loop.call_later(_LOOK_AGAIN, self._end)
        elif not self.is_over:
            self.is_over = True
            self._task.cancel()

    def close(self) -> None:
        """The work is done."""
        self._timer.cancel()
        self._request.abandoned = None

    def was_cause(self) -> bool:
        """Whether a cancellation that the task has caught is ours alone; then it is made undone."""
        return self.is_over and self._task.uncancel() == 0
