"""Small checks that the rules of many kinds are made of; each gives the errors it finds, none for a good value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from pinnace.machinery import names
from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value, not_supported, required
from pinnace.machinery.quantity import Quantity, QuantityError

NOT_NEGATIVE = "must be greater than or equal to 0"
POSITIVE = "must be greater than 0"
IMMUTABLE = "field is immutable"
MAX_INT32 = 2**31 - 1


def every(field: str, value: Any, messages: list[str]) -> list[Cause]:
    """One error for each message about the same value."""
    return [invalid_value(field, value, message) for message in messages] if messages else []


def not_negative(field: str, value: Any) -> list[Cause]:
    """For an optional number: absent is good."""
    return [invalid_value(field, value, NOT_NEGATIVE)] if value is not None and value < 0 else []


def one_of(field: str, value: Any, options: Iterable[str]) -> list[Cause]:
    """For a word that must be there and be one of `options`."""
    if value in options:
        return []
    return [not_supported(field, value, options)] if value else [required(field)]


def optional_one_of(field: str, value: Any, options: Iterable[str]) -> list[Cause]:
    return [] if value is None or value in options else [not_supported(field, value, options)]


def needed(field: str, value: Any, detail: str = "") -> list[Cause]:
    return [] if value else [required(field, detail)]


def unchanged(field: str, new: Any, old: Any) -> list[Cause]:
    """An immutable field; what is absent equals what is empty."""
    return [] if (new or None) == (old or None) else [invalid_value(field, new, IMMUTABLE)]


def unique(field: str, values: Iterable[Any]) -> list[Cause]:
    """Every value after the first that is equal, at its own index."""
    errors, seen = [], set()
    for index, value in enumerate(values):
        if value in seen:
            errors.append(duplicate(f"{field}[{index}]", value))
        seen.add(value)
    return errors


@lru_cache(maxsize=4096)
def good_key(key: str) -> bool:
    """Whether a label key, resource name or the like is well formed; the same few recur in every object."""
    return not names.is_qualified_name(key)


def exactly_one(path: str, obj: Mapping[str, Any], sources: Iterable[str], missing: str, more: str) -> list[Cause]:
    """`missing` if none of `sources` is set; `more` at every one after the first."""
    present = [source for source in sources if obj.get(source) is not None]
    if not present:
        return [required(path, missing)]
    return [field_forbidden(f"{path}.{source}", more) for source in present[1:]]


@lru_cache(maxsize=4096)
def amount(text: str | int | float) -> Quantity | None:
    """A quantity, or None for what is none."""
    try:
        return Quantity.parse(text)
    except QuantityError:
        return None


def quantity_not_negative(field: str, text: Any) -> list[Cause]:
    quantity = amount(text)
    if quantity is None or quantity.amount >= 0:
        return []  # what is no quantity was refused when it was decoded
    return [invalid_value(field, str(quantity), NOT_NEGATIVE)]


def int_or_percent(field: str, value: Any) -> list[Cause]:
    """A count of 0 or more, or a text like `25%`."""
    if isinstance(value, str):
        return every(field, value, names.is_percent(value))
    return not_negative(field, value)


def percent_at_most_100(field: str, value: Any) -> list[Cause]:
    if isinstance(value, str) and not names.is_percent(value) and int(value[:-1]) > 100:
        return [invalid_value(field, value, "must not be greater than 100%")]
    return []


def int_or_none(value: Any) -> int | None:
    """The number of an int-or-percent: `25%` is 25; None where it is neither."""
    if isinstance(value, str):
        return int(value[:-1]) if not names.is_percent(value) else None
    return int(value) if value is not None else None


def port_or_name(field: str, port: Any) -> list[Cause]:
    """A port number, or the name of one."""
    if isinstance(port, str):
        return every(field, port, names.is_port_name(port))
    return every(field, port or 0, names.is_port_number(port or 0))


def domain_prefixed_path(field: str, value: str) -> list[Cause]:
    """A name like `acme.io/foo`: a subdomain, and any path below it."""
    if not value:
        return [required(field)]
    domain, slash, rest = value.partition("/")
    if not slash or not rest:
        return [invalid_value(field, value, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    return every(field, domain, names.is_dns_subdomain(domain))
