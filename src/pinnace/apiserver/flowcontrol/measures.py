"""The metrics of flow control: apiserver_flowcontrol_*, looked up in the tallies and levels when somebody asks.

Reads that are answered at once count as dispatched; only what took a seat has waited and been executed.
https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#metrics
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pinnace.apiserver.flowcontrol.controller import FlowControl
from pinnace.apiserver.flowcontrol.level import BUCKETS, Durations, Level, Tally
from pinnace.machinery.metrics import Collected, Family, Sample, spread

_HEAD = "apiserver_flowcontrol_"
_FLOW = ("flow_schema", "priority_level")


def families(control: FlowControl) -> list[Family]:
    def by_flow(kind: str, name: str, about: str, value: Callable[[Tally], int]) -> Family:
        def collect() -> Iterable[tuple[tuple[str, ...], float]]:
            return [((schema, level), value(tally)) for (level, schema), tally in sorted(control.tallies.items())]

        return Collected(kind, _HEAD + name, about, _FLOW, collect)

    def by_level(name: str, about: str, value: Callable[[Level], float]) -> Family:
        def collect() -> Iterable[tuple[tuple[str, ...], float]]:
            return [((level.name,), value(level)) for level in control.all_levels() if not level.is_quiescing]

        return Collected("gauge", _HEAD + name, about, ("priority_level",), collect)

    def rejected() -> Iterable[tuple[tuple[str, ...], float]]:
        for (level, schema), tally in sorted(control.tallies.items()):
            for reason, count in sorted(tally.rejected.items()):
                yield (schema, level, reason), count

    return [
        by_flow("counter", "dispatched_requests_total", "Requests that were served.", lambda each: each.dispatched),
        Collected("counter", f"{_HEAD}rejected_requests_total", "Requests refused.", (*_FLOW, "reason"), rejected),
        by_flow("gauge", "current_inqueue_requests", "Requests in queues.", lambda each: each.waiting),
        by_flow("gauge", "current_executing_requests", "Requests being executed.", lambda each: each.executing),
        by_flow("gauge", "current_executing_seats", "Seats that they hold.", lambda each: each.seats),
        by_level("nominal_limit_seats", "Seats by a level's shares.", lambda each: each.limits.nominal),
        by_level("lower_limit_seats", "Seats that lending leaves at least.", lambda each: each.limits.least),
        by_level("upper_limit_seats", "Seats that borrowing reaches at most.", lambda each: each.limits.most),
        by_level("current_limit_seats", "Seats after lending and borrowing.", _current),
        by_level("demand_seats_smoothed", "Seats wanted of late.", lambda each: each.queues.demand.smoothed),
        _Histogram(
            control,
            "request_wait_duration_seconds",
            "Time in queues.",
            (("execute", "true"),),
            lambda each: each.waited,
        ),
        _Histogram(
            control,
            "request_execution_seconds",
            "Time of execution.",
            (("type", "regular"),),
            lambda each: each.executed,
        ),
    ]


def inflight(count: Callable[[], tuple[int, int]]) -> Family:
    """What is being worked on now, by `count`: reads, and writes. What is answered at once is never seen here."""
    return Collected(
        "gauge",
        "apiserver_current_inflight_requests",
        "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.",
        ("request_kind",),
        lambda: zip((("readOnly",), ("mutating",)), count(), strict=True),
    )


def _current(level: Level) -> float:
    return level.limits.nominal if level.is_exempt else level.queues.limit


class _Histogram(Family):
    kind = "histogram"

    def __init__(
        self,
        control: FlowControl,
        name: str,
        about: str,
        more: tuple[tuple[str, str], ...],
        durations: Callable[[Tally], Durations],
    ) -> None:
        """`more` are further labels, the same for all."""
        super().__init__(_HEAD + name, about, _FLOW)
        self._control = control
        self._more = more
        self._durations = durations

    def samples(self) -> Iterable[Sample]:
        for (level, schema), tally in sorted(self._control.tallies.items()):
            yield from spread((*self._more, *self.named((schema, level))), BUCKETS, self._durations(tally).figures)
