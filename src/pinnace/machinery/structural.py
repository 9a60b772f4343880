"""Structural schemas: what a CustomResourceDefinition says of its objects, made into the schema nodes of the house.

A `Structural` is a `Schema` that was written by a user instead of being generated: fields, types, list and map keys are
found in the same places, so server-side apply and field validation need not know the difference. Pruning is done here;
`structural_defaults`, `structural_values` and `structural_rules` have what else it is for, specified in
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#specifying-a-structural-schema.
"""

from __future__ import annotations

from typing import Any

from pinnace.machinery.decoding import DecodeError, strict_error
from pinnace.machinery.meta import GVK, Obj, gvk_of
from pinnace.machinery.schema import Schema, Schemas, Type

OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
ROOT_FIELDS = ("apiVersion", "kind", "metadata")  # every resource has these, whatever its schema says

_STRING: Obj = {"type": "string"}


class Structural(Schema):
    """One node of a structural schema. Shared and read-only."""

    __slots__ = ("embedded", "nullable", "preserve", "raw", "resource")

    def __init__(self, raw: Obj, object_meta: Schema, *, root: bool = False) -> None:
        self.raw = raw  # as the definition has it: value validations and defaults are read from here
        self.name = ""
        self.format = raw.get("format", "")
        self.required = frozenset(raw.get("required") or ())
        self.list_type = raw.get("x-kubernetes-list-type", "")
        self.list_map_keys = tuple(raw.get("x-kubernetes-list-map-keys") or ())
        self.map_type = raw.get("x-kubernetes-map-type", "")
        self.patch_merge_key = ""
        self.patch_strategy = ()
        self.nullable = bool(raw.get("nullable"))
        self.preserve = bool(raw.get("x-kubernetes-preserve-unknown-fields"))
        self.embedded = bool(raw.get("x-kubernetes-embedded-resource"))
        self.resource = root or self.embedded  # has apiVersion, kind and metadata
        self.type = _type_of(raw, self.resource)
        self.items = _items(raw, object_meta)
        self._raw = None
        self._accept = None
        self._fields = {name: Structural(child, object_meta) for name, child in (raw.get("properties") or {}).items()}
        if self.resource:
            string = Structural(_STRING, object_meta)
            self._fields = {**self._fields, "apiVersion": string, "kind": string, "metadata": object_meta}

    def child(self, name: str) -> Schema | None:
        found = super().child(name)
        return self if found is None and self.type == "any" else found

    def decode(self, obj: Any, strict: bool = False, gvk: GVK | None = None) -> tuple[Obj, list[str]]:
        """As `Schema.decode`, for a document with `apiVersion` and `kind`; wrong types within it are for validation."""
        named = gvk or gvk_of(obj)
        pruned, unknown = prune(self, obj, named)
        if strict and unknown:
            raise strict_error(named, unknown)
        return pruned, unknown


def compile_structural(raw: Obj, schemas: Schemas) -> Structural:
    """The root node of a definition's `openAPIV3Schema`."""
    return Structural(raw, schemas.definition(OBJECT_META), root=True)


def _type_of(raw: Obj, resource: bool) -> Type:
    if raw.get("x-kubernetes-int-or-string"):
        return "int-or-string"
    declared = raw.get("type")
    if declared == "array":
        return "list"
    if declared in ("boolean", "integer", "number", "string"):
        scalar: Type = declared
        return scalar
    if declared != "object":
        return "any"
    if isinstance(raw.get("additionalProperties"), dict):
        return "map"
    if resource or raw.get("properties") or not raw.get("x-kubernetes-preserve-unknown-fields"):
        return "any" if raw.get("additionalProperties") is True and not resource else "object"
    return "any"


def _items(raw: Obj, object_meta: Schema) -> Schema | None:
    child = raw.get("items") if raw.get("type") == "array" else raw.get("additionalProperties")
    return Structural(child, object_meta) if isinstance(child, dict) else None


# Pruning.


def prune(schema: Structural, obj: Any, gvk: GVK) -> tuple[Obj, list[str]]:
    """The object without fields that its schema does not have, and a warning for each, by path.

    What does not change is shared: `obj` is not modified. Metadata, also that of embedded resources, is read as
    `ObjectMeta`. Raises DecodeError (400) for metadata that is none; `gvk` is what the message names.
    """
    walk = _Pruner(gvk)
    pruned = walk.visit(schema, obj, "")
    return pruned, sorted(walk.unknown)


class _Pruner:
    def __init__(self, gvk: GVK) -> None:
        self.unknown: list[str] = []
        self._gvk = gvk

    def visit(self, node: Structural, value: Any, path: str) -> Any:
        if type(value) is dict:
            return self._object(node, value, path)
        if type(value) is list:
            return self._list(node, value, path)
        return value

    def _object(self, node: Structural, value: Obj, path: str) -> Obj:
        fields, items = node.fields, node.items if node.type == "map" else None
        kept: Obj = {}
        changed = False
        for name, item in value.items():
            here = f"{path}.{name}" if path else name
            child = fields.get(name) or items
            if child is None:
                if node.preserve or node.type == "any":
                    kept[name] = item
                else:
                    changed = True
                    self.unknown.append(f'unknown field "{here}"')
                continue
            if node.resource and name in ROOT_FIELDS:
                new = self._root_field(child, name, item, here)
            else:
                new = self.visit(child, item, here)  # type: ignore[arg-type] # only metadata is another Schema
            kept[name] = new
            changed = changed or new is not item
        return kept if changed else value

    def _list(self, node: Structural, value: list[Any], path: str) -> list[Any]:
        if not isinstance(node.items, Structural) or node.type != "list":
            return value
        kept = [self.visit(node.items, item, f"{path}[{index}]") for index, item in enumerate(value)]
        return value if all(new is old for new, old in zip(kept, value, strict=True)) else kept

    def _root_field(self, schema: Schema, name: str, value: Any, path: str) -> Any:
        if name != "metadata":
            if type(value) is not str:
                raise DecodeError(self._gvk, f"{path}: Invalid value: {value!r}: must be a string")
            return value
        if value is None:
            return value
        meta, unknown = schema.decode(value, False, self._gvk)
        self.unknown += [message.replace('"', f'"{path}.', 1) for message in unknown]
        return meta
