"""Reading documents as Kubernetes' typed JSON decoders do: what is accepted, dropped, refused, and in what words.

Two readers stand behind `decode`. The first is compiled, one closure for each definition, and only says yes to a
document that needs no change at all, which is nearly every one; on anything else the second walks the document with
its path at hand, drops, converts, warns or refuses. The wording is that of Go's `encoding/json` and of
sigs.k8s.io/json.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pinnace.machinery.errors import ApiError
from pinnace.machinery.gotypes import NAMED
from pinnace.machinery.meta import GVK, Obj, format_micro_time, format_time, gvk_of
from pinnace.machinery.quantity import QuantityError, canonical
from pinnace.machinery.schema import Schema

Accept = Callable[[Any], bool]


class DecodeError(ApiError):
    """A document cannot be read as its kind; `cause` is the decoder's own message, without the sentence around it."""

    def __init__(self, gvk: GVK, cause: str) -> None:
        text = f'{gvk.kind} in version "{gvk.version}" cannot be handled as a {gvk.kind}: {cause}'
        super().__init__(400, "BadRequest", text)
        self.cause = cause


def decode(schema: Schema, obj: Any, strict: bool, gvk: GVK | None) -> tuple[Obj, list[str]]:
    """`Schema.decode`."""
    reader = _Reader()
    try:
        decoded = reader.read(schema, obj, "")
    except _WrongError as problem:
        raise DecodeError(gvk or _named(schema, obj), str(problem)) from None
    except RecursionError:
        raise DecodeError(gvk or _named(schema, obj), "exceeded max depth") from None
    if strict and reader.unknown:
        raise strict_error(gvk or _named(schema, obj), reader.unknown)
    return decoded, reader.unknown


def strict_error(gvk: GVK, messages: list[str]) -> DecodeError:
    """What strict field validation answers to unknown and duplicate fields."""
    return DecodeError(gvk, "strict decoding error: " + ", ".join(messages))


def _named(schema: Schema, obj: Any) -> GVK:
    if isinstance(obj, dict) and isinstance(obj.get("kind"), str) and isinstance(obj.get("apiVersion"), str):
        return gvk_of(obj)
    group_version = schema.name.split(".")[-2]
    return GVK("", group_version, schema.short_name)


# The compiled reader.


def accept(schema: Schema) -> Accept:
    """A function that says whether a document of `schema` can be taken as it is."""
    found: Accept | None = schema._accept
    if found is None:
        found = schema._accept = _compile(schema)
    return found


def _compile(schema: Schema) -> Accept:
    match schema.type:
        case "object":
            return _compile_object(schema)
        case "map":
            return _compile_map(schema)
        case "list":
            return _compile_list(schema)
        case "integer":
            return _is_int32 if schema.format == "int32" else _is_int64
    return _SCALARS[schema.type]


def _plain(schema: Schema) -> Any:
    """The Python type, for a scalar that needs no function to check it."""
    return {"string": str, "boolean": bool}.get(schema.type)


def _compile_object(schema: Schema) -> Accept:
    checks: dict[str, Any] = {}
    for name, child in schema.fields.items():
        checks[name] = _plain(child) or _late(checks, name, child, name in schema.required)
    find = checks.get

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return False
        for name, item in value.items():
            wanted = find(name)
            if wanted is type(item):
                continue
            if wanted is None or type(wanted) is type or not wanted(item):
                return False
        return True

    return check


def _late(checks: dict[str, Any], name: str, child: Schema, required: bool) -> Accept:
    """Compile a field's check when the field is first seen: most never are, and definitions may contain themselves."""

    def first(value: Any) -> bool:
        compiled = accept(child)
        if child.type in ("list", "map") and not required:
            compiled = _filled(compiled)
        checks[name] = compiled
        return compiled(value)

    return first


def _filled(inner: Accept) -> Accept:
    """An optional list or map that is empty is dropped, and so cannot be taken as it is."""
    return lambda value: bool(value) and inner(value)


def _compile_map(schema: Schema) -> Accept:
    assert schema.items is not None
    plain = _plain(schema.items)
    if plain:

        def check_plain(value: Any) -> bool:
            if type(value) is not dict:
                return False
            return all(type(item) is plain for item in value.values())

        return check_plain
    inner = schema.items

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return False
        each = accept(inner)
        return all(map(each, value.values()))

    return check


def _compile_list(schema: Schema) -> Accept:
    assert schema.items is not None
    plain = _plain(schema.items)
    if plain:

        def check_plain(value: Any) -> bool:
            if type(value) is not list:
                return False
            return all(type(item) is plain for item in value)

        return check_plain
    inner = schema.items

    def check(value: Any) -> bool:
        return type(value) is list and all(map(accept(inner), value))

    return check


def _is_int32(value: Any) -> bool:
    return type(value) is int and -0x80000000 <= value <= 0x7FFFFFFF


def _is_int64(value: Any) -> bool:
    return type(value) is int and -0x8000000000000000 <= value <= 0x7FFFFFFFFFFFFFFF


