"""Values that expressions work on, where Python has none of its own, and what every value can be asked.

JSON values are themselves. Timestamps and durations count nanoseconds, as protobuf's do; an opaque value is of a class
that names its CEL type. A failed evaluation is a `CelError`, which `&&`, `||` and the macros made of them absorb.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pinnace.machinery.cel.ast import UInt
from pinnace.machinery.cel.types import BOOL, BYTES, DOUBLE, DURATION, DYN, INT, NULL, STRING, TIMESTAMP, UINT, Type

INT_MIN, INT_MAX = -(1 << 63), (1 << 63) - 1
UINT_MAX = (1 << 64) - 1
SECOND = 1_000_000_000
_FIRST, _LAST = -62135596800 * SECOND, 253402300799 * SECOND + SECOND - 1  # years 1 to 9999
_LONGEST = 315576000000 * SECOND


class CelError(Exception):
    """An evaluation that failed, in cel-go's words."""


class BudgetExceeded(Exception):  # not a CelError: nothing absorbs it
    """An evaluation that ran for longer than it may."""


def no_such_overload() -> CelError:
    return CelError("no such overload")


def no_such_key(key: Any) -> CelError:
    return CelError(f"no such key: {show(key)}")


MOST_CHARACTERS = 30 << 20  # of a string that an expression makes: ten times what a request holds
MOST_ELEMENTS = 1_000_000  # of a list


def within(size: int, most: int = MOST_CHARACTERS) -> None:
    """Refuse to make what would fill the memory, before it is made."""
    if size > most:
        raise BudgetExceeded("operation cancelled: actual cost limit exceeded")


class Opaque:
    """A value of one of Kubernetes' own types."""

    cel_type: ClassVar[Type]


@dataclass(frozen=True, slots=True)
class Maybe:
    """`optional.of(value)`, or `optional.none()`."""

    present: bool
    value: Any = None


NONE = Maybe(False)


@dataclass(frozen=True, slots=True, order=True)
class Duration:
    nanoseconds: int

    @classmethod
    def make(cls, nanoseconds: int) -> Duration:
        if not -_LONGEST <= nanoseconds <= _LONGEST:
            raise CelError("duration out of range")
        return cls(nanoseconds)

    def __str__(self) -> str:
        seconds, rest = divmod(abs(self.nanoseconds), SECOND)
        fraction = f".{rest:09d}".rstrip("0") if rest else ""
        return f"{'-' if self.nanoseconds < 0 else ''}{seconds}{fraction}s"


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    nanoseconds: int  # since 1970, UTC

    @classmethod
    def make(cls, nanoseconds: int) -> Timestamp:
        if not _FIRST <= nanoseconds <= _LAST:
            raise CelError("timestamp overflow")
        return cls(nanoseconds)

    def __str__(self) -> str:
        seconds, rest = divmod(self.nanoseconds, SECOND)
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
        fraction = f".{rest:09d}".rstrip("0") if rest else ""
        return moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + fraction + "Z"

    def local(self, zone: str) -> datetime:
        """The moment, to the second, in a zone named as IANA does or by its offset (`-08:00`)."""
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=self.nanoseconds // SECOND)
        try:
            return moment.astimezone(_zone(zone))
        except OverflowError:
            raise CelError("timestamp overflow") from None


_OFFSET = re.compile(r"([+-]?)(\d\d):(\d\d)")


def _zone(name: str) -> timezone | ZoneInfo:
    if name in ("", "UTC"):
        return UTC
    if match := _OFFSET.fullmatch(name):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        if offset < timedelta(days=1):
            return timezone(-offset if match[1] == "-" else offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CelError(f"unknown time zone {name}") from None


_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def read_timestamp(text: str) -> Timestamp:
    """RFC 3339. Raises CelError."""
    match = _TIME.fullmatch(text)
    if match is None:
        raise CelError(f'cannot parse timestamp "{text}"')
    try:
        offset = _zone(match[8] if match[8] != "Z" else "")
        year, month, day, hour, minute, second = map(int, match.groups()[:6])
        moment = datetime(year, month, day, hour, minute, second, tzinfo=offset)
    except ValueError:
        raise CelError(f'cannot parse timestamp "{text}"') from None
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    seconds = since.days * 86400 + since.seconds
    return Timestamp.make(seconds * SECOND + int((match[7] or "0")[:9].ljust(9, "0")))


def read_date(text: str) -> Timestamp:
    """`2006-01-02`, as OpenAPI's format `date` has it."""
    return read_timestamp(f"{text}T00:00:00Z" if _DATE.fullmatch(text) else text)


_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND}
_DURATION = re.compile(r"[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)")
_PART = re.compile(r"(\d*)\.?(\d*)(ns|us|µs|μs|ms|s|m|h)")


