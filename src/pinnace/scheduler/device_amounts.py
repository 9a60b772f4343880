"""How much of a device a request takes: capacity that several requests share, and counters that several devices share.

Pure arithmetic. Specified by KEP-5075 (consumable capacity) and KEP-4815 (partitionable devices), and by the API
reference of ResourceSlice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal

from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity

Amounts = dict[str, Quantity]
"""How much, by the name of a capacity or counter."""
CounterSetId = tuple[str, str, str]
"""Driver, pool and name of a set of counters."""
Counters = dict[CounterSetId, Amounts]

ZERO = Quantity(0)


def full_name(name: str, driver: str) -> str:
    """The name of an attribute or capacity with its domain, which is the driver's where none is given."""
    return name if "/" in name else f"{driver}/{name}"


# Capacity.


def consumption(requests: Mapping[str, str], capacity: Mapping[str, Obj], driver: str) -> Amounts | None:
    """What one allocation takes of each capacity of a device that may be allocated several times; None where the
    device's policies, or what it has, do not allow for it."""
    asked = {full_name(name, driver): Quantity.parse(text) for name, text in requests.items()}
    if not asked.keys() <= {full_name(name, driver) for name in capacity}:
        return None
    found: Amounts = {}
    for name, entry in capacity.items():
        whole = Quantity.parse(entry["value"])
        amount = _granted(asked.get(full_name(name, driver)), whole, entry.get("requestPolicy") or {})
        if amount is None or amount > whole:
            return None
        found[name] = amount
    return found


def suffices(requests: Mapping[str, str], capacity: Mapping[str, Obj], driver: str) -> bool:
    """Whether a device that is allocated as a whole has what is asked for."""
    there = {full_name(name, driver): Quantity.parse(entry["value"]) for name, entry in capacity.items()}
    return all(
        full_name(name, driver) in there and Quantity.parse(text) <= there[full_name(name, driver)]
        for name, text in requests.items()
    )


def _granted(asked: Quantity | None, whole: Quantity, policy: Obj) -> Quantity | None:
    """What a request for one capacity gets: at least what it asks for, and an amount that the policy knows."""
    if asked is None:
        return Quantity.parse(policy["default"]) if policy.get("default") is not None else whole
    if policy.get("validValues"):
        known = (Quantity.parse(text) for text in policy["validValues"])
        return min((value for value in known if value >= asked), default=None)
    if policy.get("validRange"):
        return _within(asked, policy["validRange"])
    return asked


def _within(asked: Quantity, limits: Obj) -> Quantity | None:
    least = Quantity.parse(limits.get("min", "0"))
    amount = max(asked, least)
    if limits.get("step") is not None:
        step = Quantity.parse(limits["step"])
        steps = math.ceil(Decimal(amount.amount - least.amount) / step.amount) if step else 0
        amount = least + step * steps
    if limits.get("max") is not None and amount > Quantity.parse(limits["max"]):
        return None
    return amount


def total(amounts: Iterable[Mapping[str, Quantity]]) -> Amounts:
    found: Amounts = {}
    for one in amounts:
        for name, amount in one.items():
            found[name] = found.get(name, ZERO) + amount
    return found


def fits(wanted: Mapping[str, Quantity], used: Mapping[str, Quantity], capacity: Mapping[str, Obj]) -> bool:
    """Whether there is so much left of every capacity."""
    return all(
        used.get(name, ZERO) + amount <= Quantity.parse(capacity[name]["value"]) for name, amount in wanted.items()
    )


# Counters.


def counters_of(listed: Iterable[Obj]) -> dict[str, Amounts]:
    """The counters of `sharedCounters` by the name of their set."""
    return {one["name"]: _values(one) for one in listed}


def needs_of(listed: Iterable[Obj], driver: str, pool: str) -> Counters:
    """What `consumesCounters` of a device takes while it is allocated."""
    return {(driver, pool, one["counterSet"]): _values(one) for one in listed}


def _values(one: Obj) -> Amounts:
    return {name: Quantity.parse(counter["value"]) for name, counter in (one.get("counters") or {}).items()}


def take(counters: Counters, needs: Counters) -> Counters:
    """What is left of the counters after that; sets that nobody publishes have nothing."""
    left = dict(counters)
    for which, amounts in needs.items():
        known = left.get(which, {})
        left[which] = {**known, **{name: known.get(name, ZERO) - amount for name, amount in amounts.items()}}
    return left


def can_take(counters: Counters, needs: Counters) -> bool:
    return all(
        amount <= counters.get(which, {}).get(name, ZERO)
        for which, amounts in needs.items()
        for name, amount in amounts.items()
    )
