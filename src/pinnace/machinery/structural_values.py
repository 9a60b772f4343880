"""Values of custom resources held against their schema, each broken rule in the words of kube-apiserver.

Schemas are read as the definition writes them, so the logical junctors (`allOf`, `anyOf`, `oneOf`, `not`) need no nodes
of their own. On updates, what has not changed may stay wrong: rules that came later do not lock up old objects
(https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-ratcheting).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import orjson

from pinnace.machinery.errors import (
    Cause,
    duplicate,
    invalid_value,
    not_supported,
    required,
    too_long,
    too_many,
    wrong_type,
)
from pinnace.machinery.meta import Obj
from pinnace.machinery.regexp import RegexpError, matches
from pinnace.machinery.structural import Structural
from pinnace.machinery.structural_formats import has_format

_ABSENT: Any = object()


def validate_values(raw: Obj, value: Any, path: str = "", old: Any = _ABSENT) -> list[Cause]:
    """What is wrong with a value; `old` is what stood in its place, whose unchanged parts are not judged again."""
    causes = list(_check(raw, value, path))
    if not causes or old is _ABSENT:
        return causes
    return list(_check_changed(raw, value, old, path))


def _check(raw: Obj, value: Any, path: str) -> Iterator[Cause]:
    yield from _own(raw, value, path)
    for child, item, where, _ in _children(raw, value, path):
        yield from _check(child, item, where)


def _check_changed(raw: Obj, value: Any, old: Any, path: str) -> Iterator[Cause]:
    """As `_check`, but silent where `value` says what `old` said."""
    if same(value, old):
        return
    yield from _own(raw, value, path)
    for child, item, where, key in _children(raw, value, path):
        before = _before(raw, item, key, old)
        yield from _check(child, item, where) if before is _ABSENT else _check_changed(child, item, before, where)


def same(value: Any, other: Any) -> bool:
    """Equality of JSON: 1 is not true, and the order of fields does not matter."""
    if type(value) is not type(other) or value != other:
        return False
    if not isinstance(value, dict | list):
        return True
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)


def _before(raw: Obj, item: Any, key: Any, old: Any) -> Any:
    """What stood where an item stands now: fields by name, items of map lists by their keys, others by nothing."""
    if isinstance(key, str):
        return old.get(key, _ABSENT) if isinstance(old, dict) else _ABSENT
    keys = raw.get("x-kubernetes-list-map-keys")
    if raw.get("x-kubernetes-list-type") != "map" or not keys or not isinstance(old, list):
        return _ABSENT
    wanted = _map_key(item, keys)
    return next((one for one in old if _map_key(one, keys) == wanted), _ABSENT)


def _children(raw: Obj, value: Any, path: str) -> Iterator[tuple[Obj, Any, str, Any]]:
    """The values within, each with its schema, its path and the name or index it is found by."""
    if isinstance(value, dict):
        properties = raw.get("properties") or {}
        more = raw.get("additionalProperties")
        for name, item in value.items():
            child = properties.get(name) if name in properties else more
            if isinstance(child, dict):
                yield child, item, f"{path}.{name}" if path else name, name
    elif isinstance(value, list) and isinstance(raw.get("items"), dict):
        for index, item in enumerate(value):
            yield raw["items"], item, f"{path}[{index}]", index


def _own(raw: Obj, value: Any, path: str) -> Iterator[Cause]:
    """The rules of one node about its own value."""
    if value is None:
        if raw.get("nullable"):
            return
        yield from _type_errors(raw, value, path)
        return
    yield from _type_errors(raw, value, path)
    if any(name in raw for name in _JUNCTORS):
        yield from _junctor_errors(raw, value, path)
    if isinstance(value, str):
        yield from _string_errors(raw, value, path)
    elif isinstance(value, list):
        yield from _list_errors(raw, value, path)
    elif isinstance(value, dict):
        yield from _object_errors(raw, value, path)
    elif not isinstance(value, bool):
        yield from _number_errors(raw, value, path)
    if raw.get("enum") and not any(same(value, option) for option in raw["enum"]):
        options = [option if isinstance(option, str) else orjson.dumps(option).decode() for option in raw["enum"]]
        yield not_supported(path, value, options)


# Types.


def _type_errors(raw: Obj, value: Any, path: str) -> Iterator[Cause]:
    wanted = (
        ["integer", "string"] if raw.get("x-kubernetes-int-or-string") else [raw["type"]] if raw.get("type") else []
    )
    found = type_name(value)
    if not wanted or found in wanted or ("number" in wanted and found == "integer"):
        return
    if "integer" in wanted and isinstance(value, float) and value.is_integer():
        return
    yield wrong_type(path, found, f'{path} in body must be of type {",".join(wanted)}: "{found}"')


def type_name(value: Any) -> str:
    """What JSON schema calls the type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, float):
        return "number"
    return {int: "integer", str: "string", list: "array", dict: "object"}[type(value)]


# Junctors.

_JUNCTORS = ("allOf", "anyOf", "oneOf", "not")


