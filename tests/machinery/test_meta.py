"""Times as the API writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.machinery.meta import format_micro_time, format_time, parse_time


@pytest.mark.parametrize(
    ("moment", "seconds", "micros"),
    [
        (datetime(2026, 11, 21, 7, 0, 0, 5, UTC), "2026-11-21T07:00:00Z", "2026-11-21T07:00:00.000005Z"),
        (datetime(1, 1, 1, 0, 0, 2, tzinfo=UTC), "0001-01-01T00:00:02Z", "0001-01-01T00:00:02.000000Z"),
        (
            datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))),
            "2025-12-31T23:00:00Z",
            "2025-12-31T23:00:00.000000Z",
        ),
    ],
)
def test_a_moment_is_written_in_utc(moment: datetime, seconds: str, micros: str) -> None:
    assert (format_time(moment), format_micro_time(moment)) == (seconds, micros)


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_is_written_is_read_as_it_was(moment: datetime) -> None:
    assert parse_time(format_micro_time(moment)) == moment
    assert parse_time(format_time(moment)) == moment.replace(microsecond=0)
