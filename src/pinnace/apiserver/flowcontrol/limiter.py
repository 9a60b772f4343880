"""Where requests meet their limits: what is answered at once passes, what takes time needs a seat and has a deadline.

A read out of memory is over within the call that delivered it, so that it is classified and counted, no more. What
waits for the store, for a webhook or for another server takes a seat of its priority level, or a place in a queue of
it. Without Priority and Fairness there are two plain limits, of reads and of writes.
https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from pinnace.apiserver.deadline import Deadlines, is_long_running, is_mutating, seconds_for, too_late
from pinnace.apiserver.flowcontrol.bootstrap import Request
from pinnace.apiserver.flowcontrol.controller import FlowControl
from pinnace.apiserver.flowcontrol.measures import families, inflight
from pinnace.apiserver.flowcontrol.queueset import Ticket
from pinnace.machinery.errors import ApiError
from pinnace.machinery.metrics import Family
from pinnace.wire.http import AnyResponse, Response

if TYPE_CHECKING:
    from pinnace.apiserver.exchange import Exchange
    from pinnace.apiserver.flowcontrol.level import Flow, Tally
    from pinnace.apiserver.options import Options
    from pinnace.apiserver.request_info import RequestInfo
    from pinnace.apiserver.storage import Storage

T = TypeVar("T")

TIME_OUT = "time-out"
CANCELLED = "cancelled"
OBJECTS_PER_SEAT = 100  # of a list
MOST_LIST_SEATS = 100
WATCHERS_PER_SEAT = 10  # who are told of a write
MOST_WRITE_SEATS = 10
TELLING_SECONDS = 0.005  # that it takes to tell them
_MASTERS = "system:masters"
_NOT_COUNTED = ("get", "watch")


class Limiter:
    def __init__(self, options: Options, storage: Storage, clock: Callable[[], float]) -> None:
        self._storage = storage
        self._clock = clock
        self._deadlines = Deadlines(storage.writing)
        self._seconds = options.request_timeout
        self._wait_seconds = options.request_timeout / 4
        reads, writes = options.max_requests_inflight, options.max_mutating_requests_inflight
        self.control: FlowControl | None = None
        if options.enable_priority_and_fairness and reads + writes > 0:
            self.control = FlowControl(storage, reads + writes, clock)
        self._plain = {False: reads, True: writes}  # by whether the request is a write; 0 for no limit
        self._inflight = {False: 0, True: 0}

    def families(self) -> list[Family]:
        """What there is to measure."""
        found = [] if self.control is None else families(self.control)
        return [*found, inflight(self._deadlines.open)]

    def start(self) -> None:
        """Follow the cluster's objects from now on, where they count."""
        if self.control is not None:
            self.control.start()

    def stop(self) -> None:
        if self.control is not None:
            self.control.stop()

    async def ensure(self, request: Request) -> None:
        """Make and mend the objects that every cluster has, with the rights of the server. Raises ApiError."""
        if self.control is not None:
            await self.control.ensure(request)

    async def tend(self, request: Request) -> None:
        """Keep them, and the limits that follow from them and from demand, until cancelled."""
        if self.control is not None:
            await self.control.run(request)

    def admit(self, exchange: Exchange) -> None:
        """Classify a request whose caller is known. Raises 400 for a timeout that is none."""
        info = exchange.info
        if "timeout=" in exchange.request.query and not is_long_running(info):
            seconds_for(exchange.request, info, self._seconds)
        if self.control is not None and exchange.flow is None and (info.verb == "watch" or not is_long_running(info)):
            exchange.flow = flow = self.control.classify(exchange.user, info)
            flow.tally.classified += 1

    async def in_time(self, exchange: Exchange, info: RequestInfo, work: Coroutine[Any, Any, T]) -> T:
        """What comes of work that is to be done before the request can be classified.

        Raises what the work raises, 504 when the time is up, and 400 for a timeout that is none.
        """
        try:
            if is_long_running(info):
                return await work
            deadline = self._deadlines.begin(exchange.request, seconds_for(exchange.request, info, self._seconds))
            try:
                return await work
            except asyncio.CancelledError:
                if deadline.was_cause():
                    exchange.terminated = True
                    raise too_late(info) from None
                raise
            finally:
                deadline.close()
        finally:
            work.close()

    async def run(self, exchange: Exchange, work: Coroutine[Any, Any, T]) -> T | AnyResponse:
        """What becomes of the work, which is begun as soon as there is a seat for it, or of the request without one.

        Raises what the work raises, and 504 when the time is up.
        """
        info, flow, deadline = exchange.info, exchange.flow, None
        if not is_long_running(info):
            seconds = seconds_for(exchange.request, info, self._seconds)
            deadline = self._deadlines.begin(exchange.request, seconds)
        try:
            if flow is None:
                return await (work if deadline is None else self._in_flight(exchange, work))
            if flow.level.is_exempt:
                return await self._counted(flow.tally, work)
            return await self._in_level(exchange, flow, work)
        except asyncio.CancelledError:
            if deadline is not None and deadline.was_cause():
                exchange.terminated = True
                raise too_late(info) from None
            raise
        finally:
            if deadline is not None:
                deadline.close()
            work.close()  # nothing where it was begun, for then it is over

    async def _in_flight(self, exchange: Exchange, work: Coroutine[Any, Any, T]) -> T | AnyResponse:
        """The plain limits."""
        writes = is_mutating(exchange.info)
        limit = self._plain[writes]
        if not limit or _MASTERS in exchange.user.groups:
            return await work
        if self._inflight[writes] >= limit:
            exchange.terminated = True
            return too_many_requests()
        self._inflight[writes] += 1
        try:
            return await work
        finally:
            self._inflight[writes] -= 1

    async def _in_level(self, exchange: Exchange, flow: Flow, work: Coroutine[Any, Any, T]) -> T | AnyResponse:
        ticket, tally, queues = self._ticket(exchange, flow), flow.tally, flow.level.queues
        refused = queues.arrive(ticket, flow.hand, self._clock())
        if not refused and not ticket.executing:
            refused = await self._turn(flow, ticket)
        if refused:
            tally.rejected[refused] += 1
            exchange.terminated = True
            return too_many_requests()
        if queues.queues:
            tally.waited.observe(ticket.began - ticket.arrived)
            if exchange.call is not None:
                exchange.call.waited += ticket.began - ticket.arrived
        try:
            return await self._counted(tally, work, ticket.width)
        finally:
            if ticket.extra:
                asyncio.get_running_loop().call_later(ticket.extra, self._finish, flow, ticket)
            else:
                queues.finish(ticket, self._clock())

    async def _counted(self, tally: Tally, work: Coroutine[Any, Any, T], seats: int = 1) -> T:
        began = self._clock()
        tally.executing += 1
        tally.seats += seats
        try:
            return await work
        finally:
            tally.executing -= 1
            tally.seats -= seats
            tally.executed.observe(self._clock() - began)

    def _finish(self, flow: Flow, ticket: Ticket) -> None:
        flow.level.queues.finish(ticket, self._clock())

    async def _turn(self, flow: Flow, ticket: Ticket) -> str:
        """Wait in the queue; returns why in vain, if so."""
        queues, tally = flow.level.queues, flow.tally
        loop = asyncio.get_running_loop()
        over: asyncio.Future[str] = loop.create_future()

        def settle(why: str) -> None:
            if not over.done():
                over.set_result(why)

        ticket.turn = lambda: settle("")
        timer = loop.call_later(self._wait_seconds, settle, TIME_OUT)
        tally.waiting += 1
        try:
            refused = await over
        except asyncio.CancelledError:
            if ticket.executing:  # its turn came as it left
                queues.finish(ticket, self._clock())
            tally.rejected[CANCELLED] += 1
            queues.withdraw(ticket, self._clock())
            raise
        finally:
            tally.waiting -= 1
            timer.cancel()
        if ticket.executing:
            return ""
        queues.withdraw(ticket, self._clock())
        return refused

    def _ticket(self, exchange: Exchange, flow: Flow) -> Ticket:
        """With the seats that the request is thought to need."""
        ticket = Ticket(schema=flow.schema, distinguisher=flow.distinguisher, about=exchange)
        info, call = exchange.info, exchange.call
        if call is None or not call.kind.is_stored or info.verb in _NOT_COUNTED:
            return ticket
        try:
            cache = call.cache
        except ApiError:  # the kind is gone, which the handler says
            return ticket
        most = flow.level.most_seats
        if is_mutating(info):
            watchers = cache.watcher_count
            if watchers >= WATCHERS_PER_SEAT:
                ticket.final_seats = min(math.ceil(watchers / WATCHERS_PER_SEAT), MOST_WRITE_SEATS, most)
                ticket.extra = TELLING_SECONDS
        elif not info.name:
            ticket.seats = max(1, min(math.ceil(len(cache.objects) / OBJECTS_PER_SEAT), MOST_LIST_SEATS, most))
        return ticket


def too_many_requests() -> Response:
    headers = (
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Retry-After", "1"),
        ("X-Content-Type-Options", "nosniff"),
    )
    return Response(429, headers, b"Too many requests, please try again later.\n")
