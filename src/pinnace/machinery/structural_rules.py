"""What a schema of a CustomResourceDefinition must be: structural, complete, and without what is not supported.

`structural_errors` has the rules of structurality, `schema_errors` those about single keywords, each in the words of
kube-apiserver; `type_errors` finds documents that are no schema at all. Specified in
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pinnace.machinery.errors import Cause, field_forbidden, invalid_value, not_supported, required, wrong_type
from pinnace.machinery.meta import Obj
from pinnace.machinery.regexp import RegexpError, check_regexp
from pinnace.machinery.structural import ROOT_FIELDS

JUNCTORS = ("allOf", "anyOf", "oneOf")
TYPES = ("array", "boolean", "integer", "number", "object", "string")

_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_LEVELS = {
    "root": "must not be empty at the root",
    "item": "must not be empty for specified array items",
    "field": "must not be empty for specified object fields",
}


def structural_errors(raw: Obj, path: str) -> list[Cause]:
    """Where a schema is not structural, in the order of the messages."""
    causes = [*_invariants(raw, "root", path), *_completeness(raw, None, path)]
    return sorted(causes, key=lambda cause: (cause.field, cause.message))


# Structurality: types and extensions outside of the junctors, value validations anywhere.


def _invariants(raw: Obj, level: str, path: str) -> Iterator[Cause]:
    items, more = raw.get("items"), raw.get("additionalProperties")
    if raw.get("type") == "array" and items is None:
        yield required(f"{path}.items", "must be specified")
    if isinstance(items, dict):
        yield from _invariants(items, "item", f"{path}.items")
    for name, child in (raw.get("properties") or {}).items():
        yield from _invariants(child, "field", f"{path}.properties[{name}]")
    if more is not None and level == "root":
        yield field_forbidden(f"{path}.additionalProperties", "must not be used at the root")
    if isinstance(more, dict):
        yield from _invariants(more, "field", f"{path}.additionalProperties")
    yield from _extension_errors(raw, path)
    yield from _value_validation(raw, _is_int_or_string(raw.get("anyOf")), _first_is_int_or_string(raw), path)
    yield from _type_rules(raw, level, path)
    yield from _root_field_rules(raw, level, path)


def _extension_errors(raw: Obj, path: str) -> Iterator[Cause]:
    if not raw.get("x-kubernetes-int-or-string"):
        return
    for name in ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"):
        if raw.get(name):
            yield invalid_value(f"{path}.{name}", True, "must be false if x-kubernetes-int-or-string is true")


def _type_rules(raw: Obj, level: str, path: str) -> Iterator[Cause]:
    declared = raw.get("type") or ""
    preserves = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
    if raw.get("x-kubernetes-embedded-resource"):
        why = "must be object if x-kubernetes-embedded-resource is true"
        if not declared:
            yield required(f"{path}.type", why)
        elif declared != "object":
            yield invalid_value(f"{path}.type", declared, why)
        if raw.get("additionalProperties") is not None:
            why = "must not be used if x-kubernetes-embedded-resource is set"
            yield field_forbidden(f"{path}.additionalProperties", why)
        if not preserves and not raw.get("properties"):
            why = (
                "must not be empty if x-kubernetes-embedded-resource is true without "
                "x-kubernetes-preserve-unknown-fields"
            )
            yield required(f"{path}.properties", why)
    elif not declared and not raw.get("x-kubernetes-int-or-string") and not preserves:
        yield required(f"{path}.type", _LEVELS[level])
    if level == "root" and declared and declared != "object":
        yield invalid_value(f"{path}.type", declared, "must be object at the root")


_METADATA_FORBIDS = ("description", "title", "nullable", "additionalProperties", "items")


def _root_field_rules(raw: Obj, level: str, path: str) -> Iterator[Cause]:
    """A schema may say little of what every resource has: the types that they have anyway, and what names look like."""
    properties = raw.get("properties") or {}
    if level != "root" and not raw.get("x-kubernetes-embedded-resource"):
        return
    for name in ROOT_FIELDS:
        if name not in properties:
            continue
        wanted = "object" if name == "metadata" else "string"
        if properties[name].get("type") != wanted:
            found = properties[name].get("type") or ""
            yield invalid_value(f"{path}.properties[{name}].type", found, f"must be {wanted}")
    if level == "root" and "metadata" in properties:
        metadata = properties["metadata"]
        too_much = any(name in _METADATA_FORBIDS or name.startswith("x-kubernetes-") for name in metadata)
        if too_much or set(metadata.get("properties") or ()) - {"name", "generateName"}:
            why = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            yield field_forbidden(f"{path}.properties[metadata]", why)


def _is_int_or_string(any_of: Any) -> bool:
    return bool(any_of == _INT_OR_STRING)


def _first_is_int_or_string(raw: Obj) -> bool:
    all_of: list[Obj] = raw.get("allOf") or []
    return bool(all_of) and _is_int_or_string(all_of[0].get("anyOf"))


def _value_validation(raw: Obj, skip_any_of: bool, skip_first: bool, path: str) -> Iterator[Cause]:
    if not skip_any_of:
        for index, nested in enumerate(raw.get("anyOf") or ()):
            yield from _nested(nested, False, f"{path}.anyOf[{index}]")
    for index, nested in enumerate(raw.get("allOf") or ()):
        yield from _nested(nested, skip_first and index == 0, f"{path}.allOf[{index}]")
    for index, nested in enumerate(raw.get("oneOf") or ()):
        yield from _nested(nested, False, f"{path}.oneOf[{index}]")
    if raw.get("not") is not None:
        yield from _nested(raw["not"], False, f"{path}.not")
    if raw.get("pattern"):
        try:
            check_regexp(raw["pattern"])
        except RegexpError as problem:
            why = f"must be a valid regular expression, but isn't: {problem}"
            yield invalid_value(f"{path}.pattern", raw["pattern"], why)


_FORBIDDEN_NESTED = {
    "type": "must be empty to be structural",
    "additionalProperties": "must be undefined to be structural",
    "default": "must be undefined to be structural",
    "title": "must be empty to be structural",
    "description": "must be empty to be structural",
    "nullable": "must be false to be structural",
    "x-kubernetes-preserve-unknown-fields": "must be false to be structural",
    "x-kubernetes-embedded-resource": "must be false to be structural",
    "x-kubernetes-int-or-string": "must be false to be structural",
    "x-kubernetes-list-map-keys": "must be empty to be structural",
    "x-kubernetes-list-type": "must be undefined to be structural",
    "x-kubernetes-map-type": "must be undefined to be structural",
}


def _nested(raw: Obj, skip_any_of: bool, path: str) -> Iterator[Cause]:
    """A schema below a junctor: it may only validate."""
    yield from _value_validation(raw, skip_any_of, False, path)
    if isinstance(raw.get("items"), dict):
        yield from _nested(raw["items"], False, f"{path}.items")
    for name, child in (raw.get("properties") or {}).items():
        yield from _nested(child, False, f"{path}.properties[{name}]")
    for name, why in _FORBIDDEN_NESTED.items():
        if raw.get(name):
            yield field_forbidden(f"{path}.{name}", why)
    if "metadata" in (raw.get("properties") or {}):
        yield field_forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


# Completeness: what a junctor speaks of is specified outside of it.


def _completeness(raw: Obj, skeleton: Obj | None, path: str) -> Iterator[Cause]:
    """`skeleton` is what is specified; None: `raw` itself, below which every junctor is held against it."""
    own = raw if skeleton is None else skeleton
    for name in JUNCTORS:
        for index, nested in enumerate(raw.get(name) or ()):
            yield from _specified(nested, own, f"{path}.{name}[{index}]", path)
    if raw.get("not") is not None:
        yield from _specified(raw["not"], own, f"{path}.not", path)
    if skeleton is None:
        if isinstance(raw.get("items"), dict):
            yield from _completeness(raw["items"], None, f"{path}.items")
        if isinstance(raw.get("additionalProperties"), dict):
            yield from _completeness(raw["additionalProperties"], None, f"{path}.additionalProperties")
        for name, child in (raw.get("properties") or {}).items():
            yield from _completeness(child, None, f"{path}.properties[{name}]")


def _specified(nested: Obj, skeleton: Obj, path: str, skeleton_path: str) -> Iterator[Cause]:
    yield from _completeness(nested, skeleton, path)
    if isinstance(nested.get("items"), dict):
        if not isinstance(skeleton.get("items"), dict):
            yield required(f"{skeleton_path}.items", f"because it is defined in {path}.items")
        else:
            yield from _specified(nested["items"], skeleton["items"], f"{path}.items", f"{skeleton_path}.items")
    specified = skeleton.get("properties") or {}
    for name, child in (nested.get("properties") or {}).items():
        here, there = f"{path}.properties[{name}]", f"{skeleton_path}.properties[{name}]"
        if name not in specified:
            yield required(there, f"because it is defined in {here}")
        else:
            yield from _specified(child, specified[name], here, there)


# Single keywords.


def schema_errors(raw: Obj, path: str, *, root: bool = True) -> list[Cause]:
    """Keywords that are not supported or do not go together, anywhere in a schema."""
    return list(_keywords(raw, path, root, "", False))


def _keywords(raw: Obj, path: str, root: bool, no_defaults: str, in_meta: bool) -> Iterator[Cause]:
    """`no_defaults` is why there may be none here, empty where there may; `in_meta` is true within ObjectMeta."""
    yield from _unsupported(raw, path, no_defaults, in_meta)
    more = raw.get("additionalProperties")
    if more is not None and raw.get("properties") and more is not True:
        why = "additionalProperties and properties are mutual exclusive"
        yield field_forbidden(f"{path}.additionalProperties", why)
    if isinstance(more, dict):
        why = "inside additionalProperties applying to object metadata" if in_meta else no_defaults
        yield from _keywords(more, f"{path}.additionalProperties", False, why, in_meta)
    resource = root or bool(raw.get("x-kubernetes-embedded-resource"))
    for name, child in (raw.get("properties") or {}).items():
        meta = resource and name in ROOT_FIELDS
        why = f"in top-level {name}" if meta and root else no_defaults
        yield from _keywords(child, f"{path}.properties[{name}]", False, why, in_meta or meta)
    for name in JUNCTORS:
        for index, child in enumerate(raw.get(name) or ()):
            yield from _keywords(child, f"{path}.{name}[{index}]", False, no_defaults, in_meta)
    if raw.get("not") is not None:
        yield from _keywords(raw["not"], f"{path}.not", False, no_defaults, in_meta)
    if isinstance(raw.get("items"), dict):
        yield from _keywords(raw["items"], f"{path}.items", False, no_defaults, in_meta)
    yield from _list_and_map_types(raw, path)
    yield from _map_keys_are_there(raw, path)
    yield from _rule_errors(raw, path)


_NOT_SUPPORTED = ("id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref")


def _unsupported(raw: Obj, path: str, no_defaults: str, in_meta: bool) -> Iterator[Cause]:
    declared = raw.get("type")
    if declared and declared not in TYPES:
        yield not_supported(f"{path}.type", declared, TYPES)
    if raw.get("default") is not None and no_defaults:
        yield field_forbidden(f"{path}.default", f"must not be set {no_defaults}")
    for name in _NOT_SUPPORTED:
        if raw.get(name):
            yield field_forbidden(f"{path}.{name}", f"{name} is not supported")
    if declared == "null":
        yield field_forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    if isinstance(raw.get("items"), list):
        yield field_forbidden(f"{path}.items", "items must be a schema object and not an array")
    if in_meta and raw.get("x-kubernetes-embedded-resource"):
        why = "must not be used inside of resource meta"
        yield field_forbidden(f"{path}.x-kubernetes-embedded-resource", why)
    if raw.get("uniqueItems"):
        why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        yield field_forbidden(f"{path}.uniqueItems", why)
    if raw.get("x-kubernetes-preserve-unknown-fields") is False:
        yield invalid_value(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")


def _list_and_map_types(raw: Obj, path: str) -> Iterator[Cause]:
    declared = raw.get("type") or ""
    for name, wanted, options in (
        ("x-kubernetes-map-type", "object", ("atomic", "granular")),
        ("x-kubernetes-list-type", "array", ("atomic", "set", "map")),
    ):
        given = raw.get(name)
        if given is None:
            continue
        if declared != wanted:
            why = f"must be {wanted} if {name} is specified"
            yield invalid_value(f"{path}.type", declared, why) if declared else required(f"{path}.type", why)
        elif given == "set":
            yield from _set_items(raw.get("items"), path)
        if given not in options:
            yield not_supported(f"{path}.{name}", given, options)
    keys, list_type = raw.get("x-kubernetes-list-map-keys") or [], raw.get("x-kubernetes-list-type")
    if keys and list_type != "map":
        where, why = f"{path}.x-kubernetes-list-type", "must be map if x-kubernetes-list-map-keys is non-empty"
        yield required(where, why) if list_type is None else invalid_value(where, list_type, why)
    if list_type == "map":
        yield from _map_items(raw, keys, path)


def _set_items(items: Any, path: str) -> Iterator[Cause]:
    if not isinstance(items, dict):
        return
    why = "must be atomic as item of a list with x-kubernetes-list-type=set"
    inner = items.get("x-kubernetes-list-type")
    if items.get("type") == "array" and inner not in (None, "atomic"):
        yield invalid_value(f"{path}.items.x-kubernetes-list-type", inner, why)
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        yield invalid_value(f"{path}.items.x-kubernetes-map-type", inner, why)


def _map_items(raw: Obj, keys: list[str], path: str) -> Iterator[Cause]:
    items = raw.get("items")
    if not keys:
        why = "must not be empty if x-kubernetes-list-type is map"
        yield required(f"{path}.x-kubernetes-list-map-keys", why)
    if items is None:
        yield required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map")
    if not isinstance(items, dict):
        return
    if items.get("type") != "object":
        why = "must be object if parent array's x-kubernetes-list-type is map"
        yield invalid_value(f"{path}.items.type", items.get("type") or "", why)
        return
    properties = items.get("properties") or {}
    for place, key in enumerate(keys):
        if key not in properties:
            why = "entries must all be names of item properties"
            yield invalid_value(f"{path}.x-kubernetes-list-map-keys", keys, why)
        elif properties[key].get("type") in ("array", "object"):
            why = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            yield invalid_value(f"{path}.items.properties[{key}].type", items["type"], why)
        if key in keys[:place]:
            yield invalid_value(f"{path}.x-kubernetes-list-map-keys", keys, "must not contain duplicate entries")


def _map_keys_are_there(raw: Obj, path: str) -> Iterator[Cause]:
    """Items of sets and maps are not null, and the keys of a map are in every item."""
    items, list_type = raw.get("items"), raw.get("x-kubernetes-list-type")
    if not isinstance(items, dict) or list_type not in ("set", "map"):
        return
    if items.get("nullable"):
        why = f"cannot be nullable when x-kubernetes-list-type is {list_type}"
        yield field_forbidden(f"{path}.items.nullable", why)
    if list_type == "set":
        return
    properties, needed = items.get("properties") or {}, items.get("required") or ()
    for key in raw.get("x-kubernetes-list-map-keys") or ():
        child = properties.get(key)
        if child is None:
            continue
        what = "this property is in x-kubernetes-list-map-keys, so it"
        if key not in needed and child.get("default") is None:
            why = f"{what} must have a default or be a required property"
            yield required(f"{path}.items.properties[{key}].default", why)
        if child.get("nullable"):
            yield field_forbidden(f"{path}.items.properties[{key}].nullable", f"{what} cannot be nullable")


_REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")


def _rule_errors(raw: Obj, path: str) -> Iterator[Cause]:
    """What can be said of rules in CEL without reading the expressions."""
    for index, rule in enumerate(raw.get("x-kubernetes-validations") or ()):
        here = f"{path}.x-kubernetes-validations[{index}]"
        text, message = (rule.get("rule") or "").strip(), rule.get("message") or ""
        if not text:
            yield required(f"{here}.rule", "rule is not specified")
        elif message and not message.strip():
            yield invalid_value(f"{here}.message", message, "message must be non-empty if specified")
        elif _has_newlines(message.strip()):
            yield invalid_value(f"{here}.message", message, "message must not contain line breaks")
        elif _has_newlines(text) and not message.strip():
            yield required(f"{here}.message", "message must be specified if rule contains line breaks")
        if rule.get("messageExpression") and not rule["messageExpression"].strip():
            yield required(f"{here}.messageExpression", "messageExpression must be non-empty if specified")
        if rule.get("reason") is not None and rule["reason"] not in _REASONS:
            yield not_supported(f"{here}.reason", rule["reason"], _REASONS)
        where = rule.get("fieldPath") or ""
        if where and not where.strip():
            yield invalid_value(f"{here}.fieldPath", where, "fieldPath must be non-empty if specified")
        if _has_newlines(where):
            yield invalid_value(f"{here}.fieldPath", where, "fieldPath must not contain line breaks")


def _has_newlines(text: str) -> bool:
    return "\n" in text or "\r" in text


# Documents that are no schema.

_SCALARS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("type", "format", "title", "description", "pattern", "id", "$schema", "$ref"), (str,)),
    **dict.fromkeys(("maxLength", "minLength", "maxItems", "minItems", "maxProperties", "minProperties"), (int,)),
    **dict.fromkeys(("maximum", "minimum", "multipleOf"), (int, float)),
    **dict.fromkeys(("exclusiveMaximum", "exclusiveMinimum", "uniqueItems", "nullable"), (bool,)),
    **dict.fromkeys(("x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"), (bool,)),
    "x-kubernetes-int-or-string": (bool,),
    "x-kubernetes-list-type": (str,),
    "x-kubernetes-map-type": (str,),
}
_LISTS: dict[str, type] = {
    "required": str,
    "x-kubernetes-list-map-keys": str,
    "enum": object,
    "x-kubernetes-validations": dict,
    **dict.fromkeys(JUNCTORS, dict),
}
_WORDS = {str: "string", int: "integer", float: "number", bool: "boolean", dict: "object"}


def type_errors(raw: Any, path: str) -> list[Cause]:
    """Keywords whose values are not of their type, anywhere: the other rules read only schemas without any."""
    return list(_types(raw, path))


def _types(raw: Any, path: str) -> Iterator[Cause]:
    if not isinstance(raw, dict):
        yield wrong_type(path, raw, "must be of type object")
        return
    for name, wanted in _SCALARS.items():
        if raw.get(name) is not None and type(raw[name]) not in wanted:
            yield wrong_type(f"{path}.{name}", raw[name], f"must be of type {_WORDS[wanted[-1]]}")
    for name, of in _LISTS.items():
        yield from _list_of(raw.get(name), of, f"{path}.{name}")
    for name in ("properties", "patternProperties", "definitions"):
        children = raw.get(name)
        if children is not None and not isinstance(children, dict):
            yield wrong_type(f"{path}.{name}", children, "must be of type object")
        elif children:
            for key, child in children.items():
                yield from _types(child, f"{path}.{name}[{key}]")
    for name, other in (("items", list), ("additionalProperties", bool), ("not", type(None))):
        if raw.get(name) is not None and not isinstance(raw[name], other):
            yield from _types(raw[name], f"{path}.{name}")


def _list_of(value: Any, of: type, path: str) -> Iterator[Cause]:
    if value is not None and not isinstance(value, list):
        yield wrong_type(path, value, "must be of type array")
        return
    for index, item in enumerate(value or ()):
        if not isinstance(item, of):
            yield wrong_type(f"{path}[{index}]", item, f"must be of type {_WORDS[of]}")
        elif isinstance(item, dict) and not path.endswith("x-kubernetes-validations"):
            yield from _types(item, f"{path}[{index}]")
        elif isinstance(item, dict):
            for name in ("rule", "message", "messageExpression", "reason", "fieldPath"):
                if item.get(name) is not None and not isinstance(item[name], str):
                    yield wrong_type(f"{path}[{index}].{name}", item[name], "must be of type string")
