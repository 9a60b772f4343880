"""How long what failed waits."""

from __future__ import annotations

from pinnace.kubelet.sync.backoff import Backoff


def test_backoff_doubles_and_is_forgotten():
    now = [0.0]
    backoff = Backoff(lambda: now[0])
    assert backoff.remaining("k", 0.0) == 0.0
    waits = []
    for _ in range(7):
        backoff.next("k", now[0])
        waits.append(backoff.get("k"))
        assert backoff.remaining("k", now[0]) == waits[-1]
        now[0] += waits[-1]
    assert waits == [10, 20, 40, 80, 160, 300, 300]
    now[0] += 601
    assert backoff.remaining("k", now[0]) == 0.0
    backoff.next("k", now[0])
    assert backoff.get("k") == 10
