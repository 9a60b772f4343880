"""The tables below /debug/api_priority_and_fairness: levels, queues, and the requests that wait in them.

Columns are Kubernetes' (https://kubernetes.io/docs/reference/debug-cluster/flow-control/).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import cast

from pinnace.apiserver.exchange import Exchange
from pinnace.apiserver.flowcontrol.controller import FlowControl
from pinnace.machinery.meta import utc_now

BELOW = "/debug/api_priority_and_fairness/"
_LEAST_WIDTH = 8
_DETAILS = ("UserName", "Verb", "APIPath", "Namespace", "Name", "APIVersion", "Resource", "SubResource")


def _table(rows: Iterable[Sequence[object]]) -> str:
    """Cells end with a comma and begin in columns, a space apart at least."""
    cells = [[f"{cell}," for cell in row[:-1]] + [str(row[-1])] for row in rows]
    widths = [max(_LEAST_WIDTH, *(len(each) + 1 for each in column)) for column in zip(*cells, strict=True)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1] + "\n"
        for row in cells
    )


def answer(path: str, control: FlowControl, details: bool) -> str | None:
    """The text of one of the paths, None for another."""
    what = path.removeprefix(BELOW)
    if what == "dump_priority_levels":
        return priority_levels(control)
    if what == "dump_queues":
        return queues(control)
    return requests(control, details) if what == "dump_requests" else None


def priority_levels(control: FlowControl) -> str:
    rows: list[Sequence[object]] = [
        (
            "PriorityLevelName", "ActiveQueues", "IsIdle", "IsQuiescing", "WaitingRequests", "ExecutingRequests",
            "DispatchedRequests", "RejectedRequests", "TimedoutRequests", "CancelledRequests",
        )
    ]  # fmt: skip
    for level in control.all_levels():
        tallies = [tally for (name, _), tally in control.tallies.items() if name == level.name]
        executing = sum(tally.executing for tally in tallies) if level.is_exempt else level.queues.executing
        rows.append(
            (
                level.name,
                sum(bool(queue.waiting) for queue in level.queues.queues),
                _bool(not executing and not level.queues.waiting),
                _bool(level.is_quiescing),
                level.queues.waiting,
                executing,
                sum(tally.dispatched for tally in tallies),
                sum(tally.rejected[why] for tally in tallies for why in ("queue-full", "concurrency-limit")),
                sum(tally.rejected["time-out"] for tally in tallies),
                sum(tally.rejected["cancelled"] for tally in tallies),
            )
        )
    return _table(rows)


def _bool(value: bool) -> str:
    return "true" if value else "false"


def queues(control: FlowControl) -> str:
    rows: list[Sequence[object]] = [
        (
            "PriorityLevelName", "Index", "PendingRequests", "ExecutingRequests", "SeatsInUse", "NextDispatchR",
            "InitialSeatsSum", "MaxSeatsSum", "TotalWorkSum",
        )
    ]  # fmt: skip
    for level in control.all_levels():
        rows += [
            (
                level.name,
                queue.index,
                len(queue.waiting),
                queue.executing,
                queue.seats,
                f"{queue.next_start:.8f}ss",
                sum(ticket.seats for ticket in queue.waiting),
                sum(ticket.width for ticket in queue.waiting),
                f"{sum(ticket.work for ticket in queue.waiting):.8f}ss",
            )
            for queue in level.queues.queues
        ]
    return _table(rows)


def requests(control: FlowControl, details: bool) -> str:
    """Those that wait."""
    head = (
        "PriorityLevelName", "FlowSchemaName", "QueueIndex", "RequestIndexInQueue", "FlowDistingsher", "ArriveTime",
        "InitialSeats", "FinalSeats", "AdditionalLatency", "StartTime",
    )  # fmt: skip
    rows: list[Sequence[object]] = [(*head, *_DETAILS) if details else head]
    wall = utc_now()
    for level in control.all_levels():
        for queue in level.queues.queues:
            for index, ticket in enumerate(queue.waiting):
                arrived = wall - timedelta(seconds=control.clock() - ticket.arrived)
                row = (
                    level.name, ticket.schema, queue.index, index, ticket.distinguisher,
                    arrived.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), ticket.seats, ticket.final_seats,
                    f"{ticket.extra * 1000:g}ms" if ticket.extra else "0s", "0001-01-01T00:00:00Z",
                )  # fmt: skip
                rows.append((*row, *_about(cast(Exchange, ticket.about))) if details else row)
    return _table(rows)


def _about(exchange: Exchange) -> tuple[str, ...]:
    info = exchange.info
    version = f"{info.group}/{info.version}" if info.group else info.version
    return (
        exchange.user.name, info.verb, info.path, info.namespace, info.name, version, info.resource, info.subresource
    )  # fmt: skip
