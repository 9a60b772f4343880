"""Evictions keep a pace, and stop where too much is lost at once."""

from __future__ import annotations

import pytest

from pinnace.apis.resources import NODES
from pinnace.controllers.node_lifecycle import NodeLifecycleController, lacks_eviction
from pinnace.controllers.node_zones import Pace, State, Zones, state_of, zone_of
from pinnace.machinery.meta import Obj
from tests.client.fake_api import FakeApi
from tests.controllers.simulation import running
from tests.controllers.test_nodes import node, taints


@pytest.mark.parametrize(
    ("labels", "zone"),
    [
        ({}, ":"),
        ({"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "a"}, "r:a"),
        ({"failure-domain.beta.kubernetes.io/zone": "a"}, ":a"),
    ],
)
def test_the_zone_of_a_node(labels: dict[str, str], zone: str) -> None:
    assert zone_of({"metadata": {"labels": labels}}) == zone


@pytest.mark.parametrize(
    ("ready", "lost", "state"),
    [
        (3, 0, State.NORMAL),
        (0, 0, State.NORMAL),
        (1, 2, State.NORMAL),  # so few say nothing
        (3, 3, State.NORMAL),
        (2, 3, State.PARTIAL),
        (0, 1, State.FULL),
    ],
)
def test_how_a_zone_is(ready: int, lost: int, state: State) -> None:
    assert state_of(ready, lost, 0.55) is state


def zones(**by_zone: tuple[int, int]) -> Zones:
    """Zones with so many nodes ready and lost: `a0…` are the ready ones of zone a, `a-0…` the lost."""
    made = Zones(Pace())
    for zone, (ready, lost) in by_zone.items():
        for number in range(ready):
            made.note(f"{zone}{number}", zone, ready=True)
        for number in range(lost):
            made.note(f"{zone}-{number}", zone, ready=False)
    return made


@pytest.mark.parametrize(
    ("made", "rate"),
    [
        (zones(a=(5, 1)), 0.1),
        (zones(a=(2, 3)), 0.0),
        (zones(a=(20, 40)), 0.01),
        (zones(a=(0, 3), b=(1, 0)), 0.1),
        (zones(a=(0, 3), b=(0, 1)), 0.0),
    ],
)
def test_the_pace_of_a_zone(made: Zones, rate: float) -> None:
    assert made.rate("a-0") == rate


def test_one_node_after_the_other() -> None:
    made = zones(a=(9, 3), b=(9, 1))
    assert [made.wait("a-0", 0.0), made.wait("a-1", 0.0), made.wait("b-0", 0.0)] == [0.0, 10.0, 0.0]
    assert made.wait("a-1", 4.0) == 6.0
    assert [made.wait("a-1", 10.0), made.wait("a-2", 10.0)] == [0.0, 10.0]
    assert made.wait("unknown", 0.0) is None


def test_who_is_to_be_looked_at_again() -> None:
    made = zones(a=(2, 2), b=(0, 1))
    assert made.note("a-2", "a", ready=False) == {"a-0", "a-1", "a-2"}  # partial now
    assert made.note("a-2", "a", ready=False) == set()
    assert made.forget("a-2") == {"a-0", "a-1"}
    made.forget("a0")
    assert made.forget("a1") == {"a-0", "a-1", "b-0"}  # nobody is left
    assert made.note("b-0", "b", ready=True) == {"a-0", "a-1"}


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (node(), False),
        (node(ready="Unknown"), True),
        (node(ready="Unknown", taints=[{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]), False),
    ],
)
def test_which_nodes_wait_for_their_turn(one: Obj, expected: bool) -> None:
    assert lacks_eviction(one) is expected


async def test_nodes_lost_together_are_evicted_from_in_turn() -> None:
    api = FakeApi()
    for name in ("n1", "n2", "n3", "n4"):
        await api.client.create(NODES, node(name, ready="True" if name > "n2" else "False"))

    def evicted() -> int:
        return sum(("not-ready", "NoExecute") in taints(one) for one in api.all(NODES))

    def make(client: object, informers: object) -> NodeLifecycleController:
        return NodeLifecycleController(client, informers, pace=Pace(rate=20.0))  # type: ignore[arg-type]

    async with running(api, make):
        await api.until(lambda: evicted() == 1)
        await api.until(lambda: evicted() == 2)
