"""The queues of one priority level: who is served at once, who waits in which queue, who is next, who is sent away.

Shuffle sharding gives every flow a few queues of its own; fair queuing serves next the queue whose first request would
be done soonest, had every queue its even share of the seats all along. Time is passed in, and nothing here waits: a
ticket is told when its turn comes. Specified in KEP-1040 (Priority and Fairness for API Server Requests).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pinnace.apiserver.flowcontrol.concurrency import Demand

SERVICE_SECONDS = 0.003  # what a request is thought to take until it is done
QUEUE_FULL = "queue-full"
CONCURRENCY_LIMIT = "concurrency-limit"


def hash_flow(schema: str, distinguisher: str) -> int:
    """64 bits that a flow's hand is dealt with."""
    return int.from_bytes(hashlib.sha256(f"{schema}\0{distinguisher}".encode()).digest()[:8], "little")


def deal(flow: int, queues: int, hand: int) -> tuple[int, ...]:
    """Which `hand` of the `queues` a flow may use: different ones, drawn by its hash."""
    deck, dealt = list(range(queues)), []
    for _ in range(min(hand, queues)):
        flow, card = divmod(flow, len(deck))
        deck[card], deck[-1] = deck[-1], deck[card]
        dealt.append(deck.pop())
    return tuple(dealt)


@dataclass(slots=True, eq=False)
class Ticket:
    """One request's place in its level."""

    turn: Callable[[], None] = lambda: None  # told when a request that waited may begin
    seats: int = 1  # while it executes
    final_seats: int = 0  # after it, for `extra` seconds: watchers are told of what was written
    extra: float = 0.0
    schema: str = ""
    distinguisher: str = ""
    about: object = None  # for who dumps the queues
    arrived: float = 0.0
    executing: bool = False
    began: float = 0.0  # of its execution
    queue: Queue | None = None

    @property
    def width(self) -> int:
        """The seats it holds from its turn until it is all over."""
        return max(self.seats, self.final_seats)

    @property
    def work(self) -> float:
        """What it is thought to take, in seat-seconds."""
        return self.seats * SERVICE_SECONDS + self.final_seats * self.extra


@dataclass(slots=True, eq=False)
class Queue:
    index: int = 0
    waiting: list[Ticket] = field(default_factory=list)  # first come, first served
    executing: int = 0
    seats: int = 0  # of those that execute
    next_start: float = 0.0  # virtual time at which its next request begins
    work: float = 0.0  # of those that wait and execute, in seat-seconds

    @property
    def is_active(self) -> bool:
        return bool(self.waiting or self.executing)


class QueueSet:
    """Seats and queues of one level. Without queues, what has no seat is refused."""

    def __init__(self, limit: int, now: float, queues: int = 0, hand_size: int = 0, queue_length: int = 0) -> None:
        self.limit = limit
        self.hand_size = hand_size
        self.queue_length = queue_length
        self.queues = [Queue(index) for index in range(queues)]
        self.waiting = 0
        self.executing = 0
        self.seats = 0  # in use
        self.demand = Demand(now)
        self.virtual = 0.0  # seat-seconds that every active queue has been due so far
        self._now = now
        self._active = 0  # queues with any request
        self._wanted = 0  # seats of all who wait and execute
        self._last = -1  # the queue served last
        self._no_queue = Queue()

    def hand(self, flow: int) -> tuple[int, ...]:
        """The queues of a flow by its hash."""
        return deal(flow, len(self.queues), self.hand_size)

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.executing

    def arrive(self, ticket: Ticket, hand: Sequence[int], now: float) -> str:
        """Give the request a seat or a place in a queue of its hand; returns why neither, empty if all is well."""
        self._advance(now)
        ticket.arrived = now
        if not self.queues:
            if not self._fits(ticket):
                return CONCURRENCY_LIMIT
            ticket.queue = self._no_queue
            self._enter(ticket)
            self._execute(ticket)
            return ""
        queue = min((self.queues[index] for index in hand), key=lambda each: each.work)
        begins = not self.waiting and self._fits(ticket)
        if not begins and len(queue.waiting) >= self.queue_length:
            return QUEUE_FULL
        if not queue.is_active:
            queue.next_start = self.virtual
        ticket.queue = queue
        self._enter(ticket)
        if begins:
            self._execute(ticket)
            return ""
        queue.waiting.append(ticket)
        self.waiting += 1
        self._serve()  # the first of those that wait may need more seats than this one
        return ""

    def withdraw(self, ticket: Ticket, now: float) -> None:
        """One that waits does not want to any more."""
        queue = ticket.queue
        if queue is None or ticket.executing:
            return
        self._advance(now)
        queue.waiting.remove(ticket)
        self.waiting -= 1
        self._leave(ticket)
        self._serve()

    def finish(self, ticket: Ticket, now: float) -> None:
        """One that had its turn is all over, its extra time included."""
        queue = ticket.queue
        if queue is None or not ticket.executing:
            return
        self._advance(now)
        queue.next_start += ticket.width * (now - ticket.began) - ticket.work
        queue.executing -= 1
        queue.seats -= ticket.width
        self.executing -= 1
        self.seats -= ticket.width
        ticket.executing = False
        self._leave(ticket)
        self._serve()

    def set_limit(self, limit: int, now: float) -> None:
        self._advance(now)
        self.limit = limit
        self._serve()

    def _advance(self, now: float) -> None:
        """Let virtual time go on: as fast as the seats in use allow, shared evenly among the active queues."""
        if self._active:
            self.virtual += (now - self._now) * min(self._wanted, self.limit) / self._active
        self._now = now

    def _fits(self, ticket: Ticket) -> bool:
        """One that is wider than the level may go alone."""
        return self.seats + ticket.width <= self.limit or (not self.seats and self.limit > 0)

    def _enter(self, ticket: Ticket) -> None:
        queue = ticket.queue
        assert queue is not None
        if queue is not self._no_queue and not queue.work:
            self._active += 1
        queue.work += ticket.work
        self._wanted += ticket.width
        self.demand.note(self._now, self._wanted)

    def _leave(self, ticket: Ticket) -> None:
        queue, ticket.queue = ticket.queue, None
        assert queue is not None
        queue.work -= ticket.work
        if not queue.is_active:
            queue.work = 0.0  # not the last digits of many sums
            if queue is not self._no_queue:
                self._active -= 1
        self._wanted -= ticket.width
        self.demand.note(self._now, self._wanted)

    def _execute(self, ticket: Ticket) -> None:
        queue = ticket.queue
        assert queue is not None
        ticket.executing = True
        ticket.began = self._now
        queue.next_start += ticket.work
        queue.executing += 1
        queue.seats += ticket.width
        self.executing += 1
        self.seats += ticket.width
        self._last = queue.index

    def _serve(self) -> None:
        """Give free seats to who is next, for as long as they are enough."""
        while self.waiting:
            queue = self._next()
            ticket = queue.waiting[0]
            if not self._fits(ticket):
                return
            del queue.waiting[0]
            self.waiting -= 1
            self._execute(ticket)
            ticket.turn()

    def _next(self) -> Queue:
        """Of the queues where somebody waits, the one whose first would be done soonest; in turns where many would."""
        count, last = len(self.queues), self._last
        return min(
            (queue for queue in self.queues if queue.waiting),
            key=lambda queue: (queue.next_start + queue.waiting[0].work, (queue.index - last - 1) % count),
        )