def read_duration(text: str) -> Duration:
    """Go's form of a duration: `1h30m`, `-1.5s`. Raises CelError."""
    if not _DURATION.fullmatch(text):
        raise CelError(f'time: invalid duration "{text}"')
    total = 0
    for whole, fraction, unit in _PART.findall(text):
        size = _UNITS[unit]
        total += int(whole or 0) * size
        if fraction:
            total += int(fraction) * size // 10 ** len(fraction)
    return Duration.make(-total if text.startswith("-") else total)


_TYPES: dict[type, Type] = {
    bool: BOOL,
    int: INT,
    UInt: UINT,
    float: DOUBLE,
    str: STRING,
    bytes: BYTES,
    type(None): NULL,
    Timestamp: TIMESTAMP,
    Duration: DURATION,
    list: Type("list", params=(DYN,)),
    dict: Type("map", params=(DYN, DYN)),
    Maybe: Type("optional", params=(DYN,)),
    Type: Type("type"),
}


def type_of(value: Any) -> Type:
    """The type of a value; of a list or map without what it holds."""
    found = _TYPES.get(type(value))
    if found is not None:
        return found
    if isinstance(value, Opaque):
        return value.cel_type
    return _TYPES[dict] if isinstance(value, dict) else _TYPES[list] if isinstance(value, list) else DYN


def is_a(value: Any, wanted: Type) -> bool:
    """Whether a value may stand where `wanted` is asked for; elements are not looked at."""
    kind = wanted.kind
    if kind in ("dyn", "param"):
        return True
    given = type_of(value)
    if kind in ("object", "map"):
        return given.kind == "map"
    return given.kind == kind and (kind != "opaque" or given.name == wanted.name)


_NUMBERS = (int, float, UInt)


def equal(left: Any, right: Any) -> bool:
    """CEL's `==`: numbers by value whatever their types, everything else only with its own type."""
    first, second = type(left), type(right)
    if first is second and first in (int, str, bool, float):
        return bool(left == right)
    if first in _NUMBERS:
        return second in _NUMBERS and bool(left == right)
    if isinstance(left, dict):
        return (
            isinstance(right, dict)
            and len(left) == len(right)
            and all(key in right and equal(value, right[key]) for key, value in left.items())
        )
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(equal, left, right))
    if first is Maybe:
        return second is Maybe and left.present == right.present and equal(left.value, right.value)
    if isinstance(left, bool) or isinstance(right, bool):
        return False
    return first is second and bool(left == right)


def key_of(value: Any) -> Any:
    """A value as a key of a map: an integral double finds an int; True is not 1 there."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def show(value: Any) -> str:
    """A value as `string()` and messages print it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, float):
        return show_double(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value)


def show_double(value: float) -> str:
    """Go's `strconv.FormatFloat(value, 'g', -1, 64)`."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "-0" if str(value).startswith("-") else "0"
    scientific = _scientific(value)
    exponent = int(scientific.partition("e")[2])
    return repr(value).removesuffix(".0") if -5 < exponent < 6 else scientific


def _scientific(value: float) -> str:
    """The fewest digits that say which double it is: `1.5e+30`."""
    shortest = next(text for places in range(18) if float(text := f"{value:.{places}e}") == value)
    mantissa, _, power = shortest.partition("e")
    return f"{mantissa}e{'-' if int(power) < 0 else '+'}{abs(int(power)):02d}"
