"""cel-go's extension for strings: places count characters.

https://github.com/google/cel-go/blob/master/ext/README.md#strings.
"""

from __future__ import annotations

import math
import re
from typing import Any

from pinnace.machinery.cel.functions import Functions
from pinnace.machinery.cel.types import Type
from pinnace.machinery.cel.values import CelError, Duration, Timestamp, show, type_of, within

function = Functions()


def _within(text: str, index: int) -> int:
    if not 0 <= index <= len(text):
        raise CelError(f"index out of range: {index}")
    return index


@function("(string).charAt(int): string")
def _char_at(text: str, index: int) -> str:
    return text[_within(text, index) : index + 1]


@function("(string).indexOf(string): int", "(string).indexOf(string, int): int")
def _index_of(text: str, part: str, start: int = 0) -> int:
    if not part:
        return start
    return text.find(part, _within(text, start))


@function("(string).lastIndexOf(string): int")
def _last_index_of(text: str, part: str) -> int:
    return text.rfind(part)


@function("(string).lastIndexOf(string, int): int")
def _last_index_before(text: str, part: str, last: int) -> int:
    if not part:
        return last
    return text.rfind(part, 0, _within(text, last) + len(part))


@function("(list(string)).join(): string", "(list(string)).join(string): string")
def _join(parts: list[str], between: str = "") -> str:
    within(sum(map(len, parts)) + len(between) * len(parts))
    return between.join(parts)


@function("(string).split(string): list(string)", "(string).split(string, int): list(string)")
def _split(text: str, by: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if limit == 1:
        return [text]
    if by:
        return text.split(by, limit - 1 if limit > 0 else -1)
    parts = list(text)
    return parts if limit < 0 or limit >= len(parts) else [*parts[: limit - 1], text[limit - 1 :]]


@function("(string).replace(string, string): string", "(string).replace(string, string, int): string")
def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    found = text.count(old)
    within(len(text) + (min(found, limit) if limit >= 0 else found) * len(new))
    return text.replace(old, new, limit)


@function("(string).substring(int): string")
def _substring_from(text: str, start: int) -> str:
    return text[_within(text, start) :]


@function("(string).substring(int, int): string")
def _substring(text: str, start: int, end: int) -> str:
    if start > end:
        raise CelError(f"invalid substring range. start: {start}, end: {end}")
    return text[_within(text, start) : _within(text, end)]


_UPPER = {ord(lower): lower.upper() for lower in "abcdefghijklmnopqrstuvwxyz"}
_LOWER = {ord(lower.upper()): lower for lower in "abcdefghijklmnopqrstuvwxyz"}
_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))

function("(string).lowerAscii(): string")(lambda text: text.translate(_LOWER))
function("(string).upperAscii(): string")(lambda text: text.translate(_UPPER))
function("(string).trim(): string")(lambda text: text.strip(_SPACE))
function("(string).reverse(): string", since=30)(lambda text: text[::-1])

_QUOTED = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
    '"': '\\"',
}


@function("strings.quote(string): string")
def _quote(text: str) -> str:
    return '"' + "".join(_QUOTED.get(letter, letter) for letter in text) + '"'


_CLAUSE = re.compile(r"%(?:\.(\d+))?(.)?", re.DOTALL)


@function("(string).format(list(dyn)): string")
def _format(text: str, args: list[Any]) -> str:
    used = 0

    def fill(match: re.Match[str]) -> str:
        nonlocal used
        precision, verb = match[1], match[2]
        if precision and int(precision) > 100:
            raise CelError("error while parsing precision: precision cannot be greater than 100")
        if verb == "%":
            return "%"
        if used >= len(args):
            raise CelError(f"index {used} out of range")
        value = args[used]
        used += 1
        return _clause(verb or "", int(precision) if precision else None, value)

    made = _CLAUSE.sub(fill, text)
    within(len(made))
    return made


def _clause(verb: str, precision: int | None, value: Any) -> str:
    kind = type_of(value).kind
    match verb:
        case "s":
            return _text(value)
        case "d":
            return _number(value, kind, "integers, unsigned integers, and doubles", str)
        case "f":
            digits = 6 if precision is None else precision
            return _double(value, f".{digits}f")
        case "e":
            digits = 6 if precision is None else precision
            return _double(value, f".{digits}e")
        case "b":
            return format(int(value), "b") if kind in ("int", "uint", "bool") else _refuse("%b", value)
        case "o":
            return format(value, "o") if kind in ("int", "uint") else _refuse("%o", value)
        case "x" | "X":
            text = _hexadecimal(value, kind)
            return text.upper() if verb == "X" else text
    raise CelError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')


def _refuse(verb: str, value: Any) -> str:
    raise CelError(f"error during formatting: {verb} clause cannot be used on {_type_name(type_of(value))}")


def _type_name(one: Type) -> str:
    return one.kind


def _number(value: Any, kind: str, _: str, shown: Any) -> str:
    if kind in ("int", "uint"):
        return str(shown(int(value)))
    if kind == "double":
        return show(value) if not math.isinf(value) else ("Infinity" if value > 0 else "-Infinity")
    return _refuse("%d", value)


def _double(value: Any, form: str) -> str:
    if type_of(value).kind not in ("double", "int", "uint"):
        return _refuse("%" + form[-1], value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return format(float(value), form)


def _hexadecimal(value: Any, kind: str) -> str:
    if kind in ("int", "uint"):
        return format(value, "x")
    if kind == "string":
        return str(value.encode().hex())
    if kind == "bytes":
        return str(value.hex())
    return _refuse("%x", value)


def _text(value: Any) -> str:
    """`%s` of anything."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{key}: {one}" for key, one in sorted((_text(k), _text(v)) for k, v in value.items()))
            + "}"
        )
    if isinstance(value, Type):
        return str(value).partition("(")[0]
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Timestamp | Duration):
        return str(value)
    return show(value)
