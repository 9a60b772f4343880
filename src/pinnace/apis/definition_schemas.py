"""The schemas in a CustomResourceDefinition, and what refers to their fields: `selectableFields` and rules in CEL.

The rules about schemas alone are in `machinery.structural_rules`; here they meet the rest of the definition.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pinnace.machinery.errors import Cause, duplicate, field_forbidden, invalid_value, required, too_many
from pinnace.machinery.meta import Obj

MOST_SELECTABLE_FIELDS = 8

_ALLOWED_AT_ROOT = {
    "description": "Description",
    "type": "Type",
    "format": "Format",
    "title": "Title",
    "maximum": "Maximum",
    "exclusiveMaximum": "ExclusiveMaximum",
    "minimum": "Minimum",
    "exclusiveMinimum": "ExclusiveMinimum",
    "maxLength": "MaxLength",
    "minLength": "MinLength",
    "pattern": "Pattern",
    "maxItems": "MaxItems",
    "minItems": "MinItems",
    "uniqueItems": "UniqueItems",
    "multipleOf": "MultipleOf",
    "required": "Required",
    "items": "Items",
    "properties": "Properties",
    "externalDocs": "ExternalDocs",
    "example": "Example",
    "x-kubernetes-preserve-unknown-fields": "XPreserveUnknownFields",
    "x-kubernetes-validations": "XValidations",
}


def schema_causes(spec: Obj, old: Obj | None) -> Iterator[Cause]:
    """What is wrong with the schemas; `old` is the spec before an update: what it had already is not judged again."""
    versions: list[Obj] = spec.get("versions") or []
    schemas = [schema_of(version) for version in versions]
    for index, schema in enumerate(schemas):
        if schema is None:
            yield required(f"spec.versions[{index}].schema.openAPIV3Schema", "schemas are required")
    shared = bool(schemas) and all(schema is not None and schema == schemas[0] for schema in schemas)
    before = {one.get("name"): schema_of(one) for one in (old or {}).get("versions") or ()}
    for index, (version, schema) in enumerate(zip(versions, schemas, strict=True)):
        if schema is None or (shared and index):
            continue
        path = "spec.validation" if shared else f"spec.versions[{index}].schema"
        has_status = any("status" in (one.get("subresources") or {}) for one in (versions if shared else [version]))
        unchanged = before.get(version.get("name"))
        if unchanged is None or unchanged != schema:
            yield from _one_schema(schema, f"{path}.openAPIV3Schema", has_status, unchanged)
    yield from _selectable(versions)


def schema_of(version: Obj) -> Obj | None:
    """The `openAPIV3Schema` of one version."""
    found: Obj | None = (version.get("schema") or {}).get("openAPIV3Schema")
    return found


def structural_causes(spec: Obj) -> list[Cause]:
    """Why the schemas are not structural, as the condition NonStructuralSchema tells it."""
    from pinnace.machinery.structural_rules import structural_errors, type_errors

    schemas = [schema_of(version) or {} for version in spec.get("versions") or ()]
    if any(type_errors(schema, "") for schema in schemas):
        return []  # nothing that was accepted
    if schemas and all(schema == schemas[0] for schema in schemas):
        return structural_errors(schemas[0], "spec.validation.openAPIV3Schema")
    paths = [f"spec.versions[{index}].schema.openAPIV3Schema" for index in range(len(schemas))]
    return [cause for path, one in zip(paths, schemas, strict=True) for cause in structural_errors(one, path)]


def _one_schema(schema: Obj, path: str, has_status: bool, old: Obj | None) -> Iterator[Cause]:
    from pinnace.machinery import structural_rules
    from pinnace.machinery.schema import Schemas
    from pinnace.machinery.structural import compile_structural
    from pinnace.machinery.structural_defaults import default_errors

    causes = structural_rules.type_errors(schema, path)
    if causes:
        yield from causes
        return
    if has_status:
        causes += _root_with_status(schema, path)
    if schema.get("nullable"):
        causes.append(field_forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    not_structural = structural_rules.structural_errors(schema, path)
    causes += not_structural
    unsupported = structural_rules.schema_errors(schema, path)
    if not not_structural and not unsupported:
        causes += default_errors(compile_structural(schema, Schemas.load()), path)  # ObjectMeta is the same in all
    causes += unsupported
    yield from causes or rules_of(schema, path, old)[1]


def rules_of(schema: Obj, path: str = "", old: Obj | None = None) -> tuple[Any, list[Cause]]:
    """The compiled rules in CEL (None where there are none), and what is wrong with them."""
    if not _has_rules(schema):
        return None, []
    from pinnace.machinery.cel.crd import compile_rules

    return compile_rules(schema, path, old)


def _has_rules(node: Any) -> bool:
    if isinstance(node, dict):
        return bool(node.get("x-kubernetes-validations")) or any(map(_has_rules, node.values()))
    return isinstance(node, list) and any(map(_has_rules, node))


def _root_with_status(schema: Obj, path: str) -> Iterator[Cause]:
    if schema.get("type") and schema["type"] != "object":
        why = 'only "object" is allowed as the type at the root of the schema if the status subresource is enabled'
        yield invalid_value(f"{path}.type", schema["type"], why)
    if any(key not in _ALLOWED_AT_ROOT for key, value in schema.items() if value):
        allowed = " ".join(_ALLOWED_AT_ROOT.values())
        why = f"only [{allowed}] fields are allowed at the root of the schema if the status subresource is enabled"
        yield invalid_value(path, schema, why)


# Selectable fields.


def _selectable(versions: list[Obj]) -> Iterator[Cause]:
    from pinnace.machinery.structural_rules import type_errors

    for index, version in enumerate(versions):
        fields = version.get("selectableFields") or []
        path = "spec.selectableFields" if len(versions) == 1 else f"spec.versions[{index}].selectableFields"
        schema = schema_of(version)
        if not fields or schema is None or type_errors(schema, ""):
            continue
        seen: set[str] = set()
        for place, field in enumerate(fields):
            where, given = f"{path}[{place}].jsonPath", field.get("jsonPath") or ""
            yield from _selectable_field(given, schema, where)
            if given in seen:
                yield duplicate(where, given)
            seen.add(given)
        if len(seen) > MOST_SELECTABLE_FIELDS:
            yield too_many(path, len(seen), MOST_SELECTABLE_FIELDS)


def _selectable_field(given: str, schema: Obj, path: str) -> Iterator[Cause]:
    if not given:
        yield required(path)
        return
    steps = given.split(".")[1:]
    if not given.startswith(".") or not steps or not all(steps) or "[" in given:
        why = "is an invalid path: expected simple dot notation path"
        yield invalid_value(path, given, why)
        return
    found: Any = schema
    for step in steps:
        found = (found.get("properties") or {}).get(step)
        if found is None:
            if steps[0] != "metadata":
                yield invalid_value(path, given, "is an invalid path: does not refer to a valid field")
            break
    if steps[0] == "metadata":
        yield invalid_value(path, given, "must not point to fields in metadata")
    if found is not None and found.get("type") not in ("string", "boolean", "integer"):
        why = (
            "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are "
            "allowed."
        )
        yield invalid_value(path, given, why)
