"""Whom a pod that fits nowhere asks to leave: tables of victims, budgets and nodes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pinnace.machinery.meta import Obj
from pinnace.scheduler.cache import Cache
from pinnace.scheduler.framework import Rejection
from pinnace.scheduler.nominations import Nominations
from pinnace.scheduler.pod import PodInfo
from pinnace.scheduler.preemption import (
    NO_VICTIMS,
    Budget,
    Candidate,
    Victim,
    candidates_wanted,
    least_harmful,
    split_by_budgets,
    victims_on,
)
from tests.scheduler.objects import affinity_term, anti_affinity, cluster, evaluator, node, pod

START = datetime(2026, 1, 1, tzinfo=UTC)


def ordinary(name: str, priority: int = 0, cpu: str = "1", app: str = "", **more: Any) -> Obj:
    return pod(name, cpu=cpu, priority=priority, labels={"app": app} if app else None, **more)


def victim(name: str, priority: int = 0, minute: int = 0, app: str = "") -> Victim:
    return Victim(PodInfo.of(ordinary(name, priority, app=app)), START + timedelta(minutes=minute))


def budget(allowed: int, app: str = "s", disrupted: tuple[str, ...] = ()) -> Budget:
    status = {"disruptionsAllowed": allowed, "disruptedPods": dict.fromkeys(disrupted, "")}
    selector = {"matchLabels": {"app": app}} if app else {}
    made = Budget.of({"metadata": {"namespace": "default"}, "spec": {"selector": selector}, "status": status})
    assert made is not None
    return made


def chosen(cache: Cache, preemptor: Obj, *budgets: Budget) -> Candidate | Rejection:
    asking = PodInfo.of(preemptor)
    fits = evaluator(cache).asking(asking.shape)
    return victims_on(cache.nodes["n"], asking, cache, fits, budgets, lambda _: START)


VICTIMS: list[tuple[str, list[Obj], Obj, list[Budget], list[str], int]] = [
    ("the lowest go first", [ordinary("a", 1), ordinary("b", 2), ordinary("c", 3)], ordinary("p", 9), [], ["a"], 0),
    ("as many as it takes", [ordinary("a", 1), ordinary("b", 2), ordinary("c", 3)], ordinary("p", 9, "2"), [],
     ["b", "a"], 0),
    ("one that frees enough", [ordinary("a", 1, "2"), ordinary("b", 2)], ordinary("p", 9, "2"),
     [], ["a"], 0),
    ("who is under a budget is spared", [ordinary("a", 1, app="s"), ordinary("b", 2), ordinary("c", 3)],
     ordinary("p", 9), [budget(0)], ["b"], 0),
    ("unless there is no other way", [ordinary("a", 1, app="s"), ordinary("b", 9), ordinary("c", 9)],
     ordinary("p", 9), [budget(0)], ["a"], 1),
    ("a budget with room is no obstacle", [ordinary("a", 1, app="s"), ordinary("b", 2), ordinary("c", 3)],
     ordinary("p", 9), [budget(1)], ["a"], 0),
    ("by anti-affinity", [ordinary("a", 1, "1", app="s"), ordinary("b", 2, "1")],
     ordinary("p", 9, affinity=anti_affinity(affinity_term())), [], ["a"], 0),
    ("by a host port", [ordinary("a", 1, container={"ports": [{"hostPort": 80}]}), ordinary("b", 2)],
     ordinary("p", 9, container={"ports": [{"hostPort": 80}]}), [], ["a"], 0),
]  # fmt: skip


@pytest.mark.parametrize(("placed", "preemptor", "budgets", "victims", "violations"), [c[1:] for c in VICTIMS],
                         ids=[c[0] for c in VICTIMS])  # fmt: skip
def test_victims_on_a_node(
    placed: list[Obj], preemptor: Obj, budgets: list[Budget], victims: list[str], violations: int
) -> None:
    cache = cluster(node("n", cpu="3"), n=placed)
    before = cache.nodes["n"].version, dict(cache.nodes["n"].requested), set(cache.nodes["n"].pods)
    found = chosen(cache, preemptor, *budgets)
    assert isinstance(found, Candidate)
    assert ([each.pod.name for each in found.victims], found.violations) == (victims, violations)
    assert (cache.nodes["n"].version, cache.nodes["n"].requested, set(cache.nodes["n"].pods)) == before


def test_nodes_that_are_of_no_use() -> None:
    full = cluster(node("n", cpu="1"), n=[ordinary("a", 5)])
    assert chosen(full, ordinary("p", 5)) == NO_VICTIMS
    mixed = cluster(node("n", cpu="2"), n=[ordinary("a", 9), ordinary("b", 1)])
    assert chosen(mixed, ordinary("p", 9, "2")) == Rejection(("Insufficient cpu",))


def test_budgets_are_used_up_in_order() -> None:
    several = [victim("a", app="s"), victim("b", app="s"), victim("c", app="t"), victim("d", app="s"), victim("e")]
    violating, allowed = split_by_budgets(several, [budget(1), budget(0, "t"), budget(9, "none")])
    assert [each.pod.name for each in violating] == ["b", "c", "d"]
    assert [each.pod.name for each in allowed] == ["a", "e"]
    violating, _ = split_by_budgets(several, [budget(0, disrupted=("a", "b"))])
    assert [each.pod.name for each in violating] == ["d"]
    assert Budget.of({"metadata": {}, "spec": {"selector": {}}}) is None
    assert Budget.of({"metadata": {}, "spec": {}}) is None


def candidate(name: str, *victims: Victim, violations: int = 0) -> Candidate:
    return Candidate(name, victims, violations)


CHOICES: list[tuple[str, list[Candidate]]] = [
    ("fewest violations", [candidate("x", victim("a", 1), violations=1), candidate("best", victim("b", 9))]),
    ("lowest top priority", [candidate("x", victim("a", 5)), candidate("best", victim("b", 4), victim("c", 4))]),
    ("smallest sum", [
        candidate("x", victim("a", 5), victim("b", 5)), candidate("best", victim("c", 5), victim("d", 1))]),
    ("fewest victims, however low they are", [
        candidate("x", victim("a", 5), victim("b", -2000)), candidate("best", victim("c", 5))]),
    ("youngest of the most important", [
        candidate("x", victim("a", 5, minute=1), victim("b", 1, minute=9)),
        candidate("best", victim("c", 5, minute=2), victim("d", 1, minute=0))]),
    ("else the first", [candidate("best", victim("a", 5)), candidate("x", victim("c", 5))]),
]  # fmt: skip


@pytest.mark.parametrize("candidates", [case[1] for case in CHOICES], ids=[case[0] for case in CHOICES])
def test_choice_of_the_node(candidates: list[Candidate]) -> None:
    assert least_harmful(candidates).node_name == "best"


@pytest.mark.parametrize(("nodes", "wanted"), [(0, 0), (7, 7), (100, 100), (500, 100), (5000, 500)])
def test_enough_candidates(nodes: int, wanted: int) -> None:
    assert candidates_wanted(nodes) == wanted


def test_room_is_kept_from_pods_of_the_same_or_lower_priority() -> None:
    cache = cluster(node("n", cpu="1"))
    nominations = Nominations(cache)
    first, equal, lower, higher = (
        PodInfo.of(ordinary(name, priority)) for name, priority in (("f", 5), ("e", 5), ("l", 1), ("h", 9))
    )
    nominations.nominate(first, "n")
    deciding = evaluator(cache)

    def fits(asking: PodInfo) -> bool:
        nominations.count_for(asking)
        return deciding.choose(asking.shape) is not None

    assert [fits(each) for each in (first, equal, lower, higher, first)] == [True, False, False, True, True]
    assert (nominations.node_of("default/f"), nominations.on("n")) == ("n", [first])
    assert not fits(equal)
    nominations.withdraw("default/f")
    assert fits(equal)
    assert not nominations
