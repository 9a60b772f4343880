"""Spans of time as `kubectl` writes them and as flags give them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pinnace.machinery.duration import human_duration, parse_duration, since

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (125, "2m5s"),
        (10 * MINUTE + 5, "10m"),
        (179 * MINUTE, "179m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 5 * MINUTE, "3h5m"),
        (8 * HOUR + 5 * MINUTE, "8h"),
        (47 * HOUR, "47h"),
        (2 * DAY, "2d"),
        (2 * DAY + 4 * HOUR, "2d4h"),
        (8 * DAY + 4 * HOUR, "8d"),
        (729 * DAY, "729d"),
        (730 * DAY, "2y"),
        (750 * DAY, "2y20d"),
        (8 * 365 * DAY + DAY, "8y"),
    ],
)
def test_a_span_is_written_in_two_units_at_most(seconds: float, written: str) -> None:
    assert human_duration(seconds) == written


def test_a_missing_or_broken_timestamp_is_unknown() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert since(None, now) == "<unknown>"
    assert since("yesterday", now) == "<unknown>"
    assert since("2025-12-31T23:59:15Z", now) == "45s"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("15s", 15), ("1m30s", 90), ("1.5h", 5400), ("250ms", 0.25), ("-2m", -120), ("+1s", 1), (".5s", 0.5)],
)
def test_a_duration_is_read_as_go_reads_it(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "5d", "s", "1s 2s", "1m30", "--1s", "1,5s"])
def test_what_go_does_not_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 1m30s"):
        parse_duration(text)
