"""Operations as each version of OpenAPI writes them.

What all operations on a path have in common stands beside them, once. Version 2 keeps a parameter that many paths have
in one place, under its name and a hash, and refers to it; but not those that clients look for on the operation itself.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from functools import lru_cache

import orjson

from pinnace.apiserver.openapi_paths import Operation
from pinnace.machinery.meta import GVK, Obj

Reference = Callable[[GVK], Obj]
"""The schema of a kind: a reference to its definition."""

_CODE_WORDS = {200: "OK", 201: "Created", 202: "Accepted", 401: "Unauthorized"}
_IN_PLACE = ("dryRun", "fieldValidation", "name")  # old kubectls look for the first two; a name is of one kind
_GENERIC = "#/definitions/io.k8s.apimachinery"
_FNV_OFFSET, _FNV_PRIME, _64_BITS = 0xCBF29CE484222325, 0x100000001B3, (1 << 64) - 1


def paths_v2(operations: Iterable[Operation], reference: Reference) -> tuple[Obj, Obj]:
    """`(paths, parameters)`: the latter are those that the former refer to."""
    shared: Obj = {}
    paths: Obj = {}
    for path, of_path in _by_path(operations).items():
        common = _common(of_path)
        item: Obj = {one.method: _operation_v2(one, common, reference, shared) for one in of_path}
        if common:
            item["parameters"] = [_shared(_plain_v2(*one), shared) for one in common]
        paths[path] = item
    return paths, shared


def paths_v3(operations: Iterable[Operation], reference: Reference) -> Obj:
    paths: Obj = {}
    for path, of_path in _by_path(operations).items():
        common = _common(of_path)
        item: Obj = {one.method: _operation_v3(one, common, reference) for one in of_path}
        if common:
            item["parameters"] = [_plain_v3(*one) for one in common]
        paths[path] = item
    return paths


def _by_path(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = {}
    for operation in sorted(operations, key=lambda one: (one.path, one.method)):
        found.setdefault(operation.path, []).append(operation)
    return found


# Parameters: name, place, type.

_Parameter = tuple[str, str, str]


def _parameters(operation: Operation) -> set[_Parameter]:
    given = {(name, "path", "string") for name in operation.path_parameters}
    return given | {(name, "query", kind) for name, kind in operation.query}


def _common(operations: list[Operation]) -> list[_Parameter]:
    """What every operation on a path takes, by name."""
    return sorted(set.intersection(*map(_parameters, operations)))


def _own(operation: Operation, common: list[_Parameter]) -> list[_Parameter]:
    return sorted(_parameters(operation).difference(common))


def _plain_v2(name: str, place: str, kind: str) -> Obj:
    required = {"required": True} if place == "path" else {}
    return {"in": place, "name": name, **required, "type": kind, "uniqueItems": True}


def _plain_v3(name: str, place: str, kind: str) -> Obj:
    required = {"required": True} if place == "path" else {}
    return {"in": place, "name": name, **required, "schema": {"type": kind, "uniqueItems": True}}


def _shared(parameter: Obj, shared: Obj) -> Obj:
    """A reference to the parameter, which is put among the shared ones, or itself where it stays in place."""
    name = parameter["name"]
    if name in _IN_PLACE or (name == "body" and not parameter["schema"].get("$ref", "").startswith(_GENERIC)):
        return parameter
    key = f"{name}-{_hash(orjson.dumps(parameter))}"
    shared[key] = parameter
    return {"$ref": f"#/parameters/{key}"}


@lru_cache(maxsize=1024)
def _hash(text: bytes) -> str:
    """Eight characters of FNV-1, as Kubernetes names shared parameters."""
    number = _FNV_OFFSET
    for byte in text:
        number = (number * _FNV_PRIME & _64_BITS) ^ byte
    return base64.urlsafe_b64encode(number.to_bytes(8, "big")[:6]).decode()


# Operations.


def _operation_v2(operation: Operation, common: list[_Parameter], reference: Reference, shared: Obj) -> Obj:
    written = _head(operation)
    if operation.consumes:
        written["consumes"] = list(operation.consumes)
    parameters = [_shared(_plain_v2(*one), shared) for one in _own(operation, common)]
    if operation.body:
        body: Obj = {"in": "body", "name": "body"}
        if operation.method != "delete":
            body["required"] = True
        parameters.insert(0, _shared({**body, "schema": reference(operation.body)}, shared))
    if parameters:
        written["parameters"] = parameters
    schema = reference(operation.answer) if operation.answer else {"type": "string"}
    responses: Obj = {str(code): {"description": _CODE_WORDS[code], "schema": schema} for code in operation.codes}
    responses["401"] = {"description": _CODE_WORDS[401]}
    return {**written, "produces": list(operation.produces), "responses": responses, "schemes": ["https"]}


def _operation_v3(operation: Operation, common: list[_Parameter], reference: Reference) -> Obj:
    written = _head(operation)
    parameters = [_plain_v3(*one) for one in _own(operation, common)]
    if parameters:
        written["parameters"] = parameters
    if operation.body:
        schema = reference(operation.body)
        written["requestBody"] = {"content": {media: {"schema": schema} for media in operation.consumes}}
        if operation.method != "delete":
            written["requestBody"]["required"] = True
    schema = reference(operation.answer) if operation.answer else {"type": "string"}
    content = {media: {"schema": schema} for media in operation.produces}
    responses: Obj = {str(code): {"description": _CODE_WORDS[code], "content": content} for code in operation.codes}
    responses["401"] = {"description": _CODE_WORDS[401]}
    return {**written, "responses": responses}


def _head(operation: Operation) -> Obj:
    head: Obj = {
        "description": operation.description,
        "operationId": operation.operation_id,
        "tags": [operation.tag],
    }
    if operation.gvk is not None:
        head["x-kubernetes-action"] = operation.action
        head["x-kubernetes-group-version-kind"] = operation.gvk._asdict()
    return head
