"""How Go prints durations and gRPC errors: people search for these texts, so they are printed the same way here.

Pure (https://pkg.go.dev/time#Duration.String, https://pkg.go.dev/google.golang.org/grpc/status).
"""

from __future__ import annotations

from pinnace.cri.api import CriError


def duration(seconds: float, digits: int = 9) -> str:
    """`1.5s`, `250ms`, `2m0s`, `1h0m5s`; cut to `digits` decimals of a second."""
    if seconds < 0:
        return "-" + duration(-seconds, digits)
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


def rpc_error(error: CriError) -> str:
    """`rpc error: code = NotFound desc = …`."""
    code = "".join(word.capitalize() for word in error.code.split("_"))
    return f"rpc error: code = {code} desc = {error.message}"


def aggregate(errors: list[str]) -> str:
    """Several errors as one: `[a, b]`, each once; a single one as it is."""
    distinct = list(dict.fromkeys(errors))
    return distinct[0] if len(distinct) == 1 else f"[{', '.join(distinct)}]"
