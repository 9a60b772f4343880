"""Types for expressions from OpenAPI schemas, with the largest sizes their values can have.

The table of types is https://kubernetes.io/docs/reference/using-api/cel/#cel-type-checking; names that are no
identifiers are escaped as `#escaping` there tells. Where a schema sets no limit, the size of a request (3 MB) does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from pinnace.machinery.cel.types import BOOL, BYTES, DOUBLE, DURATION, DYN, INT, STRING, TIMESTAMP, Field, Type
from pinnace.machinery.meta import Obj

MAX_REQUEST_BYTES = 3 * 1024 * 1024
_RESERVED = frozenset(
    (
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import"),
        *("let", "loop", "package", "namespace", "return", "var", "void", "while"),
    )
)
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_NAME = re.compile(r"[a-zA-Z_.\-/][a-zA-Z0-9_.\-/]*")
_ESCAPED = re.compile(r"__|[.\-/]")
_LEAST = {"boolean": 4, "integer": 1, "number": 1, "string": 2, "array": 2}  # characters of JSON a value takes
_LEAST_FORMATS = {"date": 12, "date-time": 21, "duration": 3}
_MOST_FORMATS = {"date": 10, "date-time": 35, "duration": 32}
_BYTES_OF_CHARACTER = 4  # at most, in UTF-8
_STRINGS = {"byte": BYTES, "date": TIMESTAMP, "date-time": TIMESTAMP, "duration": DURATION}


@lru_cache(maxsize=10_000)
def escape(name: str) -> str:
    """How an expression writes a field's name; empty for a name that no expression can write."""
    if name in _RESERVED:
        return f"__{name}__"
    if not _NAME.fullmatch(name):
        return ""
    return _ESCAPED.sub(lambda match: _ESCAPES[match[0]], name)


def schema_type(raw: Obj, name: str = "self", *, resource: bool = False) -> Type | None:
    """The type of a schema's values; None for what expressions cannot see.

    `resource` is whether it is a whole object, with apiVersion, kind and metadata.
    """
    if raw.get("x-kubernetes-int-or-string"):
        return DYN
    match raw.get("type"):
        case "boolean":
            return BOOL
        case "integer":
            return INT
        case "number":
            return DOUBLE
        case "string":
            return _string(raw)
        case "array":
            return _list(raw, name)
        case "object":
            return _object(raw, name, resource or bool(raw.get("x-kubernetes-embedded-resource")))
    return None


def _string(raw: Obj) -> Type:
    form = raw.get("format", "")
    if form in _MOST_FORMATS:
        return Type(_STRINGS[form].kind, max_size=_MOST_FORMATS[form])
    limit = raw.get("maxLength")
    if limit is not None:
        limit *= _BYTES_OF_CHARACTER
    elif raw.get("enum"):
        limit = max(len(str(each)) for each in raw["enum"])
    else:
        limit = MAX_REQUEST_BYTES - 2
    return Type(_STRINGS.get(form, STRING).kind, max_size=limit)


def _list(raw: Obj, name: str) -> Type | None:
    items = raw.get("items") or {}
    element = schema_type(items, f"{name}.@idx")
    if element is None:
        return None
    limit = raw.get("maxItems")
    if limit is None:
        limit = (MAX_REQUEST_BYTES - 2) // (least_size(items) + 1)
    list_type = raw.get("x-kubernetes-list-type", "")
    return Type(
        "list",
        params=(element,),
        max_size=limit,
        list_type=list_type if list_type in ("set", "map") else "",
        list_keys=tuple(raw.get("x-kubernetes-list-map-keys") or ()),
    )


def _object(raw: Obj, name: str, resource: bool) -> Type | None:
    values = raw.get("additionalProperties")
    if isinstance(values, dict):
        element = schema_type(values, f"{name}.@elem")
        if element is None:
            return None
        limit = raw.get("maxProperties")
        if limit is None:
            limit = (MAX_REQUEST_BYTES - 2) // (least_size(values) + 6)
        return Type("map", params=(STRING, element), max_size=limit)
    return Type("object", name, fields=_Fields(raw, name, resource))


class _Fields:
    """The fields of an object, worked out when first asked for."""

    def __init__(self, raw: Obj, name: str, resource: bool) -> None:
        self._raw, self._name, self._resource = raw, name, resource
        self._found: dict[str, Field] | None = None

    def __call__(self) -> Mapping[str, Field]:
        if self._found is None:
            self._found = self._read()
        return self._found

    def _read(self) -> dict[str, Field]:
        properties: Obj = dict(self._raw.get("properties") or {})
        if self._resource:
            properties |= {"apiVersion": _TEXT, "kind": _TEXT, "metadata": _METADATA}
        found = {}
        for key, child in properties.items():
            of, written = schema_type(child, f"{self._name}.{key}"), escape(key)
            if of is not None and written:
                found[written] = Field(of, key)
        return found


_TEXT: Obj = {"type": "string"}
_METADATA: Obj = {"type": "object", "properties": {"name": _TEXT, "generateName": _TEXT}}


def least_size(raw: Obj, depth: int = 0) -> int:
    """The fewest characters of JSON that a value of the schema takes."""
    if raw.get("x-kubernetes-int-or-string") or depth > 20:
        return 1
    if raw.get("format") in _LEAST_FORMATS:
        return _LEAST_FORMATS[raw["format"]]
    if raw.get("type") != "object":
        return _LEAST.get(raw.get("type", ""), 1)
    properties = raw.get("properties") or {}
    needed = [key for key in raw.get("required") or () if "default" not in properties.get(key, {"default": 0})]
    return 2 + sum(len(key) + 4 + least_size(properties[key], depth + 1) for key in needed)
