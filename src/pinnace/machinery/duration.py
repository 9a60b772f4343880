"""How long something took or has been, as `kubectl` writes it (`45s`, `3m20s`, `5h`, `2d4h`, `1y20d`), and as flags and
configuration files give it (`1m30s`, `250ms`).

The first is specified by https://pkg.go.dev/k8s.io/apimachinery/pkg/util/duration#HumanDuration, the second by
https://pkg.go.dev/time#ParseDuration and https://pkg.go.dev/time#Duration.String.
"""

from __future__ import annotations

import re
from datetime import datetime

from pinnace.machinery.meta import parse_time

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")


def parse_duration(text: str) -> float:
    """Seconds of a duration as Go writes it. Raises ValueError."""
    sign, unsigned = (-1.0, text[1:]) if text[:1] == "-" else (1.0, text.removeprefix("+"))
    if unsigned == "0":
        return 0.0
    parts = _PART.findall(unsigned)
    if not parts or "".join(number + unit for number, unit in parts) != unsigned:
        raise ValueError(f'"{text}" is not a duration such as 1m30s')
    return sign * sum(float(number) * _SECONDS[unit] for number, unit in parts)


def go_duration(seconds: float, digits: int = 9) -> str:
    """`1.5s`, `250ms`, `2m0s`, `1h0m5s`; cut to `digits` decimals of a second."""
    if seconds < 0:
        return "-" + go_duration(-seconds, digits)
    unit = 10 ** (9 - digits)
    nanoseconds = round(seconds * 1e9) // unit * unit
    if nanoseconds == 0:
        return "0s"
    for limit, scale, name in ((1_000, 1, "ns"), (1_000_000, 1_000, "µs"), (1_000_000_000, 1_000_000, "ms")):
        if nanoseconds < limit:
            return _decimal(nanoseconds, scale) + name
    hours, rest = divmod(nanoseconds, 3_600_000_000_000)
    minutes, rest = divmod(rest, 60_000_000_000)
    text = _decimal(rest, 1_000_000_000) + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(value: int, scale: int) -> str:
    whole, part = divmod(value, scale)
    if not part:
        return str(whole)
    return f"{whole}." + str(part).rjust(len(str(scale)) - 1, "0").rstrip("0")


def human_duration(seconds: float) -> str:
    """A span in two units at most, the second left out where it is zero or too fine to matter."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 0:
        return "0s"
    if whole < 120:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return _two(minutes, "m", rest, "s")
    if minutes < 180:
        return f"{minutes}m"
    hours = minutes // 60
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 24 * 8:
        return _two(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _two(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def _two(great: int, great_unit: str, small: int, small_unit: str) -> str:
    return f"{great}{great_unit}{small}{small_unit}" if small else f"{great}{great_unit}"


def since(timestamp: str | None, now: datetime) -> str:
    """The time from an API timestamp until `now`; `<unknown>` where there is none or it cannot be read."""
    if not timestamp:
        return "<unknown>"
    try:
        return human_duration((now - parse_time(timestamp)).total_seconds())
    except ValueError:
        return "<unknown>"