def _junctor_errors(raw: Obj, value: Any, path: str) -> Iterator[Cause]:
    def whole(why: str) -> Cause:
        return Cause("FieldValueInvalid", f'Invalid value: "": "{path}" {why}', "<nil>")

    if raw.get("anyOf"):
        tried = [list(_check(each, value, path)) for each in raw["anyOf"]]
        if all(tried):
            yield whole("must validate at least one schema (anyOf)")
            yield from min(tried, key=len)
    if raw.get("oneOf"):
        tried = [list(_check(each, value, path)) for each in raw["oneOf"]]
        fitting = sum(not causes for causes in tried)
        if fitting != 1:
            found = f"Found {fitting} valid alternatives" if fitting else "Found none valid"
            yield whole(f"must validate one and only one schema (oneOf). {found}")
            if not fitting:
                yield from min(tried, key=len)
    if raw.get("allOf"):
        tried = [list(_check(each, value, path)) for each in raw["allOf"]]
        if any(tried):
            none = "" if not all(tried) else ". None validated"
            yield whole(f"must validate all the schemas (allOf){none}")
            for causes in tried:
                yield from causes
    if raw.get("not") and not list(_check(raw["not"], value, path)):
        yield whole("must not validate the schema (not)")


# Strings, numbers, lists, objects.


def _string_errors(raw: Obj, value: str, path: str) -> Iterator[Cause]:
    longest, shortest = raw.get("maxLength"), raw.get("minLength")
    if longest is not None and len(value) > longest:
        yield too_long(path, longest)
    if shortest is not None and len(value) < shortest:
        yield invalid_value(path, value, f"{path} in body should be at least {shortest} chars long")
    if raw.get("pattern") and not _matches(raw["pattern"], value):
        yield invalid_value(path, value, f"{path} in body should match '{raw['pattern']}'")
    if raw.get("format") and not has_format(raw["format"], value):
        yield wrong_type(path, value, f'{path} in body must be of type {raw["format"]}: "{value}"')


def _matches(pattern: str, value: str) -> bool:
    try:
        return matches(pattern, value)
    except RegexpError:
        return False


def _number_errors(raw: Obj, value: float, path: str) -> Iterator[Cause]:
    factor, most, least = raw.get("multipleOf"), raw.get("maximum"), raw.get("minimum")
    if factor and Decimal(str(value)) % Decimal(str(factor)):
        yield invalid_value(path, value, f"{path} in body should be a multiple of {go_float(factor)}")
    if most is not None and (value >= most if raw.get("exclusiveMaximum") else value > most):
        than = "less than" if raw.get("exclusiveMaximum") else "less than or equal to"
        yield invalid_value(path, value, f"{path} in body should be {than} {go_float(most)}")
    if least is not None and (value <= least if raw.get("exclusiveMinimum") else value < least):
        than = "greater than" if raw.get("exclusiveMinimum") else "greater than or equal to"
        yield invalid_value(path, value, f"{path} in body should be {than} {go_float(least)}")


def go_float(number: float) -> str:
    """A float64 as Go's `%v` prints it: 5, 0.5, 1e+06."""
    value = Decimal(repr(float(number)))
    digits = "".join(map(str, value.as_tuple().digits)).rstrip("0") or "0"
    exponent = value.adjusted() if value else 0
    if -4 <= exponent < 6:
        return str(int(value)) if value == value.to_integral_value() else format(value, "f")
    sign, rest = "-" if value < 0 else "", f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{'+' if exponent >= 0 else '-'}{abs(exponent):02d}"


def _list_errors(raw: Obj, value: list[Any], path: str) -> Iterator[Cause]:
    least, most = raw.get("minItems"), raw.get("maxItems")
    if least is not None and len(value) < least:
        yield invalid_value(path, len(value), f"{path} in body should have at least {least} items")
    if most is not None and len(value) > most:
        yield too_many(path, len(value), most)
    if raw.get("uniqueItems") and len({_canonical(item) for item in value}) < len(value):
        yield invalid_value(path, value, f"{path} in body shouldn't contain duplicates")


def _object_errors(raw: Obj, value: Obj, path: str) -> Iterator[Cause]:
    least, most = raw.get("minProperties"), raw.get("maxProperties")
    if least is not None and len(value) < least:
        yield invalid_value(path, len(value), f"{path} in body should have at least {least} properties")
    if most is not None and len(value) > most:
        yield too_many(path, len(value), most)
    for name in raw.get("required") or ():
        if name not in value:
            yield required(f"{path}.{name}" if path else name)


# Sets and maps that are written as lists.


def list_type_errors(schema: Structural, value: Any, path: str = "") -> list[Cause]:
    """Items of sets and keys of map lists that are not unique."""
    causes: list[Cause] = []
    _list_types(schema, value, path, causes)
    return causes


def _list_types(schema: Structural, value: Any, path: str, causes: list[Cause]) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            if not isinstance(item, dict | list):
                continue
            child = schema.fields.get(name) or (schema.items if schema.type == "map" else None)
            if isinstance(child, Structural):
                _list_types(child, item, f"{path}.{name}" if path else name, causes)
    elif isinstance(value, list) and schema.type == "list":
        if schema.list_type == "set":
            _unique(value, lambda item: item, path, causes)
        elif schema.list_type == "map" and schema.list_map_keys:
            _unique(value, lambda item: _map_key(item, schema.list_map_keys), path, causes)
        if isinstance(schema.items, Structural):
            for index, item in enumerate(value):
                _list_types(schema.items, item, f"{path}[{index}]", causes)


def _unique(items: list[Any], shown: Callable[[Any], Any], path: str, causes: list[Cause]) -> None:
    seen: set[bytes] = set()
    for index, item in enumerate(items):
        key = shown(item)
        text = _canonical(key)
        if text in seen:
            causes.append(duplicate(f"{path}[{index}]", key))
        seen.add(text)


def _map_key(item: Any, keys: Any) -> Any:
    return {key: item.get(key) for key in keys if key in item} if isinstance(item, dict) else None


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
