"""Rollouts keep within maxSurge and maxUnavailable, and come to an end."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.controllers import rollout
from pinnace.machinery.meta import Obj


def deployment(
    replicas: int, surge: int | str = "25%", unavailable: int | str = "25%", kind: str = "RollingUpdate"
) -> Obj:
    strategy: Obj = {"type": kind}
    if kind == "RollingUpdate":
        strategy["rollingUpdate"] = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"metadata": {"name": "web"}, "spec": {"replicas": replicas, "strategy": strategy}}


def replica_set(name: str, replicas: int, available: int | None = None, **annotations: int) -> Obj:
    names = {"desired": rollout.DESIRED, "maximum": rollout.MAXIMUM}
    return {
        "metadata": {
            "name": name,
            "uid": name,
            "creationTimestamp": name,  # names sort by age
            "annotations": {names[key]: str(value) for key, value in annotations.items()},
        },
        "spec": {"replicas": replicas},
        "status": {"availableReplicas": replicas if available is None else available, "replicas": replicas},
    }


def sizes(resizes: list[rollout.Resize]) -> dict[str, int]:
    return {resize.replica_set["metadata"]["name"]: resize.replicas for resize in resizes}


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (4, "25%", "25%", (1, 1)),
        (10, "25%", "25%", (3, 2)),
        (3, "25%", "25%", (1, 0)),
        (1, "25%", "25%", (1, 0)),
        (10, 0, 0, (0, 1)),
        (1, "0%", "25%", (0, 1)),
        (2, 5, 5, (5, 2)),
        (0, "25%", "25%", (0, 0)),
    ],
)
def test_fence_posts(replicas: int, surge: int | str, unavailable: int | str, expected: tuple[int, int]) -> None:
    assert rollout.surge_and_unavailable(deployment(replicas, surge, unavailable)) == expected


@pytest.mark.parametrize(
    ("replicas", "surge", "old", "expected"),
    [(10, 0, 10, 0), (10, 2, 10, 2), (10, 5, 0, 10), (10, 2, 9, 3), (10, 2, 13, 0)],
)
def test_a_new_set_starts_with_what_surge_allows(replicas: int, surge: int, old: int, expected: int) -> None:
    assert rollout.first_size(deployment(replicas, surge, 1), [replica_set("1", old)]) == expected


@pytest.mark.parametrize(
    ("unavailable", "new", "new_available", "old", "expected"),
    [
        (0, 0, 0, [(10, 10)], {}),  # nothing may be missing, and nothing new is there
        (2, 0, 0, [(10, 10)], {"1": 8}),
        (2, 2, 2, [(10, 10)], {"1": 6}),
        (2, 2, 0, [(10, 10)], {"1": 8}),  # new pods that are not available do not count
        (2, 0, 0, [(10, 8)], {"1": 8}),  # broken pods go first
        (2, 0, 0, [(4, 4), (6, 6)], {"1": 2}),  # oldest first
        (0, 1, 1, [(10, 10)], {"1": 9}),
        (0, 1, 1, [(10, 3)], {"1": 9}),  # one broken pod may go for the new one, no more
    ],
)
def test_old_sets_shrink_by_what_may_be_missing(
    unavailable: int, new: int, new_available: int, old: list[tuple[int, int]], expected: dict[str, int]
) -> None:
    sets = [replica_set(str(place), *counts) for place, counts in enumerate(old, start=1)]
    found = rollout.shrink_old(deployment(10, 1, unavailable), replica_set("9", new, new_available), sets)
    assert sizes(found) == expected


@pytest.mark.parametrize(
    ("before", "after", "surge", "new", "old", "expected"),
    [
        (10, 15, 0, 0, [10], {"1": 15}),  # one set takes all
        (10, 15, 0, 5, [5], {"9": 8, "1": 7}),  # halves share; of equals the newer gets the odd one
        (10, 5, 0, 5, [5], {"9": 3, "1": 2}),
        (30, 90, 0, 0, [10, 10, 10], {"1": 30, "2": 30, "3": 30}),
        (10, 0, 0, 5, [5], {"9": 0, "1": 0}),
        (10, 20, 2, 6, [6], {"9": 11, "1": 11}),  # surge is shared as well
    ],
)
def test_scaling_in_the_middle_of_a_rollout_is_shared(
    before: int, after: int, surge: int, new: int, old: list[int], expected: dict[str, int]
) -> None:
    known = {"desired": before, "maximum": before + surge}
    sets = [replica_set(str(place), size, **known) for place, size in enumerate(old, start=1)]
    newest = replica_set("9", new, **known)
    wanted = deployment(after, surge, 1)
    assert rollout.is_scaling(wanted, [*sets, newest])
    assert sizes(rollout.scale(wanted, newest, sets)) == expected


def test_a_saturated_rollout_drops_what_is_old() -> None:
    newest = replica_set("9", 3, 3, desired=3)
    assert sizes(rollout.scale(deployment(3), newest, [replica_set("1", 2)])) == {"1": 0}


def roll(replicas: int, surge: int, unavailable: int, old_available: bool) -> int:
    """Play a rollout in which every new pod becomes available; the number of steps it took."""
    wanted = deployment(replicas, surge, unavailable)
    max_surge, max_unavailable = rollout.surge_and_unavailable(wanted)
    old = replica_set("1", replicas, replicas if old_available else 0)
    new = replica_set("9", rollout.first_size(wanted, [old]), 0)
    for step in itertools.count():
        assert step < 10 * replicas + 10, "the rollout does not end"
        if new["spec"]["replicas"] == replicas and old["spec"]["replicas"] == 0:
            return step
        for resize in rollout.resize_new(wanted, new, [old]) or rollout.shrink_old(wanted, new, [old]):
            target = new if resize.replica_set is new else old
            target["spec"]["replicas"] = resize.replicas
            target["status"]["availableReplicas"] = min(target["status"]["availableReplicas"], resize.replicas)
        everything = new["spec"]["replicas"] + old["spec"]["replicas"]
        available = new["status"]["availableReplicas"] + old["status"]["availableReplicas"]
        assert everything <= replicas + max_surge
        if old_available:
            assert available >= replicas - max_unavailable
        new["status"]["availableReplicas"] = new["spec"]["replicas"]
    raise AssertionError


@given(st.integers(0, 30), st.integers(0, 12), st.integers(0, 12), st.booleans())
def test_every_rollout_keeps_its_bounds_and_ends(
    replicas: int, surge: int, unavailable: int, old_available: bool
) -> None:
    roll(replicas, surge, unavailable, old_available)


@given(st.integers(0, 40), st.integers(0, 10), st.lists(st.integers(1, 20), min_size=1, max_size=4))
def test_scaling_reaches_the_size_asked_for(after: int, surge: int, old: list[int]) -> None:
    known = {"desired": sum(old) + 5, "maximum": sum(old) + 5}
    sets = [replica_set(str(place), size, **known) for place, size in enumerate(old, start=1)]
    newest = replica_set("9", 5, 4, **known)
    found = sizes(rollout.scale(deployment(after, surge, 1), newest, sets))
    assert sum(found.values()) == (after + surge if after > 0 else 0)
    assert min(found.values()) >= 0
