"""The arithmetic of autoscaling: from what pods use to how many there should be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinnace.controllers.hpa_replicas import (
    MetricError,
    Sample,
    Settings,
    Tolerance,
    by_average,
    by_share,
    by_utilization,
    by_value,
    group,
    requests_of,
    tolerance_of,
)
from pinnace.machinery.meta import Obj, format_time

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AGO = NOW - timedelta(hours=1)


def pod(
    name: str,
    phase: str = "Running",
    *,
    ready: bool = True,
    started: datetime = LONG_AGO,
    turned: datetime = LONG_AGO,
    cpu: str | None = "1",
    deleting: bool = False,
) -> Obj:
    metadata: dict[str, Any] = {"name": name, "namespace": "default"}
    if deleting:
        metadata["deletionTimestamp"] = format_time(NOW)
    requests = {"cpu": cpu} if cpu else {}
    turned_text = format_time(turned)
    ready_condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": turned_text}
    return {
        "metadata": metadata,
        "spec": {"containers": [{"name": "main", "resources": {"requests": requests}}]},
        "status": {"phase": phase, "startTime": format_time(started), "conditions": [ready_condition]},
    }


def samples(*values: int) -> dict[str, Sample]:
    """Use of p0, p1, …; -1 leaves one out."""
    return {f"p{number}": Sample(value, NOW) for number, value in enumerate(values) if value >= 0}


def pods(count: int, **each: Any) -> list[Obj]:
    return [pod(f"p{number}", **each) for number in range(count)]


YOUNG: dict[str, Any] = {"started": NOW - timedelta(seconds=20), "turned": NOW - timedelta(seconds=10)}


@pytest.mark.parametrize(
    ("running", "used", "target", "expected"),
    [
        # As much as there should be, or nearly.
        (pods(3), (500, 500, 500), 50, (3, 50, 500)),
        (pods(3), (540, 540, 540), 50, (3, 54, 540)),
        # More, and less.
        (pods(3), (900, 900, 900), 50, (6, 90, 900)),
        (pods(3), (300, 500, 700), 30, (5, 50, 500)),
        (pods(5), (100, 300, 500, 250, 250), 50, (3, 28, 280)),
        # A pod without metrics is taken as idle when it goes up, as busy when it goes down.
        (pods(4), (-1, 500, 700, 800), 20, (10, 66, 666)),
        (pods(3), (-1, 600, 600), 50, (3, 60, 600)),
        (pods(4), (-1, 100, 100, 100), 50, (3, 10, 100)),
        (pods(2), (-1, 450), 50, (2, 45, 450)),
        # One busier than all it asked for: what is missing is taken as busy as the target.
        (pods(2), (-1, 1000), 150, (2, 100, 1000)),
        # A pod that is not ready counts as idle when it goes up, and not at all when it goes down.
        ([*pods(2), pod("p2", "Pending")], (900, 900, 100), 50, (4, 90, 900)),
        ([*pods(2), pod("p2", "Pending")], (100, 100), 50, (1, 10, 100)),
        ([*pods(2), pod("p2", ready=False, **YOUNG)], (900, 900, 900), 50, (4, 90, 900)),
        # One that goes counts nowhere.
        ([*pods(2), pod("p2", deleting=True)], (500, 500, 9000), 50, (3, 50, 500)),
        ([*pods(2), pod("p2", "Failed")], (1000, 1000, 0), 50, (4, 100, 1000)),
    ],
)
def test_utilization(running: list[Obj], used: tuple[int, ...], target: int, expected: tuple[int, ...]) -> None:
    measured = samples(*used)
    groups = group(running, measured, "cpu", Settings(), NOW)
    found = by_utilization(len(running), target, measured, requests_of(running, "cpu"), groups, Tolerance())
    assert found == expected


@pytest.mark.parametrize(
    ("running", "used", "target", "expected"),
    [
        (pods(3), (20_000, 10_000, 30_000), 10_000, (6, 20_000)),
        (pods(3), (12_000, 12_000, 12_000), 20_000, (2, 12_000)),
        (pods(3), (10_500, 10_500, 10_500), 10_000, (3, 10_500)),
        (pods(3), (-1, 20_000, 19_000), 10_000, (4, 19_500)),
        (pods(3), (-1, 2_000, 2_000), 10_000, (2, 2_000)),
        ([*pods(3), pod("p3", "Pending")], (50_000, 10_000, 30_000), 15_000, (6, 30_000)),
    ],
)
def test_averages(running: list[Obj], used: tuple[int, ...], target: int, expected: tuple[int, int]) -> None:
    measured = samples(*used)
    groups = group(running, measured, "", Settings(), NOW)
    assert by_average(len(running), target, measured, groups, Tolerance()) == expected


@pytest.mark.parametrize(
    ("replicas", "usage", "target", "ready", "expected"),
    [(3, 20, 10, 3, 6), (3, 105, 100, 3, 3), (3, 20, 10, 2, 4), (0, 25, 10, 0, 3), (0, 0, 10, 0, 0), (4, 5, 10, 4, 2)],
)
def test_one_value_for_all(replicas: int, usage: int, target: int, ready: int, expected: int) -> None:
    running = [*pods(ready), pod("late", "Pending")]
    assert by_value(replicas, usage, target, running, Tolerance()) == expected


@pytest.mark.parametrize(
    ("replicas", "usage", "target", "expected"),
    [
        (2, 400, 100, (4, 200)),
        (4, 400, 100, (4, 100)),
        (3, 320, 100, (3, 107)),
        (3, 100, 100, (1, 34)),
        (0, 150, 100, (2, 0)),
    ],
)
def test_a_share_for_each(replicas: int, usage: int, target: int, expected: tuple[int, int]) -> None:
    assert by_share(replicas, usage, target, Tolerance()) == expected


@pytest.mark.parametrize(
    ("one", "sample", "unready"),
    [
        (pod("p", **YOUNG), Sample(1, NOW, timedelta(seconds=30)), True),  # began before it was ready
        (pod("p", **YOUNG), Sample(1, NOW, timedelta(seconds=5)), False),
        (pod("p", ready=False, **YOUNG), Sample(1, NOW, timedelta(seconds=5)), True),
        (pod("p", ready=False), Sample(1, NOW), True),  # old, and never was
        (pod("p", ready=False, turned=NOW), Sample(1, NOW), False),  # old, and was before
        ({**pod("p"), "status": {"phase": "Running"}}, Sample(1, NOW), True),
    ],
)
def test_what_a_start_costs_does_not_count(one: Obj, sample: Sample, unready: bool) -> None:
    assert ("p" in group([one], {"p": sample}, "cpu", Settings(), NOW).unready) is unready
    assert not group([one], {"p": sample}, "memory", Settings(), NOW).unready


def test_what_pods_request() -> None:
    sidecar = {"name": "proxy", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}}
    setup = {"name": "setup", "resources": {"requests": {"cpu": "4"}}}
    one = pod("a")
    one["spec"]["initContainers"] = [sidecar, setup]
    whole = pod("b", cpu=None)
    whole["spec"]["resources"] = {"requests": {"cpu": "2"}}
    assert requests_of([one, whole], "cpu") == {"a": 1100, "b": 2000}
    assert requests_of([one], "cpu", "main") == {"a": 1000}
    with pytest.raises(MetricError, match="missing request for cpu in container main of Pod c"):
        requests_of([pod("c", cpu=None)], "cpu")


def test_nothing_comes_of_nothing() -> None:
    waiting = [pod("p0", "Pending")]
    measured = samples(100)
    with pytest.raises(MetricError, match="did not receive metrics for any ready pods"):
        by_average(1, 100, measured, group(waiting, measured, "", Settings(), NOW), Tolerance())
    with pytest.raises(MetricError, match="no metrics returned matched known pods"):
        by_utilization(1, 50, measured, {"other": 100}, group([], measured, "cpu", Settings(), NOW), Tolerance())


@pytest.mark.parametrize(
    ("behavior", "ratio", "covered"),
    [
        ({}, 1.1, True),
        ({}, 0.9, True),
        ({}, 1.11, False),
        ({"scaleUp": {"tolerance": "0"}}, 1.01, False),
        ({"scaleDown": {"tolerance": "500m"}}, 0.5, True),
        ({"scaleDown": {"tolerance": "500m"}}, 1.2, False),
    ],
)
def test_tolerance(behavior: Obj, ratio: float, covered: bool) -> None:
    assert tolerance_of({"spec": {"behavior": behavior}}, 0.1).covers(ratio) is covered
