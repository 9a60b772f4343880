"""How fast autoscaling follows its metrics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.controllers.hpa_limits import Bounds, History, Moment, decide
from pinnace.machinery.meta import Obj

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ago(seconds: float, replicas: int) -> Moment:
    return Moment(NOW - timedelta(seconds=seconds), replicas)


def rules(*policies: tuple[str, int, int], select: str = "Max", window: int | None = 0) -> Obj:
    found = [{"type": kind, "value": value, "periodSeconds": period} for kind, value, period in policies]
    return {"policies": found, "selectPolicy": select, "stabilizationWindowSeconds": window}


def behavior(up: Obj | None = None, down: Obj | None = None) -> Obj:
    return {
        "scaleUp": up or rules(("Pods", 4, 15), ("Percent", 100, 15)),
        "scaleDown": down or rules(("Percent", 100, 15), window=None),
    }


@pytest.mark.parametrize(
    ("current", "desired", "recent", "replicas", "able", "limited", "limit"),
    [
        (3, 4, [], 4, "ReadyForNewScale", False, "DesiredWithinRange"),
        (1, 9, [], 4, "ReadyForNewScale", True, "ScaleUpLimit"),
        (5, 20, [], 10, "ReadyForNewScale", True, "TooManyReplicas"),
        (4, 9, [], 8, "ReadyForNewScale", True, "ScaleUpLimit"),
        (5, 0, [], 1, "ReadyForNewScale", True, "TooFewReplicas"),
        (5, 2, [ago(299, 4)], 4, "ScaleDownStabilized", False, "DesiredWithinRange"),
        (5, 2, [ago(301, 4)], 2, "ReadyForNewScale", False, "DesiredWithinRange"),
    ],
)
def test_without_behaviour(
    current: int, desired: int, recent: list[Moment], replicas: int, able: str, limited: bool, limit: str
) -> None:
    found = decide(desired, Bounds(current, 1, 10), None, History(recent), 300, NOW)
    assert (found.replicas, found.able[0], found.limited, found.limit[0]) == (replicas, able, limited, limit)


@pytest.mark.parametrize(
    ("current", "desired", "asked", "history", "replicas", "limit"),
    [
        # Up: the larger of the steps, unless the smaller is asked for.
        (2, 50, behavior(), History(), 6, "ScaleUpLimit"),
        (10, 50, behavior(), History(), 20, "ScaleUpLimit"),
        (
            10,
            50,
            behavior(up=rules(("Pods", 4, 15), ("Percent", 100, 15), select="Min")),
            History(),
            14,
            "ScaleUpLimit",
        ),
        (10, 50, behavior(up=rules(("Pods", 4, 15), select="Disabled")), History(), 10, "ScaleUpLimit"),
        (90, 500, behavior(), History(), 100, "TooManyReplicas"),
        # What was done within the period counts against it.
        (10, 50, behavior(up=rules(("Pods", 4, 60))), History(ups=[ago(30, 3)]), 11, "ScaleUpLimit"),
        (10, 50, behavior(up=rules(("Pods", 4, 60))), History(ups=[ago(61, 3)]), 14, "ScaleUpLimit"),
        (10, 50, behavior(up=rules(("Pods", 4, 60))), History(downs=[ago(30, 3)]), 17, "ScaleUpLimit"),
        # Down.
        (50, 5, behavior(down=rules(("Percent", 10, 60), ("Pods", 4, 60))), History(), 45, "ScaleDownLimit"),
        (
            50,
            5,
            behavior(down=rules(("Percent", 10, 60), ("Pods", 4, 60), select="Min")),
            History(),
            46,
            "ScaleDownLimit",
        ),
        (50, 5, behavior(down=rules(("Pods", 4, 60))), History(downs=[ago(10, 4)]), 50, "ScaleDownLimit"),
        (50, 5, behavior(down=rules(("Pods", 4, 60), select="Disabled")), History(), 50, "ScaleDownLimit"),
        (50, 0, behavior(), History(), 1, "TooFewReplicas"),
        # Neither.
        (50, 50, behavior(), History(), 50, "DesiredWithinRange"),
    ],
)
def test_policies(current: int, desired: int, asked: Obj, history: History, replicas: int, limit: str) -> None:
    found = decide(desired, Bounds(current, 1, 100), asked, history, 300, NOW)
    assert (found.replicas, found.limit[0]) == (replicas, limit)


@pytest.mark.parametrize(
    ("current", "desired", "asked", "recent", "replicas", "able"),
    [
        (5, 8, behavior(up=rules(("Pods", 9, 15), window=60)), [ago(30, 6)], 6, "ScaleUpStabilized"),
        (5, 8, behavior(up=rules(("Pods", 9, 15), window=60)), [ago(30, 2)], 5, "ScaleUpStabilized"),
        (5, 8, behavior(up=rules(("Pods", 9, 15), window=60)), [ago(90, 6)], 8, "ReadyForNewScale"),
        (5, 2, behavior(down=rules(("Pods", 9, 15), window=60)), [ago(30, 4)], 4, "ScaleDownStabilized"),
        (5, 2, behavior(), [ago(250, 9)], 5, "ScaleDownStabilized"),  # the cluster's own window
        (5, 2, behavior(down=rules(("Pods", 9, 15), window=0)), [ago(1, 9)], 2, "ReadyForNewScale"),
    ],
)
def test_windows(current: int, desired: int, asked: Obj, recent: list[Moment], replicas: int, able: str) -> None:
    found = decide(desired, Bounds(current, 1, 100), asked, History(recent), 300, NOW)
    assert (found.replicas, found.able[0]) == (replicas, able)


def test_the_past_is_kept_no_longer_than_it_is_asked_for() -> None:
    history = History([ago(400, 1), ago(200, 2)])
    history.recommend(3, NOW, 300)
    assert [moment.replicas for moment in history.recommendations] == [2, 3]
    asked = behavior(up=rules(("Pods", 4, 60)), down=rules(("Pods", 4, 30)))
    history.scaled(3, 5, NOW - timedelta(seconds=61), asked)
    history.scaled(5, 4, NOW - timedelta(seconds=31), asked)
    history.scaled(4, 7, NOW, asked)
    history.scaled(7, 6, NOW, asked)
    history.scaled(7, 6, NOW, None)
    assert (history.ups, history.downs) == ([Moment(NOW, 3)], [Moment(NOW, 1)])


_RULES = st.builds(
    lambda kind, value, period, select, window: rules((kind, value, period), select=select, window=window),
    st.sampled_from(["Pods", "Percent"]),
    st.integers(1, 200),
    st.integers(1, 60),
    st.sampled_from(["Max", "Min", "Disabled"]),
    st.sampled_from([0, 30]),
)
_PAST = st.lists(st.builds(ago, st.integers(0, 90), st.integers(0, 30)), max_size=4)


@given(
    st.integers(1, 30),
    st.integers(0, 60),
    st.none() | st.builds(behavior, _RULES, _RULES),
    st.builds(History, _PAST, _PAST, _PAST),
)
def test_the_bounds_always_hold(current: int, desired: int, asked: Obj | None, history: History) -> None:
    """And with behaviour nothing moves away from what the metrics of now or of the window call for."""
    found = decide(desired, Bounds(current, 1, 30), asked, history, 300, NOW)
    assert 1 <= found.replicas <= 30
    if asked is not None:
        known = [current, max(1, desired), *(moment.replicas for moment in history.recommendations)]
        assert min(known) <= found.replicas <= max(known)
