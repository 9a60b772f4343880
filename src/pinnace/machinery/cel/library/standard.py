"""The language's own functions: sizes, conversions, string tests.

https://github.com/google/cel-spec/blob/master/doc/langdef.md#list-of-standard-definitions.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from typing import Any

from pinnace.machinery.cel.ast import UInt
from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.library.regex import matches
from pinnace.machinery.cel.values import (
    INT_MAX,
    INT_MIN,
    SECOND,
    UINT_MAX,
    CelError,
    Duration,
    Timestamp,
    read_duration,
    read_timestamp,
    show,
)

function = Functions()

for _sized in ("string", "bytes", "list(T)", "map(K, V)"):
    function(f"size({_sized}): int", f"({_sized}).size(): int")(len)

function("(string).contains(string): bool")(lambda text, part: part in text)
function("(string).startsWith(string): bool")(str.startswith)
function("(string).endsWith(string): bool")(str.endswith)
function("(string).matches(string): bool", "matches(string, string): bool")(matches)
function("dyn(T): dyn")(lambda value: value)
for _same in ("bool", "bytes", "double", "int", "string", "uint", "timestamp", "duration"):
    function(f"{_same}({_same}): {_same}")(lambda value: value)

_INTEGER = re.compile(r"[+-]?\d+")


def _rounded(value: float, low: int, high: int) -> int:
    if math.isnan(value) or not low <= value < high + 1 or (low and value == low):  # as cel-go has it
        raise CelError("integer overflow" if low else "unsigned integer overflow")
    return math.trunc(value)


@function("int(uint): int", "int(double): int", "int(string): int", "int(timestamp): int", "int(duration): int")
def _int(value: Any) -> int:
    if isinstance(value, Timestamp):
        return value.nanoseconds // SECOND
    if isinstance(value, Duration):
        return value.nanoseconds
    if isinstance(value, float):
        return _rounded(value, INT_MIN, INT_MAX)
    if isinstance(value, str):
        if not _INTEGER.fullmatch(value):
            raise CelError(f'strconv.ParseInt: parsing "{value}": invalid syntax')
        if not INT_MIN <= int(value) <= INT_MAX:
            raise CelError(f'strconv.ParseInt: parsing "{value}": value out of range')
    elif value > INT_MAX:
        raise CelError("integer overflow")
    return int(value)


@function("uint(int): uint", "uint(double): uint", "uint(string): uint")
def _uint(value: Any) -> UInt:
    if isinstance(value, float):
        return UInt(_rounded(value, 0, UINT_MAX))
    if isinstance(value, str):
        if not value.isdigit():
            raise CelError(f'strconv.ParseUint: parsing "{value}": invalid syntax')
        if int(value) > UINT_MAX:
            raise CelError(f'strconv.ParseUint: parsing "{value}": value out of range')
    elif value < 0:
        raise CelError("unsigned integer overflow")
    return UInt(int(value))


@function("double(int): double", "double(uint): double", "double(string): double")
def _double(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        raise CelError(f'strconv.ParseFloat: parsing "{value}": invalid syntax') from None


@function(
    "string(bool): string",
    "string(int): string",
    "string(uint): string",
    "string(double): string",
    "string(timestamp): string",
    "string(duration): string",
)
def _string(value: Any) -> str:
    return show(value)


@function("string(bytes): string")
def _string_of_bytes(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None


_TRUTH = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}


@function("bool(string): bool")
def _bool(text: str) -> bool:
    if text not in _TRUTH:
        raise CelError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    return _TRUTH[text]


function("bytes(string): bytes")(str.encode)
function("timestamp(string): timestamp")(read_timestamp)
function("timestamp(int): timestamp")(lambda seconds: Timestamp.make(seconds * SECOND))
function("duration(string): duration")(read_duration)
function("duration(int): duration")(Duration.make)


@function("base64.encode(bytes): string")
def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


@function("base64.decode(string): bytes")
def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise CelError("illegal base64 data at input byte 0") from None


@function("jsonpatch.escapeKey(string): string", since=32)
def _escape_key(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


@function("cel.@mapInsert(map(K, V), K, V): map(K, V)", since=32)
def _insert(whole: dict[Any, Any], key: Any, value: Any) -> dict[Any, Any]:
    if key in whole:
        raise CelError(f"insert failed: key {show(key)} already exists")
    return {**whole, key: value}


@function("cel.@mapInsert(map(K, V), map(K, V)): map(K, V)", since=32)
def _insert_all(whole: dict[Any, Any], more: dict[Any, Any]) -> dict[Any, Any]:
    for key, value in more.items():
        whole = _insert(whole, key, value)
    return whole
