"""The models of custom resources in OpenAPI: an object and a list for each kind, made from the definition's schema.

Version 3 publishes a schema as it is; version 2 has no words for nullable values, junctors and unknown fields, and
says less rather than something false. Names are `com.example.stable.v1.CronTab`. Specified in
https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#publish-validation-schema-in-openapi.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from pinnace.apis.kind import Kind
from pinnace.machinery.meta import GVK, Obj
from pinnace.machinery.schema import Schemas
from pinnace.machinery.structural import Structural

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_TOLD_BY = "io.k8s.api.core.v1.Pod"  # whose prose describes what every resource has
_LISTED_BY = "io.k8s.api.core.v1.PodList"
_JUNCTORS = ("allOf", "anyOf", "oneOf", "not")
_STRUCTURE = ("items", "properties", "additionalProperties")


class CustomModels:
    """The definitions of a set of custom kinds, made when they are asked for."""

    def __init__(self, kinds: Sequence[Kind], schemas: Schemas) -> None:
        self.kinds = list(kinds)
        self.names: dict[GVK, str] = {}
        self._sources: dict[str, tuple[Kind, bool]] = {}  # the kind of a model, and whether it is the list
        self._schemas = {kind.gvk: schemas.custom.get(kind.gvk) for kind in kinds}
        for kind in self.kinds:
            base = ".".join([*reversed(kind.group.split(".")), kind.version])
            for is_list, name in ((False, kind.kind), (True, kind.list_kind)):
                self.names[kind.gvk._replace(kind=name)] = f"{base}.{name}"
                self._sources[f"{base}.{name}"] = (kind, is_list)

    def __contains__(self, name: str) -> bool:
        return name in self._sources

    def digest(self, prefix: str = "") -> bytes:
        """Names what is published of the kinds below a path: all of them when it is empty; nothing without any."""
        found = [kind for kind in self.kinds if not prefix or kind.gvr.prefix == prefix]
        digest = hashlib.sha512()
        for kind in found:
            schema = self._schemas[kind.gvk]
            raw = orjson.dumps(schema.raw) if isinstance(schema, Structural) else b""
            shown = (kind.gvk, kind.plural, kind.list_kind, kind.namespaced, kind.has_status, kind.scale)
            digest.update(repr((*shown, *kind.selectable_fields)).encode() + raw)
        return digest.digest() if found else b""

    def definition(self, name: str, prose: Obj, prefix: str, *, old: bool) -> Obj:
        """One model; `prefix` is where references point, `old` asks for version 2."""
        kind, is_list = self._sources[name]
        gvk = kind.gvk._replace(kind=kind.list_kind if is_list else kind.kind)
        if is_list:
            node = self._list(kind, prose, prefix, old)
        else:
            schema = self._schemas[kind.gvk]
            raw = schema.raw if isinstance(schema, Structural) else {"type": "object"}
            node = {"type": "object"} if old and _preserves(raw) else self._resource(raw, prose, prefix, old)
        node["x-kubernetes-group-version-kind"] = [gvk._asdict()]
        if kind.selectable_fields and not is_list:
            node["x-kubernetes-selectable-fields"] = [{"fieldPath": path} for path in kind.selectable_fields]
        return node

    def references(self, name: str) -> list[str]:
        """The models that a model speaks of."""
        kind, is_list = self._sources[name]
        return [_META + "ListMeta", self.names[kind.gvk]] if is_list else [_META + "ObjectMeta"]

    def _resource(self, raw: Obj, prose: Obj, prefix: str, old: bool) -> Obj:
        """A schema with what every resource has."""
        node = _converted(raw, self, prose, prefix, old)
        given = node.get("properties") or {}
        node["properties"] = {**given, **_root_fields(prose, _TOLD_BY, "ObjectMeta", prefix, old)}
        return node

    def _list(self, kind: Kind, prose: Obj, prefix: str, old: bool) -> Obj:
        fields = _root_fields(prose, _LISTED_BY, "ListMeta", prefix, old)
        items = {
            "type": "array",
            "items": {"$ref": prefix + self.names[kind.gvk]},
            "description": f"List of {kind.plural}.",
        }
        return {
            "description": f"{kind.list_kind} is a list of {kind.kind}",
            "type": "object",
            "required": ["items"],
            "properties": {**fields, "items": items},
        }


def _root_fields(prose: Obj, told_by: str, meta: str, prefix: str, old: bool) -> Obj:
    told = (prose.get(told_by) or {}).get("properties") or {}
    fields: Obj = {name: _described({"type": "string"}, told.get(name)) for name in ("apiVersion", "kind")}
    reference = {"$ref": f"{prefix}{_META}{meta}"}
    if old or not (told.get("metadata") or {}).get("description"):
        fields["metadata"] = _described(reference, told.get("metadata"))
    else:
        fields["metadata"] = _described({"allOf": [reference]}, told.get("metadata"))
    return fields


def _described(node: Obj, prose: Obj | None) -> Obj:
    description = (prose or {}).get("description")
    return {"description": description, **node} if description else node


def _converted(raw: Obj, models: CustomModels, prose: Obj, prefix: str, old: bool) -> Obj:
    """A node and what is below it."""
    hidden: tuple[str, ...] = ()
    if old:
        hidden = (*_JUNCTORS, "nullable")
        if raw.get("nullable"):
            hidden = (*hidden, *_STRUCTURE, "type")
        elif _preserves(raw):
            hidden = (*hidden, *_STRUCTURE)
    node: Obj = {key: value for key, value in raw.items() if key not in hidden}
    if old and raw.get("x-kubernetes-int-or-string"):
        node.pop("type", None)
    if old and not isinstance(node.get("additionalProperties"), dict):
        node.pop("additionalProperties", None)

    def below(child: Any) -> Any:
        if not isinstance(child, dict):
            return child
        if child.get("x-kubernetes-embedded-resource") and not (old and _preserves(child)):
            return models._resource(child, prose, prefix, old)
        return _converted(child, models, prose, prefix, old)

    if isinstance(node.get("properties"), dict):
        node["properties"] = {name: below(child) for name, child in node["properties"].items()}
        if old and node.get("required"):
            nullable = {name for name, child in raw["properties"].items() if child.get("nullable")}
            node["required"] = [name for name in node["required"] if name not in nullable]
    for key in ("items", "additionalProperties"):
        if key in node:
            node[key] = below(node[key])
    return node


def _preserves(raw: Obj) -> bool:
    return bool(raw.get("x-kubernetes-preserve-unknown-fields"))
