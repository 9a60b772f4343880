"""JSON Patch: a list of operations on a document (RFC 6902), paths being JSON pointers (RFC 6901).

Where the RFC and the API server part, the server is followed: indices may be negative, and a `test` against null holds
for a missing member.
"""

from __future__ import annotations

from typing import Any

import orjson

from pinnace.machinery.errors import ApiError, bad_request

MAX_OPERATIONS = 10_000
MAX_COPIED = (
    3 * 1024 * 1024
)  # bytes that the `copy` operations of one patch may add: a few of them can double a document

_GO_KINDS = {dict: "object", str: "string", bool: "bool", int: "number", float: "number"}


class JsonPatchError(ApiError):
    """A well-formed patch does not apply (422); `cause` says why, which Kubernetes does not tell the client."""

    def __init__(self, cause: str) -> None:
        message = "the server rejected our request due to an error in our request"
        super().__init__(422, "Invalid", message, details={})
        self.cause = cause


def apply(document: Any, patch: Any) -> Any:
    """`document` changed by the operations of `patch` in order; neither is modified, parts may be shared.

    Raises ApiError: 400 for what is not a patch, 413 for too many operations, and JsonPatchError (422).
    """
    copied = 0
    for operation in check(patch):
        if operation.get("op") == "copy":
            copied += _size(_get(document, _pointer(operation, "from", "copy"), "copy"))
            if copied > MAX_COPIED:
                raise JsonPatchError(
                    "Unable to complete the copy, the accumulated size increase of copy is "
                    f"{copied}, exceeding the limit {MAX_COPIED}"
                )
        document = _apply_one(document, operation)
    return document


def _size(value: Any) -> int:
    try:
        return len(orjson.dumps(value))
    except TypeError:
        raise JsonPatchError("exceeded max depth") from None


def check(patch: Any) -> list[dict[str, Any]]:
    """The operations of a patch whose form is right; raises ApiError 400 or 413."""
    if not isinstance(patch, list):
        kind = _GO_KINDS.get(type(patch), "null")
        raise bad_request(f"json: cannot unmarshal {kind} into Go value of type jsonpatch.Patch")
    for operation in patch:
        if not isinstance(operation, dict):
            kind = _GO_KINDS.get(type(operation), "array" if isinstance(operation, list) else "null")
            raise bad_request(f"json: cannot unmarshal {kind} into Go value of type jsonpatch.Operation")
    if len(patch) > MAX_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {len(patch)}"
        raise ApiError(413, "RequestEntityTooLarge", f"Request entity too large: {text}")
    return patch


def _apply_one(document: Any, operation: dict[str, Any]) -> Any:
    name = operation.get("op")
    path = _pointer(operation, "path", name)
    match name:
        case "add":
            return _add(document, path, _value(operation, name), name)
        case "remove":
            return _remove(document, path, name)
        case "replace":
            value = _value(operation, name)
            _get(document, path, name)
            return _set(document, path, value)
        case "move":
            source = _pointer(operation, "from", name)
            value = _get(document, source, name)
            if path[: len(source)] == source and len(path) > len(source):
                raise JsonPatchError("move operation does not apply: a value cannot move into itself")
            return _add(_remove(document, source, name), path, value, name)
        case "copy":
            return _add(document, path, _get(document, _pointer(operation, "from", name), name), name)
        case "test":
            _test(document, path, operation.get("value"))
            return document
    raise JsonPatchError(f"Unexpected kind: {name}")


def _pointer(operation: dict[str, Any], member: str, name: Any) -> list[str]:
    text = operation.get(member)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise JsonPatchError(f"{name} operation does not apply: operation missing {member} field")
    return [step.replace("~1", "/").replace("~0", "~") for step in text.split("/")[1:]]


def _value(operation: dict[str, Any], name: str) -> Any:
    if "value" not in operation:
        raise JsonPatchError(f"{name} operation does not apply: operation missing value field")
    return operation["value"]


def _missing(name: Any, path: list[str]) -> JsonPatchError:
    return JsonPatchError(f'{name} operation does not apply: doc is missing path: "/{"/".join(path)}": missing value')


def _index(container: list[Any], step: str, name: Any, path: list[str]) -> int:
    """The position that `step` names in a list, in range."""
    digits = step.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or (len(digits) > 1 and digits[0] == "0"):
        raise _missing(name, path)
    index = int(step)
    if not -len(container) <= index < len(container):
        raise JsonPatchError(f"{name} operation does not apply: Unable to access invalid index: {index}")
    return index % len(container)


def _get(document: Any, path: list[str], name: Any) -> Any:
    for step in path:
        if isinstance(document, dict) and step in document:
            document = document[step]
        elif isinstance(document, list):
            document = document[_index(document, step, name, path)]
        else:
            raise _missing(name, path)
    return document


def _set(document: Any, path: list[str], value: Any) -> Any:
    """A copy of `document` with the existing place `path` changed."""
    if not path:
        return value
    step, *rest = path
    if isinstance(document, dict):
        return {**document, step: _set(document[step], rest, value)}
    index = _index(document, step, "replace", path)
    return [*document[:index], _set(document[index], rest, value), *document[index + 1 :]]


def _add(document: Any, path: list[str], value: Any, name: Any) -> Any:
    if not path:
        return value
    *parent_path, step = path
    parent = _get(document, parent_path, name)
    if isinstance(parent, dict):
        return _set(document, parent_path, {**parent, step: value})
    if not isinstance(parent, list):
        raise _missing(name, path)
    # One past the end is a place to add, which no other operation may name.
    end = step in ("-", str(len(parent)))
    index = len(parent) if end else _index(parent, step, name, path)
    return _set(document, parent_path, [*parent[:index], value, *parent[index:]])


def _remove(document: Any, path: list[str], name: Any) -> Any:
    if not path:
        raise _missing(name, path)
    *parent_path, step = path
    parent = _get(document, parent_path, name)
    _get(parent, [step], name)
    if isinstance(parent, dict):
        return _set(document, parent_path, {key: item for key, item in parent.items() if key != step})
    index = _index(parent, step, name, path)
    return _set(document, parent_path, [*parent[:index], *parent[index + 1 :]])


def _test(document: Any, path: list[str], wanted: Any) -> None:
    try:
        found = _get(document, path, "test")
    except JsonPatchError:
        if wanted is None:
            return
        raise
    if not same(found, wanted):
        raise JsonPatchError(f"testing value /{'/'.join(path)} failed: test failed")


def same(left: Any, right: Any) -> bool:
    """Equality of JSON values: true is not 1, as it is in Python."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(item, right[key]) for key, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)
