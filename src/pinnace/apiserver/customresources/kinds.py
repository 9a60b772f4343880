"""From a CustomResourceDefinition to the `Kind`s it defines: one for each version, with the behaviour its schema gives.

A definition that was accepted has no part that cannot be read here. Specified in
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pinnace.apis.definition_schemas import rules_of, schema_of
from pinnace.apis.definitions import condition_is
from pinnace.apis.fields import text_at
from pinnace.apis.kind import Default, Kind, ScalePaths, Validate, ValidateUpdate
from pinnace.apis.metadata import name_is_subdomain, validate_metadata, validate_metadata_update
from pinnace.apiserver.customresources.columns import columns_of
from pinnace.machinery.errors import Cause, invalid_value, required
from pinnace.machinery.meta import Obj, get_in, version_order
from pinnace.machinery.schema import Schema, Schemas
from pinnace.machinery.structural import Structural, compile_structural
from pinnace.machinery.structural_defaults import set_defaults
from pinnace.machinery.structural_values import list_type_errors, validate_values

VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_MAX_INT32 = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a custom resource."""

    kind: Kind
    schema: Structural
    served: bool


def versions_of(definition: Obj, schemas: Schemas) -> dict[str, Version]:
    """Every version of the definition by name, also those that are not served."""
    spec = definition["spec"]
    names = (definition.get("status") or {}).get("acceptedNames") or spec["names"]
    found: dict[str, Version] = {}
    for given in spec.get("versions") or ():
        schema = compile_structural(schema_of(given) or {"type": "object"}, schemas)
        kind = _kind(definition, names, given, schema)
        found[given["name"]] = Version(kind, schema, bool(given.get("served")))
    return found


def storage_version(definition: Obj) -> str:
    """The version that objects are written in."""
    return next(str(one["name"]) for one in definition["spec"]["versions"] if one.get("storage"))


def _kind(definition: Obj, names: Obj, given: Obj, schema: Structural) -> Kind:
    spec = definition["spec"]
    subresources = given.get("subresources") or {}
    columns, row = columns_of(given.get("additionalPrinterColumns") or [])
    namespaced = spec.get("scope") == "Namespaced"
    rules = _Rules(schema, namespaced, subresources.get("scale"))
    return Kind(
        group=spec["group"],
        version=given["name"],
        kind=names.get("kind") or spec["names"]["kind"],
        plural=names.get("plural") or spec["names"]["plural"],
        singular=names.get("singular") or "",
        list_kind=names.get("listKind") or "",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        namespaced=namespaced,
        verbs=VERBS,
        has_status="status" in subresources,
        scale=_scale_paths(subresources.get("scale")),
        columns=columns,
        row=row,
        default=rules.default,
        validate=rules.validate,
        validate_update=rules.validate_update,
        selectable_fields=_selectable(given.get("selectableFields") or []),
        storage_version=storage_version(definition),
        unconditional_update=False,
        custom=True,
        terminating=condition_is(definition, "Terminating"),
        deprecation=_deprecation(spec, given),
    )


def _scale_paths(scale: Obj | None) -> ScalePaths | None:
    if scale is None:
        return None
    return ScalePaths(
        scale["specReplicasPath"].removeprefix("."),
        scale["statusReplicasPath"].removeprefix("."),
        (scale.get("labelSelectorPath") or "").removeprefix("."),
    )


def _selectable(fields: list[Obj]) -> Mapping[str, Callable[[Obj], str]]:
    paths = [str(field["jsonPath"]).removeprefix(".") for field in fields]
    return {path: text_at(path) for path in paths}


def _deprecation(spec: Obj, given: Obj) -> str:
    """The warning that every request to a deprecated version is answered with."""
    if not given.get("deprecated"):
        return ""
    if given.get("deprecationWarning"):
        return str(given["deprecationWarning"])
    group, kind = spec["group"], spec["names"]["kind"]
    order = version_order(given["name"])
    better = [
        one["name"]
        for one in spec["versions"]
        if one.get("served") and not one.get("deprecated") and version_order(one["name"]) < order
    ]
    instead = f"; use {group}/{min(better, key=version_order)} {kind}" if better else ""
    return f"{group}/{given['name']} {kind} is deprecated{instead}"


