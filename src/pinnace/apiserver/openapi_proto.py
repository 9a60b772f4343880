"""An OpenAPI v2 document in the protobuf encoding that kubectl asks `/openapi/v2` for.

The messages and field numbers are those of gnostic's OpenAPIv2.proto (https://github.com/google/gnostic); only what
our own document holds can be written. Everything here is length-delimited: strings, booleans and messages within
messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from pinnace.machinery.meta import Obj

CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

_METHODS = {"get": 2, "put": 3, "post": 4, "delete": 5, "options": 6, "head": 7, "patch": 8}


def encode(document: Obj) -> bytes:
    """The bytes of `openapi.v2.Document`, or of a part of one."""
    parts = []
    if "swagger" in document:
        info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
        parts += [_text(1, document["swagger"]), _bytes(2, info)]
    paths = b"".join(_named(2, path, _path_item(item)) for path, item in document["paths"].items())
    definitions = b"".join(_named(1, name, _schema(node)) for name, node in document["definitions"].items())
    parts += [_bytes(8, paths), _bytes(9, definitions)]
    if "parameters" in document:
        shared = b"".join(_named(1, name, _parameter(one)) for name, one in document["parameters"].items())
        parts.append(_bytes(10, shared))
    parts += [_bytes(12, _named(1, name, b"")) for one in document.get("security", ()) for name in one]
    if "securityDefinitions" in document:
        schemes = document["securityDefinitions"].items()
        parts.append(_bytes(13, b"".join(_named(1, name, _bytes(2, _api_key(one))) for name, one in schemes)))
    return b"".join(parts)


# Wire format.


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _bytes(field: int, payload: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(payload)) + payload


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode()) if text else b""


def _texts(field: int, texts: Iterable[str]) -> bytes:
    return b"".join(_bytes(field, text.encode()) for text in texts)


def _flag(field: int, value: bool) -> bytes:
    return _varint(field << 3) + b"\x01" if value else b""


def _named(field: int, name: str, value: bytes) -> bytes:
    """One entry of what the proto calls a map: `repeated NamedX`."""
    return _bytes(field, _text(1, name) + _bytes(2, value))


def _extensions(field: int, node: Obj) -> bytes:
    """`x-…` members; their values are YAML, and JSON is YAML."""
    return b"".join(
        _named(field, name, _bytes(2, orjson.dumps(value))) for name, value in node.items() if name.startswith("x-")
    )


# Messages.


def _schema(node: Obj) -> bytes:
    parts = [
        _text(1, node.get("$ref", "")),
        _text(2, node.get("format", "")),
        _text(4, node.get("description", "")),
        _texts(19, node.get("required", ())),
    ]
    if "additionalProperties" in node:
        more = node["additionalProperties"]
        parts.append(_bytes(21, _flag(2, more) if isinstance(more, bool) else _bytes(1, _schema(more))))
    if "type" in node:
        parts.append(_bytes(22, _text(1, node["type"])))
    if "items" in node:
        parts.append(_bytes(23, _bytes(1, _schema(node["items"]))))
    if "properties" in node:
        properties = b"".join(_named(1, name, _schema(child)) for name, child in node["properties"].items())
        parts.append(_bytes(25, properties))
    parts.append(_extensions(31, node))
    return b"".join(parts)


def _path_item(item: Obj) -> bytes:
    methods = [_bytes(number, _operation(item[name])) for name, number in _METHODS.items() if name in item]
    return b"".join(methods) + b"".join(_bytes(9, _parameters_item(one)) for one in item.get("parameters", ()))


def _operation(operation: Obj) -> bytes:
    return b"".join(
        (
            _texts(1, operation.get("tags", ())),
            _text(3, operation.get("description", "")),
            _text(5, operation.get("operationId", "")),
            _texts(6, operation.get("produces", ())),
            _texts(7, operation.get("consumes", ())),
            b"".join(_bytes(8, _parameters_item(parameter)) for parameter in operation.get("parameters", ())),
            _bytes(9, b"".join(_response(code, answer) for code, answer in operation["responses"].items())),
            _texts(10, operation.get("schemes", ())),
            _extensions(13, operation),
        )
    )


def _api_key(scheme: Obj) -> bytes:
    return b"".join(
        _text(number, scheme[field]) for number, field in ((1, "type"), (2, "name"), (3, "in"), (4, "description"))
    )


def _parameters_item(parameter: Obj) -> bytes:
    """A parameter, or a reference to a shared one."""
    if "$ref" in parameter:
        return _bytes(2, _text(1, parameter["$ref"]))
    return _bytes(1, _parameter(parameter))


def _parameter(parameter: Obj) -> bytes:
    name, place = parameter["name"], parameter["in"]
    required = bool(parameter.get("required"))
    if place == "body":
        body = _text(2, name) + _text(3, place) + _flag(4, required) + _bytes(5, _schema(parameter["schema"]))
        return _bytes(1, body)
    common = _flag(1, required) + _text(2, place) + _text(4, name)
    if place == "query":
        return _bytes(2, _bytes(3, common + _text(6, parameter["type"]) + _flag(20, True)))
    return _bytes(2, _bytes(4, common + _text(5, parameter["type"]) + _flag(19, True)))


def _response(code: str, answer: Any) -> bytes:
    response: bytes = _text(1, answer.get("description", ""))
    if "schema" in answer:
        response += _bytes(2, _bytes(1, _schema(answer["schema"])))
    return _named(1, code, _bytes(1, response))
