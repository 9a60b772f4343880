"""Results of probes in a row."""

from __future__ import annotations

from pinnace.kubelet.probes.manager import Tally


def test_tally_counts_results_in_a_row():
    tally = Tally({"failureThreshold": 3, "successThreshold": 2})
    assert [tally.add(ok) for ok in (False, False, True, False, False, False, True, True)] == [
        None, None, None, None, None, False, None, True,
    ]  # fmt: skip
