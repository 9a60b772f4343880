"""Cron schedules: what can be read, and when each is due, also where clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from pinnace.apis.batch.schedule import parse, schedule_error


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("* * * * *", "2026-01-01 00:00:00", "2026-01-01 00:01"),
        ("* * * * *", "2026-01-01 00:00:59", "2026-01-01 00:01"),
        ("*/15 * * * *", "2026-01-01 14:45:00", "2026-01-01 15:00"),
        ("5/20 * * * *", "2026-01-01 14:26:00", "2026-01-01 14:45"),
        ("20-35/15 * * * *", "2026-01-01 14:20:00", "2026-01-01 14:35"),
        ("1,3-4 0 * * *", "2026-01-01 00:01:00", "2026-01-01 00:03"),
        ("0 0 * * *", "2026-12-31 00:00:00", "2027-01-01 00:00"),
        ("0 12 * * MON-fri", "2026-01-02 12:00:00", "2026-01-05 12:00"),
        ("0 0 13 * 5", "2026-01-01 00:00:00", "2026-01-02 00:00"),  # the 13th or a Friday
        ("0 0 13 * *", "2026-01-01 00:00:00", "2026-01-13 00:00"),
        ("0 0 */2 * SUN", "2026-01-01 00:00:00", "2026-01-03 00:00"),  # a step is no star: either day will do
        ("0 0 31 feb,mar ?", "2026-01-01 00:00:00", "2026-03-31 00:00"),
        ("0 0 29 2 *", "2026-01-01 00:00:00", "2028-02-29 00:00"),
        ("0 0 30 2 *", "2026-01-01 00:00:00", None),
        ("@hourly", "2026-01-01 00:30:00", "2026-01-01 01:00"),
        ("@daily", "2026-01-01 00:00:00", "2026-01-02 00:00"),
        ("@weekly", "2026-01-01 00:00:00", "2026-01-04 00:00"),
        ("@monthly", "2026-01-01 00:00:00", "2026-02-01 00:00"),
        ("@yearly", "2026-01-01 00:00:00", "2027-01-01 00:00"),
        ("@every 1h30m", "2026-01-01 00:00:00", "2026-01-01 01:30"),
    ],
)
def test_when_a_schedule_is_due(schedule: str, after: str, expected: str | None) -> None:
    found = parse(schedule).after(datetime.fromisoformat(after).replace(tzinfo=UTC))
    assert (found and found.strftime("%Y-%m-%d %H:%M")) == expected


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        # Clocks go from 02:00 to 03:00: what lies between is not due that day.
        ("30 2 * * *", "2012-03-11T00:00:00-05:00", "2012-03-12T02:30:00-04:00"),
        ("0 * * * *", "2012-03-11T01:00:00-05:00", "2012-03-11T03:00:00-04:00"),
        ("0 3 * * *", "2012-03-11T00:00:00-05:00", "2012-03-11T03:00:00-04:00"),
        # Clocks go from 02:00 back to 01:00: what lies between is due twice.
        ("0 1 * * *", "2012-11-04T00:00:00-04:00", "2012-11-04T01:00:00-04:00"),
        ("0 1 * * *", "2012-11-04T01:00:00-04:00", "2012-11-04T01:00:00-05:00"),
        ("0 2 * * *", "2012-11-04T00:00:00-04:00", "2012-11-04T02:00:00-05:00"),
    ],
)
def test_when_clocks_are_changed(schedule: str, after: str, expected: str) -> None:
    found = parse(schedule).after(datetime.fromisoformat(after), ZoneInfo("America/New_York"))
    assert found == datetime.fromisoformat(expected)


def test_a_day_may_begin_at_one() -> None:
    """In São Paulo clocks went from 00:00 to 01:00 on 2018-11-04."""
    zone = ZoneInfo("America/Sao_Paulo")
    found = parse("30 1 4 11 *").after(datetime(2018, 11, 3, 12, tzinfo=UTC), zone)
    assert found == datetime(2018, 11, 4, 1, 30, tzinfo=zone)


@pytest.mark.parametrize(
    ("schedule", "error"),
    [
        ("* * * * *", ""),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("@never", "unrecognized descriptor: @never"),
        ("@every x", 'failed to parse duration @every x: time: invalid duration "x"'),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("5-3 * * * *", "beginning of range (5) beyond end of range (3): 5-3"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("*/1/2 * * * *", "too many slashes: */1/2"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("x * * * *", 'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax'),
    ],
)
def test_what_is_wrong_with_a_schedule(schedule: str, error: str) -> None:
    assert schedule_error(schedule) == error