class _Rules:
    """Defaults and validation of one version's objects."""

    def __init__(self, schema: Structural, namespaced: bool, scale: Obj | None) -> None:
        self._schema = schema
        self._namespaced = namespaced
        self._scale = scale
        self.default: Default = self._default
        self.validate: Validate = self._validate
        self.validate_update: ValidateUpdate = self._validate_update

    @cached_property
    def _rules(self) -> Any:
        """The rules in CEL, None without any. Compiled for the first write: a server starts with hundreds of kinds."""
        return rules_of(self._schema.raw)[0]

    def _default(self, obj: Obj) -> None:
        set_defaults(self._schema, obj)

    def _validate(self, obj: Obj) -> list[Cause]:
        causes = validate_metadata(obj["metadata"], self._namespaced, name_is_subdomain)
        causes += validate_values(self._schema.raw, obj)
        causes += self._replicas(obj)
        causes += _embedded(self._schema, obj, "")
        causes += list_type_errors(self._schema, obj)
        if not causes and self._rules is not None:
            causes += self._rules.validate(obj, None)
        return causes

    def _validate_update(self, new: Obj, old: Obj) -> list[Cause]:
        causes = validate_metadata_update(new["metadata"], old["metadata"])
        causes += validate_values(self._schema.raw, new, "", old)
        causes += self._replicas(new)
        causes += _embedded(self._schema, new, "")
        repeated = list_type_errors(self._schema, new)
        if repeated and not list_type_errors(self._schema, old):
            causes += repeated
        if not causes and self._rules is not None:
            causes += self._rules.validate(new, old)
        return causes

    def _replicas(self, obj: Obj) -> list[Cause]:
        """What `/scale` shows must be numbers, whatever the schema says."""
        if self._scale is None:
            return []
        causes: list[Cause] = []
        for key in ("specReplicasPath", "statusReplicasPath"):
            path = self._scale[key]
            value = get_in(obj, *path.removeprefix(".").split("."))
            if value is None:
                continue
            if type(value) is not int:
                why = f"{path} accessor error: {value} is of the type {_go_type(value)}, expected int64"
                causes.append(invalid_value(path, value, why))
            elif value < 0:
                causes.append(invalid_value(path, value, "should be a non-negative integer"))
            elif value > _MAX_INT32:
                causes.append(invalid_value(path, value, f"should be less than or equal to {_MAX_INT32}"))
        return causes


_GO_TYPES: dict[type, str] = {
    str: "string",
    bool: "bool",
    float: "float64",
    list: "[]interface {}",
    dict: "map[string]interface {}",
}


def _go_type(value: Any) -> str:
    return _GO_TYPES.get(type(value), "interface {}")


def _embedded(schema: Schema | None, value: Any, path: str) -> list[Cause]:
    """Resources within the object: they say what they are, and their metadata is as any."""
    causes: list[Cause] = []
    if not isinstance(schema, Structural):
        return causes
    if isinstance(value, dict):
        if schema.embedded:
            missing = [key for key in ("apiVersion", "kind") if not value.get(key)]
            causes += [required(f"{path}.{key}", "must not be empty") for key in missing]
            meta = value.get("metadata")
            if isinstance(meta, dict) and meta.get("name"):
                causes += validate_metadata(meta, bool(meta.get("namespace")), name_is_subdomain, f"{path}.metadata")
        for name, item in value.items():
            if isinstance(item, dict | list):
                child = schema.fields.get(name) or (schema.items if schema.type == "map" else None)
                causes += _embedded(child, item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and schema.type == "list":
        for index, item in enumerate(value):
            causes += _embedded(schema.items, item, f"{path}[{index}]")
    return causes
