"""Order, fairness and bookkeeping of a priority level's queues, on a clock of the test's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.apiserver.flowcontrol.queueset import (
    CONCURRENCY_LIMIT,
    QUEUE_FULL,
    QueueSet,
    Ticket,
    deal,
    hash_flow,
)


class Level:
    """A queue set, its clock, and what has had its turn."""

    def __init__(self, limit: int, queues: int = 0, hand_size: int = 0, length: int = 0) -> None:
        self.now = 0.0
        self.set = QueueSet(limit, self.now, queues, hand_size, length)
        self.begun: list[str] = []

    def ask(self, name: str, hand: tuple[int, ...] = (), **more: int | float) -> tuple[Ticket, str]:
        ticket = Ticket(lambda: self.begun.append(name), schema=name, **more)  # type: ignore[arg-type]
        why = self.set.arrive(ticket, hand, self.now)
        return ticket, why

    def finish(self, ticket: Ticket, after: float = 0.0) -> None:
        self.now += after
        self.set.finish(ticket, self.now)


def test_a_level_without_queues_refuses_what_has_no_seat() -> None:
    level = Level(1)
    first, why = level.ask("a")

    assert (first.executing, why) == (True, "")
    assert level.ask("b")[1] == CONCURRENCY_LIMIT

    level.finish(first)
    assert level.ask("c")[1] == ""


def test_waiting_requests_of_one_queue_are_served_in_their_order() -> None:
    level = Level(1, 1, 1, 10)
    tickets = [level.ask(name, (0,))[0] for name in "abcd"]

    for ticket in tickets:
        level.finish(ticket, 0.01)

    assert level.begun == ["b", "c", "d"]  # the first began at once
    assert level.set.is_idle


def test_a_queue_takes_as_many_as_its_length_says() -> None:
    level = Level(1, 1, 1, 2)

    assert [level.ask(name, (0,))[1] for name in "abcd"] == ["", "", "", QUEUE_FULL]


def test_a_queue_of_length_zero_is_no_queue_at_all() -> None:
    level = Level(1, 1, 1, 0)

    assert [level.ask(name, (0,))[1] for name in "ab"] == ["", QUEUE_FULL]
    assert level.set.waiting == 0


def test_a_request_goes_to_the_emptiest_queue_of_its_hand() -> None:
    level = Level(1, 3, 2, 10)
    level.ask("a", (0,))
    level.ask("b", (1,))

    ticket, _ = level.ask("c", (0, 2))

    assert ticket.queue is level.set.queues[2]


def test_a_flood_in_one_queue_does_not_delay_another() -> None:
    level = Level(1, 2, 1, 1000)
    flood = [level.ask("elephant", (0,))[0] for _ in range(500)]
    mouse, _ = level.ask("mouse", (1,))

    level.finish(flood[0], 0.003)

    assert level.begun == ["mouse"]
    assert mouse.executing


def test_two_busy_queues_share_the_seats_evenly() -> None:
    level = Level(2, 2, 1, 1000)
    tickets = {"a": [], "b": []}  # type: dict[str, list[Ticket]]
    for _ in range(200):
        tickets["a"].append(level.ask("a", (0,))[0])
    for _ in range(100):
        tickets["b"].append(level.ask("b", (1,))[0])
    everybody = tickets["a"] + tickets["b"]
    for _ in range(100):
        level.now += 0.01
        for ticket in [each for each in everybody if each.executing]:
            level.set.finish(ticket, level.now)

    served = Counter(level.begun[:100])
    assert abs(served["a"] - served["b"]) <= 4


def test_wide_requests_take_as_much_of_the_level_as_narrow_ones_together() -> None:
    level = Level(4, 2, 1, 1000)
    wide = [level.ask("wide", (0,), seats=4)[0] for _ in range(100)]
    narrow = [level.ask("narrow", (1,))[0] for _ in range(400)]
    for _ in range(80):
        level.now += 0.01
        for ticket in [each for each in wide + narrow if each.executing]:
            level.set.finish(ticket, level.now)

    served = Counter(level.begun)
    assert served["narrow"] == pytest.approx(4 * served["wide"], rel=0.2)


def test_a_request_wider_than_its_level_goes_alone() -> None:
    level = Level(2, 1, 1, 10)
    first, _ = level.ask("a", (0,))
    giant, _ = level.ask("giant", (0,), seats=5)
    small, _ = level.ask("small", (0,))

    assert (giant.executing, small.executing) == (False, False)
    level.finish(first)
    assert (giant.executing, small.executing) == (True, False)
    level.finish(giant)
    assert small.executing


def test_seats_for_watchers_are_held_after_the_request() -> None:
    level = Level(5, 1, 1, 10)

    ticket, _ = level.ask("write", (0,), final_seats=3, extra=0.005)

    assert level.set.seats == ticket.width == 3


def test_one_that_leaves_the_queue_makes_room_and_is_never_served() -> None:
    level = Level(1, 1, 1, 2)
    running, _ = level.ask("a", (0,))
    gone, _ = level.ask("gone", (0,))
    level.ask("b", (0,))

    level.set.withdraw(gone, level.now)
    level.set.withdraw(gone, level.now)
    assert level.ask("c", (0,))[1] == ""
    level.finish(running)

    assert level.begun == ["b"]


def test_a_greater_limit_serves_who_waits() -> None:
    level = Level(1, 1, 1, 10)
    for name in "abc":
        level.ask(name, (0,))

    level.set.set_limit(3, level.now)

    assert level.begun == ["b", "c"]


def test_a_hand_has_different_queues_and_is_the_flows_own() -> None:
    hands = [deal(hash_flow("schema", f"user-{number}"), 128, 6) for number in range(200)]

    assert all(len(set(hand)) == 6 and max(hand) < 128 for hand in hands)
    assert len({frozenset(hand) for hand in hands}) == 200
    assert deal(hash_flow("schema", "user-1"), 128, 6) == hands[1]
    assert deal(7, 2, 6) in ((0, 1), (1, 0))


Step = tuple[str, int, int, float]
steps = st.lists(
    st.tuples(
        st.sampled_from(["arrive", "arrive", "finish", "withdraw", "limit"]),
        st.integers(0, 30),
        st.integers(1, 4),
        st.floats(0, 0.1),
    ),
    max_size=80,
)


@given(steps, st.integers(1, 6), st.sampled_from([(0, 0, 0), (1, 1, 3), (4, 2, 2), (8, 3, 5)]))
def test_no_request_is_lost_and_seats_stay_within_the_limit(
    script: list[Step], limit: int, shape: tuple[int, int, int]
) -> None:
    """Every request is refused, withdrawn or served, and exactly one of them, once."""
    level = Level(limit, *shape)
    outcome: Counter[int] = Counter()
    waiting: dict[int, Ticket] = {}
    executing: dict[int, Ticket] = {}

    def turn(number: int) -> Callable[[], None]:
        def begin() -> None:
            outcome[number] += 1
            executing[number] = waiting.pop(number)

        return begin

    for number, (what, which, seats, elapsed) in enumerate(script):
        level.now += elapsed
        if what == "arrive":
            ticket = Ticket(turn(number), seats)
            waiting[number] = ticket
            why = level.set.arrive(ticket, level.set.hand(which), level.now)
            if why:
                outcome[number] += 1
                del waiting[number]
            elif ticket.executing and number in waiting:
                turn(number)()
        elif what == "finish" and executing:
            level.set.finish(executing.pop(sorted(executing)[which % len(executing)]), level.now)
        elif what == "withdraw" and waiting:
            key = sorted(waiting)[which % len(waiting)]
            outcome[key] += 1
            level.set.withdraw(waiting.pop(key), level.now)
        elif what == "limit":
            level.set.set_limit(max(level.set.limit, seats), level.now)
        held = sum(ticket.width for ticket in executing.values())
        assert level.set.seats == held
        assert held <= level.set.limit or len(executing) == 1
        assert (level.set.waiting, level.set.executing) == (len(waiting), len(executing))
    while executing or waiting:
        assert executing, "somebody waits although every seat is free"
        level.set.finish(executing.pop(min(executing)), level.now)
    assert set(outcome.values()) <= {1}
    assert level.set.is_idle
    assert level.set.seats == 0
