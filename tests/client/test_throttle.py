"""How often a client may ask."""

from __future__ import annotations

from pinnace.client.throttle import Throttle


def test_a_burst_goes_at_once_and_the_rest_in_turn() -> None:
    now = 100.0
    throttle = Throttle(10, 3, lambda: now)
    assert [round(throttle.reserve(), 6) for _ in range(6)] == [0, 0, 0, 0.1, 0.2, 0.3]

    now = 100.35  # the last turn has come
    assert round(throttle.reserve(), 6) == 0.05
    now = 200.0  # and all have rested
    assert [throttle.reserve() for _ in range(3)] == [0, 0, 0]
    assert round(throttle.reserve(), 6) == 0.1
