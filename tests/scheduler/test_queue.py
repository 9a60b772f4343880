"""The queue as a transcript: who is next, who waits for how long, and what brings back whom."""

from __future__ import annotations

from pinnace.machinery.meta import Obj
from pinnace.scheduler.events import Action, Change
from pinnace.scheduler.plugins.priority_sort import PrioritySort
from pinnace.scheduler.plugins.scheduling_gates import SchedulingGates
from pinnace.scheduler.pod import PodInfo
from pinnace.scheduler.queue import QueuedPod, SchedulingQueue
from tests.scheduler.objects import pod

NODE_ADDED = Change("Node", Action.ADD, None)
POD_ADDED = Change("Pod", Action.ADD, None)
POD_DELETED = Change("Pod", Action.DELETE, None)


def helps(pod: PodInfo, rejected_by: frozenset[str], change: Change) -> bool:
    """Nodes help all, pods that go only those that lack resources."""
    return change.resource == "Node" or (Action.DELETE in change.action and "NodeResourcesFit" in rejected_by)


def queue(*pods: Obj) -> SchedulingQueue:
    made = SchedulingQueue(PrioritySort().sort_key, SchedulingGates().pre_enqueue, helps)
    for moment, each in enumerate(pods):
        made.put(PodInfo.of(each), float(moment))
    return made


def names(waiting: SchedulingQueue, now: float) -> list[str]:
    found = []
    while (queued := waiting.pop(now)) is not None:
        found.append(queued.pod.name)
    return found


def taken(waiting: SchedulingQueue, now: float) -> QueuedPod:
    queued = waiting.pop(now)
    assert queued is not None
    return queued


def test_higher_priority_first_then_first_come() -> None:
    waiting = queue(pod("a"), pod("b", priority=5), pod("c"), pod("d", priority=5))
    assert names(waiting, 10) == ["b", "d", "a", "c"]


def test_removed_pod_is_not_scheduled() -> None:
    waiting = queue(pod("a"), pod("b"))
    waiting.remove("default/a")
    assert names(waiting, 10) == ["b"]


def test_pod_with_gates_waits_until_they_are_gone() -> None:
    waiting = queue(pod("a", schedulingGates=[{"name": "quota"}]))
    assert names(waiting, 1) == []
    waiting.put(PodInfo.of(pod("a")), 2)
    assert names(waiting, 2) == ["a"]


def test_rejected_pod_waits_for_what_could_help_it_and_for_its_back_off() -> None:
    waiting = queue(pod("a"))
    waiting.set_aside(taken(waiting, 0), frozenset({"NodeResourcesFit"}), 0)
    waiting.wake(POD_ADDED, 5)
    assert names(waiting, 5) == []
    waiting.wake(POD_DELETED, 5)
    assert names(waiting, 5) == ["a"]


def test_woken_early_it_backs_off_first_and_longer_each_time() -> None:
    waiting = queue(pod("a"))
    now = 0.0
    for expected in (1, 2, 4, 8, 10, 10):
        waiting.set_aside(taken(waiting, now), frozenset({"NodeAffinity"}), now)
        waiting.wake(NODE_ADDED, now)
        assert waiting.next_due() == now + expected
        assert names(waiting, now + expected - 0.1) == []
        now += expected


def test_without_reasons_anything_wakes() -> None:
    waiting = queue(pod("a"))
    waiting.set_aside(taken(waiting, 0), frozenset(), 0)
    waiting.wake(POD_ADDED, 5)
    assert names(waiting, 5) == ["a"]


def test_set_aside_too_long_it_is_tried_again() -> None:
    waiting = queue(pod("a"))
    waiting.set_aside(taken(waiting, 0), frozenset({"NodeAffinity"}), 0)
    waiting.wake_old(299)
    assert names(waiting, 299) == []
    waiting.wake_old(301)
    assert names(waiting, 301) == ["a"]


def test_change_of_the_pod_itself_brings_it_back() -> None:
    waiting = queue(pod("a"))
    waiting.set_aside(taken(waiting, 0), frozenset({"NodeAffinity"}), 0)
    waiting.put(PodInfo.of(pod("a")), 5)
    assert names(waiting, 5) == []
    waiting.put(PodInfo.of(pod("a", tolerations=[{"operator": "Exists"}])), 6)
    assert names(waiting, 6) == ["a"]


def test_pod_that_was_made_again_starts_afresh() -> None:
    waiting = queue(pod("a"))
    old = taken(waiting, 0)
    again = pod("a")
    again["metadata"]["uid"] = "another"
    waiting.put(PodInfo.of(again), 1)
    waiting.back_off(old, 1)
    fresh = taken(waiting, 1)
    assert (fresh.pod.uid, fresh.attempts) == ("another", 1)
    assert names(waiting, 100) == []


def test_what_happens_during_a_long_decision_is_not_missed() -> None:
    for change, expected in ((POD_ADDED, []), (NODE_ADDED, ["a"])):
        waiting = queue(pod("a"))
        queued = taken(waiting, 10)
        waiting.watch_over(queued)
        waiting.wake(change, 11)
        waiting.set_aside(queued, frozenset({"NodeResourcesFit"}), 12)
        assert names(waiting, 12) == []
        assert names(waiting, 20) == expected
