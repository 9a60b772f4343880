"""Whether the devices that a claim was given are ready: some must be attached to the node first, which may fail.

Pure. A driver says of each device by conditions what has come of it; the devices' own lists name the conditions that
count. Specified by KEP-5007.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from pinnace.machinery.meta import Obj, get_in, name_of, parse_time

_KEYS = ("driver", "pool", "device", "shareID")


def _waiting(claim: Obj) -> Iterator[tuple[Obj, dict[str, Obj]]]:
    """The results that wait for conditions, with the conditions of their device by type."""
    known = {
        tuple(one.get(key) for key in _KEYS): {found["type"]: found for found in one.get("conditions") or ()}
        for one in get_in(claim, "status", "devices") or ()
    }
    for result in get_in(claim, "status", "allocation", "devices", "results") or ():
        if result.get("bindingConditions"):
            yield result, known.get(tuple(result.get(key) for key in _KEYS), {})


def must_wait(claim: Obj) -> bool:
    return any(True for _ in _waiting(claim))


def is_ready(claim: Obj) -> bool:
    return all(
        conditions.get(kind, {}).get("status") == "True"
        for result, conditions in _waiting(claim)
        for kind in result["bindingConditions"]
    )


def failure(claim: Obj) -> str:
    """What went wrong with a device; empty as long as nothing did."""
    for result, conditions in _waiting(claim):
        for kind in result.get("bindingFailureConditions") or ():
            found = conditions.get(kind, {})
            if found.get("status") == "True":
                reason, message = found.get("reason", ""), found.get("message", "")
                return f'claim {name_of(claim)} binding failed: reason={reason}, message="{message}"'
    return ""


def is_overdue(claim: Obj, patience: timedelta, now: datetime) -> bool:
    """Whether its devices should have been ready by now."""
    since = get_in(claim, "status", "allocation", "allocationTimestamp")
    return bool(since) and must_wait(claim) and not is_ready(claim) and parse_time(since) + patience < now
