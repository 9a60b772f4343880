"""OpenAPI of version 2 as version 3 says it: for registered servers that know the older version alone.

Bodies leave the parameters, media types move to what is sent and answered, and what a parameter's value is moves below
`schema`. https://spec.openapis.org/oas/v3.0.3 and https://spec.openapis.org/oas/v2.0 are the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pinnace.machinery.meta import Obj

_JSON = ("application/json",)
_ABOUT = ("name", "in", "description", "required")  # of a parameter; all else is about its value
_KEPT = ("description", "operationId", "summary", "tags", "deprecated", "externalDocs")


def converted(document: Obj) -> Obj:
    """The document in version 3. Raises KeyError, TypeError, AttributeError and ValueError for what is no document."""
    shared = document.get("parameters") or {}
    paths = {path: _Item(item, shared, document).converted() for path, item in document["paths"].items()}
    schemas = {name: _schema(node) for name, node in (document.get("definitions") or {}).items()}
    return {"openapi": "3.0.0", "info": document["info"], "paths": paths, "components": {"schemas": schemas}}


class _Item:
    """What stands below one path."""

    def __init__(self, item: Obj, shared: Obj, document: Obj) -> None:
        self._item = item
        self._shared = shared
        self._media = {name: document.get(name) or _JSON for name in ("consumes", "produces")}

    def converted(self) -> Obj:
        common = list(self._resolved(self._item.get("parameters") or ()))
        found: Obj = {}
        for name, node in self._item.items():
            if name == "parameters":
                plain = list(_plain(common))
                found |= {name: plain} if plain else {}
            else:
                found[name] = node if name.startswith("x-") else self._operation(node, common)
        return found

    def _operation(self, node: Obj, common: list[Obj]) -> Obj:
        parameters = list(self._resolved(node.get("parameters") or ()))
        found = {name: value for name, value in node.items() if name in _KEPT or name.startswith("x-")}
        plain = list(_plain(parameters))
        if plain:
            found["parameters"] = plain
        body = next((one for one in (*parameters, *common) if one["in"] == "body"), None)
        if body is not None:
            about = {name: body[name] for name in ("description", "required") if name in body}
            found["requestBody"] = {**about, "content": self._content(node, "consumes", body["schema"])}
        found["responses"] = {code: self._response(node, one) for code, one in node["responses"].items()}
        return found

    def _response(self, operation: Obj, node: Obj) -> Obj:
        found = {"description": node.get("description") or ""}
        return {**found, "content": self._content(operation, "produces", node["schema"])} if "schema" in node else found

    def _content(self, operation: Obj, direction: str, schema: Obj) -> Obj:
        return {media: {"schema": _schema(schema)} for media in operation.get(direction) or self._media[direction]}

    def _resolved(self, parameters: Iterable[Obj]) -> Iterator[Obj]:
        for one in parameters:
            yield self._shared[one["$ref"].removeprefix("#/parameters/")] if "$ref" in one else one


def _plain(parameters: Iterable[Obj]) -> Iterator[Obj]:
    """Those outside the body."""
    for one in parameters:
        if one["in"] not in ("body", "formData"):
            about = {name: one[name] for name in _ABOUT if name in one}
            value = {name: part for name, part in one.items() if name not in _ABOUT and name != "collectionFormat"}
            yield {**about, "schema": _schema(value)}


def _schema(node: Any) -> Any:
    """References lead to where version 3 has them; what stands beside one moves around it."""
    if isinstance(node, list):
        return [_schema(child) for child in node]
    if not isinstance(node, dict):
        return node
    found = {name: _schema(child) for name, child in node.items()}
    target = node.get("$ref")
    if not isinstance(target, str):
        return found
    reference = {"$ref": target.replace("#/definitions/", "#/components/schemas/", 1)}
    del found["$ref"]
    return {**found, "allOf": [reference]} if found else reference
