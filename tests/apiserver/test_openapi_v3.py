"""OpenAPI of version 2 as version 3 says it."""

from __future__ import annotations

from typing import Any

import pytest

from pinnace.apiserver.aggregation.openapi_v3 import converted
from pinnace.machinery.meta import Obj

INFO = {"title": "t", "version": "1"}
OK: Obj = {"responses": {"200": {"description": "OK"}}}


def document(item: Obj, **more: Any) -> Obj:
    return {"info": INFO, "paths": {"/a": item}, **more}


def path_of(found: Obj) -> Any:
    return found["paths"]["/a"]


def test_what_is_sent_and_answered_has_its_media_types() -> None:
    body = {"in": "body", "name": "body", "required": True, "schema": {"$ref": "#/definitions/A"}}
    answer = {"200": {"description": "OK", "schema": {"type": "string"}}, "401": {"description": "Unauthorized"}}
    operation = {
        "operationId": "make",
        "x-kubernetes-action": "post",
        "consumes": ["application/json", "application/yaml"],
        "schemes": ["https"],
        "parameters": [body],
        "responses": answer,
    }

    found = converted(document({"post": operation}, produces=["text/plain"], definitions={"A": {"type": "object"}}))

    schema = {"schema": {"$ref": "#/components/schemas/A"}}
    assert path_of(found)["post"] == {
        "operationId": "make",
        "x-kubernetes-action": "post",
        "requestBody": {"required": True, "content": {"application/json": schema, "application/yaml": schema}},
        "responses": {
            "200": {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}},
            "401": {"description": "Unauthorized"},
        },
    }
    assert found["components"] == {"schemas": {"A": {"type": "object"}}}
    assert (found["openapi"], found["info"]) == ("3.0.0", INFO)


def test_parameters_say_below_schema_what_they_are() -> None:
    limit = {"in": "query", "name": "limit", "type": "integer", "uniqueItems": True, "description": "how many"}
    name = {"in": "path", "name": "name", "required": True, "type": "string"}

    item = {"parameters": [{"$ref": "#/parameters/name-1"}], "get": {**OK, "parameters": [limit]}}
    found = path_of(converted(document(item, parameters={"name-1": name})))

    assert found["parameters"] == [{"in": "path", "name": "name", "required": True, "schema": {"type": "string"}}]
    assert found["get"]["parameters"] == [
        {
            "in": "query",
            "name": "limit",
            "description": "how many",
            "schema": {"type": "integer", "uniqueItems": True},
        }
    ]


def test_a_body_that_all_operations_have_is_each_ones_own() -> None:
    body = {"in": "body", "name": "body", "schema": {"type": "object"}}

    found = path_of(converted(document({"parameters": [body], "put": OK})))

    assert "parameters" not in found
    assert found["put"]["requestBody"] == {"content": {"application/json": {"schema": {"type": "object"}}}}


@pytest.mark.parametrize(
    ("node", "found"),
    [
        ({"$ref": "#/definitions/B"}, {"$ref": "#/components/schemas/B"}),
        (
            {"$ref": "#/definitions/B", "description": "d"},
            {"description": "d", "allOf": [{"$ref": "#/components/schemas/B"}]},
        ),
        (
            {"items": {"$ref": "#/definitions/B"}, "enum": ["#/definitions/B"]},
            {"items": {"$ref": "#/components/schemas/B"}, "enum": ["#/definitions/B"]},
        ),
        ({"properties": {"$ref": {"type": "string"}}}, {"properties": {"$ref": {"type": "string"}}}),
    ],
)
def test_references_lead_to_the_components(node: Obj, found: Obj) -> None:
    made = converted(document({"get": OK}, definitions={"A": node}))

    assert made["components"]["schemas"]["A"] == found


@pytest.mark.parametrize("item", [{"get": None}, {"get": {}}, {"get": {**OK, "parameters": [{"name": "x"}]}}])
def test_what_is_no_document_is_refused(item: Obj) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError, ValueError)):
        converted(document(item))
