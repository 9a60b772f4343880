"""When a cron schedule is due: five fields, or a word like `@daily`, in a time zone.

The grammar is that of https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax; what
happens when clocks are put forward or back is that of https://pkg.go.dev/github.com/robfig/cron/v3: a time of day that
is skipped is not due on that day, one that comes twice is due twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple


class Field(NamedTuple):
    name: str
    low: int
    high: int


_FIELDS = (
    Field("minute", 0, 59),
    Field("hour", 0, 23),
    Field("day of month", 1, 31),
    Field("month", 1, 12),
    Field("day of week", 0, 6),
)
_MONTHS = {text: 1 + at // 3 for at in range(0, 36, 3) if (text := "janfebmaraprmayjunjulaugsepoctnovdec"[at : at + 3])}
_DAYS = {text: at // 3 for at in range(0, 21, 3) if (text := "sunmontuewedthufrisat"[at : at + 3])}
_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_YEARS = 5  # to look ahead before a schedule is taken as never due
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:[0-9]+\.?[0-9]*(?:ns|us|µs|ms|s|m|h))+")


class ScheduleError(ValueError):
    """A schedule that cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The values at which each field is due, or an interval."""

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    either_day: bool = False  # both kinds of day are given: one of them must fit
    every: int = 0  # seconds; the fields do not count then

    def after(self, moment: datetime, zone: tzinfo = UTC) -> datetime | None:
        """The first time later than `moment`, in UTC; None if there is none in the next years."""
        if self.every:
            return moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=self.every)
        limit = moment.astimezone(zone).year + _YEARS
        # Walking real time, not wall time: hours that are skipped are never met, and those that repeat are met twice.
        now = moment.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        while True:
            wall = now.astimezone(zone)
            if wall.year > limit:
                return None
            if wall.month not in self.months or not self._has_day(wall):
                now = _start_of_next_day(wall, zone)
            elif wall.hour not in self.hours:
                now += timedelta(minutes=60 - wall.minute)
            elif wall.minute not in self.minutes:
                now += timedelta(minutes=1)
            else:
                return now

    def _has_day(self, wall: datetime) -> bool:
        in_month, in_week = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        return in_month or in_week if self.either_day else in_month and in_week


def _start_of_next_day(wall: datetime, zone: tzinfo) -> datetime:
    """Its first minute that there is: clocks may be put forward at midnight."""
    tomorrow = (wall.replace(tzinfo=None, fold=0) + timedelta(days=1)).replace(hour=0, minute=0)
    start = tomorrow.replace(tzinfo=zone).astimezone(UTC)
    while start.astimezone(zone).date() < tomorrow.date():
        start += timedelta(minutes=1)
    return start


def parse(schedule: str) -> Schedule:
    """Read a schedule; raises ScheduleError in the words of Kubernetes."""
    if schedule.startswith("@every "):
        return Schedule(every=max(1, int(_seconds(schedule))))
    if schedule.startswith("@"):
        if schedule not in _WORDS:
            raise ScheduleError(f"unrecognized descriptor: {schedule}")
        schedule = _WORDS[schedule]
    texts = schedule.split()
    if len(texts) != len(_FIELDS):
        raise ScheduleError(f"expected exactly 5 fields, found {len(texts)}: [{' '.join(texts)}]")
    values = [_values(text, field) for text, field in zip(texts, _FIELDS, strict=True)]
    minutes, hours, days, months, weekdays = (frozenset(one) for one, _ in values)
    return Schedule(minutes, hours, days, months, weekdays, either_day=not (values[2][1] or values[4][1]))


def schedule_error(schedule: str) -> str:
    """What is wrong with a schedule, or the empty string."""
    try:
        parse(schedule)
    except ScheduleError as error:
        return str(error)
    return ""


def _seconds(schedule: str) -> float:
    text = schedule.removeprefix("@every ")
    if not _DURATION.fullmatch(text):
        why = f'time: invalid duration "{text}"'
        raise ScheduleError(f"failed to parse duration {schedule}: {why}")
    parts = re.findall(r"([0-9.]+)(ns|us|µs|ms|s|m|h)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def _values(text: str, field: Field) -> tuple[set[int], bool]:
    """The values that a field lists, and whether it says `*`: all of them, without a step."""
    found: set[int] = set()
    everything = False
    for part in text.split(","):
        numbers, star = _part(part, field)
        found |= numbers
        everything = everything or star
    return found, everything


def _part(part: str, field: Field) -> tuple[set[int], bool]:
    span, slash, step = part.partition("/")
    if "/" in step:
        raise ScheduleError(f"too many slashes: {part}")
    ends = span.split("-")
    if len(ends) > 2:
        raise ScheduleError(f"too many hyphens: {part}")
    star = ends[0] in ("*", "?")
    words = _MONTHS if field.name == "month" else _DAYS if field.name == "day of week" else {}
    first, last = (field.low, field.high) if star else (_number(ends[0], words), _number(ends[-1], words))
    width = _number(step, {}) if slash else 1
    if slash and len(ends) == 1:
        last = field.high  # `5/10` goes on to the end
    if first < field.low:
        raise ScheduleError(f"beginning of range ({first}) below minimum ({field.low}): {part}")
    if last > field.high:
        raise ScheduleError(f"end of range ({last}) above maximum ({field.high}): {part}")
    if first > last:
        raise ScheduleError(f"beginning of range ({first}) beyond end of range ({last}): {part}")
    if width == 0:
        raise ScheduleError(f"step of range should be a positive number: {part}")
    return set(range(first, last + 1, width)), star and width == 1


def _number(text: str, words: dict[str, int]) -> int:
    if text.lower() in words:
        return words[text.lower()]
    if not (text.isascii() and text.isdigit()):
        raise ScheduleError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    return int(text)
