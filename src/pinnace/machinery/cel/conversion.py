"""What JSON says in strings and plain numbers, made the values that a schema's types promise.

A field of format `date-time` is a string in the data and a timestamp in an expression; a `number` may be written
without a fraction and is a double all the same. Conversion happens where a field is selected,
and costs nothing elsewhere.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from pinnace.machinery.cel.types import Type
from pinnace.machinery.cel.values import CelError, read_date, read_duration

Convert = Callable[[Any], Any]


def converter(of: Type) -> Convert | None:
    """What turns data into values of a type; None where data are values already."""
    scalar = _SCALARS.get(of.kind)
    if scalar is not None:
        return scalar
    if of.kind not in ("list", "map") or not of.params:
        return None
    inner = converter(of.element)
    if inner is None:
        return None
    return _list(inner) if of.kind == "list" else _map(inner)


def _list(inner: Convert) -> Convert:
    return lambda value: [inner(each) for each in value] if isinstance(value, list) else value


def _map(inner: Convert) -> Convert:
    return lambda value: {key: inner(each) for key, each in value.items()} if isinstance(value, dict) else value


def _double(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _timestamp(value: Any) -> Any:
    return read_date(value) if isinstance(value, str) else value


def _duration(value: Any) -> Any:
    return read_duration(value) if isinstance(value, str) else value


def _bytes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise CelError(str(error)) from None


_SCALARS: dict[str, Convert] = {
    "bytes": _bytes,
    "double": _double,
    "duration": _duration,
    "timestamp": _timestamp,
}
