"""A priority level as the server uses it: its queues, its limits, the flows that share it, and what it has counted."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from pinnace.apiserver.flowcontrol.concurrency import Limits, most_seats
from pinnace.apiserver.flowcontrol.queueset import QueueSet
from pinnace.machinery.meta import Obj
from pinnace.wire.http import Headers

EVERYTHING = 1 << 40  # the limit of a level without one
BUCKETS = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)  # seconds
_HEADS_KEPT = 512


class Durations:
    __slots__ = ("figures",)

    def __init__(self) -> None:
        self.figures = [0.0] * (len(BUCKETS) + 2)  # the sum, then how many fell between two bounds

    def observe(self, seconds: float) -> None:
        self.figures[0] += seconds
        self.figures[1 + bisect_left(BUCKETS, seconds)] += 1


@dataclass(slots=True, eq=False)
class Tally:
    """What one schema's requests to one level came to."""

    classified: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # by reason
    waiting: int = 0
    executing: int = 0
    seats: int = 0  # of those that execute
    waited: Durations = field(default_factory=Durations)  # of those that were served, if by a queue
    executed: Durations = field(default_factory=Durations)

    @property
    def is_idle(self) -> bool:
        return not self.waiting and not self.executing

    @property
    def dispatched(self) -> int:
        return self.classified - self.waiting - self.rejected.total()


Shape = tuple[bool, int, int, int]
"""Of a level: whether it is exempt, and its queues, hand and length of queues."""


class Level:
    def __init__(self, name: str, shape: Shape, now: float) -> None:
        self.name = name
        self.uid = ""
        self.shape = shape
        self.is_exempt, queues, hand, length = shape
        self.queues = QueueSet(EVERYTHING if self.is_exempt else 0, now, queues, hand, length)
        self.limits = Limits(0, 0, 0)
        self.most_seats = 1  # of one request
        self.is_quiescing = False  # its object is gone or looks different: it only serves who is here

    def limit(self, limits: Limits, current: int, now: float) -> None:
        """Its limits have changed."""
        self.limits = limits
        self.most_seats = most_seats(limits.nominal, self.queues.hand_size)
        if not self.is_exempt:
            self.queues.set_limit(current, now)


def shape_of(level: Obj) -> Shape:
    spec = level["spec"]
    if spec["type"] == "Exempt":
        return True, 0, 0, 0
    queuing = spec["limited"]["limitResponse"].get("queuing") or {}
    return False, queuing.get("queues", 0), queuing.get("handSize", 0), queuing.get("queueLengthLimit", 0)


class Flow:
    """One flow of a schema: where its requests queue, and what their responses say of it."""

    __slots__ = ("_headed", "distinguisher", "hand", "headers", "level", "schema", "tally")

    def __init__(
        self, schema: str, uid: str, distinguisher: str, level: Level, hand: tuple[int, ...], tally: Tally
    ) -> None:
        self.schema = schema
        self.distinguisher = distinguisher
        self.level = level
        self.hand = hand
        self.tally = tally
        self.headers: tuple[tuple[str, str], ...] = (
            ("X-Kubernetes-Pf-Flowschema-Uid", uid),
            ("X-Kubernetes-Pf-Prioritylevel-Uid", level.uid),
        )
        self._headed: dict[Headers, Headers] = {}

    def headed(self, headers: Headers) -> Headers:
        """A response's headers with those of the flow; the few that are sent over and over are made once."""
        if type(headers) is not tuple:
            return (*headers, *self.headers)
        found = self._headed.get(headers)
        if found is None:
            if len(self._headed) >= _HEADS_KEPT:
                self._headed.clear()
            found = self._headed[headers] = (*headers, *self.headers)
        return found