def _is_int_or_string(value: Any) -> bool:
    return type(value) is str or _is_int32(value)


def _is_canonical_quantity(value: Any) -> bool:
    try:
        return type(value) is str and canonical(value) == value
    except QuantityError:
        return False


_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


# Days every month has: what matches is a moment without asking a calendar.
_PLAIN_TIME = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{6})?Z", re.ASCII
)


def _is_canonical_time(value: Any) -> bool:
    if type(value) is not str or len(value) != 20:
        return False
    return bool(_PLAIN_TIME.fullmatch(value)) or _reads_the_same(_read_time, value)


def _is_canonical_micro_time(value: Any) -> bool:
    if type(value) is not str or len(value) != 27:
        return False
    return bool(_PLAIN_TIME.fullmatch(value)) or _reads_the_same(_read_micro_time, value)


def _reads_the_same(read: Callable[[Any], str], value: str) -> bool:
    try:
        return read(value) == value
    except _WrongError:
        return False


def _is_base64(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        binascii.a2b_base64(value, strict_mode=True)
    except ValueError:
        return False
    return True


_SCALARS: dict[str, Accept] = {
    "any": lambda value: value is not None,
    "boolean": lambda value: type(value) is bool,
    "byte": _is_base64,
    "int-or-string": _is_int_or_string,
    "micro-time": _is_canonical_micro_time,
    "number": lambda value: type(value) is float or type(value) is int,
    "quantity": _is_canonical_quantity,
    "string": lambda value: type(value) is str,
    "time": _is_canonical_time,
}


# The explaining reader.


class _WrongError(Exception):
    """A value that the decoder refuses; the text is the decoder's."""


class _Reader:
    """One walk over one document."""

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self._struct = ""  # the innermost Go struct, for messages
        self._stack: list[str] = []  # the fields that lead here, without indices

    def read(self, schema: Schema, value: Any, path: str) -> Any:
        """`value` as decoded; the caller deals with None."""
        if accept(schema)(value):
            return value  # what needs no change is shared, and not walked again
        match schema.type:
            case "object":
                return self._read_object(schema, value, path)
            case "map":
                return self._read_map(schema, value, path)
            case "list":
                return self._read_list(schema, value, path)
        return self._read_scalar(schema, value)

    def _read_object(self, schema: Schema, value: Any, path: str) -> Obj:
        if type(value) is not dict:
            raise self._wrong(schema, value)
        decoded: Obj = {}
        outer = self._struct
        for name, item in value.items():
            child = schema.fields.get(name)
            here = f"{path}.{name}" if path else name
            if child is None:
                self.unknown.append(f'unknown field "{here}"')
                continue
            if item is None:
                continue
            self._struct = schema.short_name
            self._stack.append(name)
            read = self.read(child, item, here)
            self._stack.pop()
            if read or type(read) not in (list, dict) or name in schema.required or child.type in ("object", "any"):
                decoded[name] = read
        self._struct = outer
        return decoded

    def _read_map(self, schema: Schema, value: Any, path: str) -> Obj:
        if type(value) is not dict:
            raise self._wrong(schema, value)
        assert schema.items is not None
        decoded: Obj = {}
        for name, item in value.items():
            read = _ZERO.get(schema.items.type) if item is None else self.read(schema.items, item, f"{path}.{name}")
            if read is not None:
                decoded[name] = read
        return decoded

    def _read_list(self, schema: Schema, value: Any, path: str) -> list[Any]:
        if type(value) is not list:
            raise self._wrong(schema, value)
        assert schema.items is not None
        decoded: list[Any] = []
        for index, item in enumerate(value):
            read = _zero(schema.items) if item is None else self.read(schema.items, item, f"{path}[{index}]")
            if read is not None or schema.items.type == "any":
                decoded.append(read)
        return decoded

    def _read_scalar(self, schema: Schema, value: Any) -> Any:
        match schema.type:
            case "quantity":
                return _read_quantity(value)
            case "time":
                return _read_time(value)
            case "micro-time":
                return _read_micro_time(value)
            case "byte" if type(value) is str:
                return _read_base64(value)
            case "int-or-string":
                raise _WrongError(f"json: cannot unmarshal {_json_kind(value, 'int32')} into Go value of type int32")
        raise self._wrong(schema, value)

    def _wrong(self, schema: Schema, value: Any) -> _WrongError:
        go_type = go_type_of(schema)
        kind = _json_kind(value, go_type)
        if not self._stack:
            return _WrongError(f"json: cannot unmarshal {kind} into Go value of type {go_type}")
        named = NAMED.get(f"{self._struct}.{self._stack[-1]}")
        if named:
            go_type = named if schema.type in ("list", "map") else named.removeprefix("[]")
        field = f"{self._struct}.{'.'.join(self._stack)}"
        return _WrongError(f"json: cannot unmarshal {kind} into Go struct field {field} of type {go_type}")


_ZERO: dict[str, Any] = {"string": "", "boolean": False, "integer": 0, "number": 0, "quantity": "0", "int-or-string": 0}


def _zero(schema: Schema) -> Any:
    """What a null in a list becomes: Go's zero value."""
    return {} if schema.type == "object" else _ZERO.get(schema.type)


def go_type_of(schema: Schema) -> str:
    """The name of the Go type that holds such a value, as error messages show it."""
    match schema.type:
        case "string":
            return "string"
        case "boolean":
            return "bool"
        case "integer":
            return schema.format or "int64"
        case "number":
            return "float64"
        case "byte":
            return "[]uint8"
        case "list" if schema.items:
            return f"[]{go_type_of(schema.items)}"
        case "map" if schema.items:
            return f"map[string]{go_type_of(schema.items)}"
    return ".".join(schema.name.split(".")[-2:]) or "interface {}"


def _json_kind(value: Any, go_type: str) -> str:
    """What Go's decoder calls a value it cannot store."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        # A number of the right kind but the wrong size or with a fraction is shown in full.
        return f"number {_number_text(value)}" if go_type in ("int32", "int64") else "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "array"
    return "object"


def _number_text(value: float) -> str:
    return str(value) if isinstance(value, int) or abs(value) < 1e21 else format(value, ".16g")


def _read_quantity(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _WrongError("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    try:
        return canonical(value.strip() if isinstance(value, str) else str(value))
    except QuantityError as problem:
        raise _WrongError(str(problem)) from None


_TIME_LAYOUT = "2006-01-02T15:04:05Z07:00"
_MICRO_LAYOUT = "2006-01-02T15:04:05.000000Z07:00"
_TIME_PARTS = (
    (re.compile(r"\d{4}", re.ASCII), "2006"),
    (re.compile("-"), "-"),
    (re.compile(r"\d\d", re.ASCII), "01"),
    (re.compile("-"), "-"),
    (re.compile(r"\d\d", re.ASCII), "02"),
    (re.compile("T"), "T"),
    (re.compile(r"\d\d", re.ASCII), "15"),
    (re.compile(":"), ":"),
    (re.compile(r"\d\d", re.ASCII), "04"),
    (re.compile(":"), ":"),
    (re.compile(r"\d\d", re.ASCII), "05"),
)
_MICROS = re.compile(r"\.\d{6}(?!\d)", re.ASCII)
_FRACTION = re.compile(r"(\.\d+)?", re.ASCII)
_ZONE = re.compile(r"Z|[+-]\d\d:\d\d", re.ASCII)


def _read_time(value: Any) -> str:
    return format_time(_parse_go_time(value, _TIME_LAYOUT))


def _read_micro_time(value: Any) -> str:
    return format_micro_time(_parse_go_time(value, _MICRO_LAYOUT))


def _parse_go_time(value: Any, layout: str) -> datetime:
    if type(value) is not str:
        raise _WrongError(f"json: cannot unmarshal {_json_kind(value, 'string')} into Go value of type string")
    match = _TIME.fullmatch(value)
    if match and (layout == _TIME_LAYOUT or _MICROS.match(value, 19)):
        # Kubernetes keeps no more than microseconds, and Python reads no more.
        text = value[:19] + (match[7] or "")[:7] + ("+00:00" if match[8] == "Z" else match[8])
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            what = _out_of_range(match)
            raise _WrongError(f'parsing time "{value}": {what} out of range') from None
    raise _WrongError(f'parsing time "{value}" as "{layout}": {_first_mismatch(value, layout)}')


def _out_of_range(match: re.Match[str]) -> str:
    limits = ((2, 12, "month"), (4, 23, "hour"), (5, 59, "minute"), (6, 59, "second"))
    for group, limit, word in limits:
        if int(match[group]) > limit or (word == "month" and not int(match[group])):
            return word
    return "day"


def _first_mismatch(value: str, layout: str) -> str:
    position = 0
    fraction = (_MICROS, ".000000") if layout == _MICRO_LAYOUT else (_FRACTION, "")
    for pattern, part in (*_TIME_PARTS, fraction, (_ZONE, "Z07:00")):
        match = pattern.match(value, position)
        if not match:
            return f'cannot parse "{value[position:]}" as "{part}"'
        position = match.end()
    return f'extra text: "{value[position:]}"' if position < len(value) else "cannot parse"


def _read_base64(value: str) -> str:
    """Base64 with line breaks is base64 too; anything else is refused with the offset that Go's decoder names."""
    joined = value.replace("\n", "").replace("\r", "")
    if _is_base64(joined):
        return joined
    raise _WrongError(f"illegal base64 data at input byte {_base64_offset(value)}")


def _base64_offset(value: str) -> int:
    alphabet = re.compile(r"[A-Za-z0-9+/]")
    filled = 0
    for offset, char in enumerate(value):
        if char in "\r\n":
            continue
        if alphabet.match(char):
            filled += 1
            continue
        if char == "=" and filled % 4 in (2, 3):
            rest = value[offset:].replace("\n", "").replace("\r", "")
            wanted = 4 - filled % 4
            if rest.startswith("=" * wanted):
                return offset + wanted  # text after the padding
            return len(value) if set(rest) <= {"="} else offset + 1
        return offset
    return len(value) - filled % 4
