"""Parts of timestamps and durations: `getFullYear`, `getHours`, … in UTC or a zone that is named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.values import SECOND, Duration, Timestamp

function = Functions()


def _part(name: str, read: Callable[[datetime], int]) -> None:
    function(f"(timestamp).{name}(): int")(lambda moment: read(moment.local("")))
    function(f"(timestamp).{name}(string): int")(lambda moment, zone: read(moment.local(zone)))


_part("getFullYear", lambda moment: moment.year)
_part("getMonth", lambda moment: moment.month - 1)
_part("getDate", lambda moment: moment.day)
_part("getDayOfMonth", lambda moment: moment.day - 1)
_part("getDayOfWeek", lambda moment: moment.isoweekday() % 7)
_part("getDayOfYear", lambda moment: moment.timetuple().tm_yday - 1)
_part("getHours", lambda moment: moment.hour)
_part("getMinutes", lambda moment: moment.minute)
_part("getSeconds", lambda moment: moment.second)


@function("(timestamp).getMilliseconds(): int", "(timestamp).getMilliseconds(string): int")
def _milliseconds(moment: Timestamp, zone: str = "") -> int:
    moment.local(zone)
    return moment.nanoseconds % SECOND // 10**6


def _whole(value: Duration, unit: int) -> int:
    count = abs(value.nanoseconds) // unit
    return -count if value.nanoseconds < 0 else count


function("(duration).getHours(): int")(lambda value: _whole(value, 3600 * SECOND))
function("(duration).getMinutes(): int")(lambda value: _whole(value, 60 * SECOND))
function("(duration).getSeconds(): int")(lambda value: _whole(value, SECOND))
function("(duration).getMilliseconds(): int")(
    lambda value: (abs(value.nanoseconds) % SECOND // 10**6) * (-1 if value.nanoseconds < 0 else 1)
)
