"""What each kind looks like: fields, types, required fields, merge and list keys, for every minor of Kubernetes served.

The facts come from package data that `tools/gen_schema.py` writes. One minor's text is a third of a megabyte and
stays undecoded; a definition is parsed when something first asks for it. `Schema.decode` reads a document as
Kubernetes' typed decoders do: `decoding.py` has its rules. OpenAPI's extensions are described at
https://kubernetes.io/docs/reference/using-api/server-side-apply/#merge-strategy.
"""

from __future__ import annotations

import copy
import re
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import orjson

from pinnace.machinery.meta import GVK, Obj

Type = Literal[
    "any",  # any JSON value, taken as it is
    "boolean",
    "byte",  # base64 text
    "int-or-string",
    "integer",  # int32 or int64, as `format` says
    "list",
    "map",
    "micro-time",
    "number",
    "object",  # has `fields`
    "quantity",
    "string",
    "time",
]

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_BY_NAME: dict[str, Type] = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    _META + "FieldsV1": "any",
    _META + "MicroTime": "micro-time",
    _META + "Time": "time",
}


class Schema:
    """One node of a kind's tree: a definition, or what a field of one holds. Shared and read-only."""

    __slots__ = (
        "_accept",
        "_fields",
        "_raw",
        "_schemas",
        "_typed",
        "format",
        "items",
        "list_map_keys",
        "list_type",
        "map_type",
        "name",
        "patch_merge_key",
        "patch_strategy",
        "required",
        "type",
    )

    def __init__(self, schemas: Schemas, raw: Obj, name: str = "") -> None:
        self.name = name  # of the definition: io.k8s.api.core.v1.Pod; empty for what is written in place
        self.type = _type_of(raw, name)
        self.format: str = raw.get("format", "")
        self.required = frozenset(raw.get("required", ()))
        self.list_type: str = raw.get("x-kubernetes-list-type", "")  # atomic, map, set
        self.list_map_keys: tuple[str, ...] = tuple(raw.get("x-kubernetes-list-map-keys", ()))
        self.map_type: str = raw.get("x-kubernetes-map-type", "")  # atomic, granular
        self.patch_merge_key: str = raw.get("x-kubernetes-patch-merge-key", "")
        self.patch_strategy = tuple(filter(None, raw.get("x-kubernetes-patch-strategy", "").split(",")))
        child = raw.get("items") or raw.get("additionalProperties")
        self.items: Schema | None = schemas._node(child) if child else None  # of a list or a map
        self._schemas = schemas
        self._raw: Obj | None = raw if self.type == "object" else None  # until `fields` is asked for
        self._fields: dict[str, Schema] = {}
        self._accept: Any = None  # compiled by `decoding`
        self._typed: Any = None  # made by `typed`

    def __repr__(self) -> str:
        return f"Schema({self.name or self.type})"

    @property
    def fields(self) -> dict[str, Schema]:
        """The fields of an object by name; empty for every other type."""
        if self._raw is not None:
            self._fields = {name: self._schemas._node(node) for name, node in self._raw["properties"].items()}
            self._raw = None
        return self._fields

    def child(self, name: str) -> Schema | None:
        """What the field or the map entry `name` holds; None for an unknown field or a scalar."""
        if self.type == "object":
            return self.fields.get(name)
        return self.items if self.type == "map" else None

    @property
    def short_name(self) -> str:
        """`Pod` of `io.k8s.api.core.v1.Pod`: the name of the Go struct."""
        return self.name.rpartition(".")[2]

    def decode(self, obj: Any, strict: bool = False, gvk: GVK | None = None) -> tuple[Obj, list[str]]:
        """Read a document of this kind: `(object, warnings)`.

        The object has no unknown fields, no nulls and no empty optional lists or maps; times and quantities are in
        canonical form. It is `obj` itself where there was nothing to change, and otherwise shares what did not
        change: `obj` is never modified. A warning is `unknown field "spec.foo"`. Raises `DecodeError` (400) for a
        value of the wrong type and, if `strict`, for unknown fields. `gvk` says what the error calls the document;
        else its own `apiVersion` and `kind` do.
        """
        from pinnace.machinery import decoding

        return decoding.decode(self, obj, strict, gvk)


class Schemas:
    """Every definition of one minor of Kubernetes. Make it with `load`."""

    def __init__(self, minor: int, text: bytes) -> None:
        head, _, body = text.partition(b"\n")
        self.minor = minor
        self._lines = dict(line.split(b"\t", 1) for line in body.splitlines())
        self._definitions: dict[str, Schema] = {}
        self._inline: dict[bytes, Schema] = {}
        self.kinds: dict[GVK, str] = {GVK(*entry[:3]): entry[3] for entry in orjson.loads(head)}
        self.custom: dict[GVK, Schema] = {}  # of kinds that were defined while the server runs

    @staticmethod
    def minors() -> list[int]:
        """The minors that can be served, oldest first."""
        names = (re.fullmatch(r"v1\.(\d+)\.z", entry.name) for entry in _FOLDER.iterdir())
        return sorted(int(match[1]) for match in names if match)

    @staticmethod
    def load(minor: int | None = None) -> Schemas:
        """The definitions of `1.<minor>`, the newest by default; shared. Raises LookupError for one not carried."""
        return _load(Schemas.minors()[-1] if minor is None else minor)

    def fork(self) -> Schemas:
        """The same definitions, with custom kinds of its own."""
        forked = copy.copy(self)
        forked.custom = {}
        return forked

    def for_gvk(self, gvk: GVK) -> Schema | None:
        """The schema of a kind, or None where there is no such kind."""
        name = self.kinds.get(gvk)
        return self.definition(name) if name else self.custom.get(gvk)

    def names(self) -> list[str]:
        """The names of all definitions, sorted."""
        return [name.decode() for name in self._lines]

    def raw(self, name: str) -> Obj:
        """A definition as OpenAPI writes it, a fresh copy without descriptions; references are bare names."""
        raw: Obj = orjson.loads(self._lines[name.encode()])
        return raw

    def definition(self, name: str) -> Schema:
        """A definition by its full name; raises KeyError for an unknown one."""
        found = self._definitions.get(name)
        if found is None:
            found = self._definitions[name] = Schema(self, self.raw(name), name)
        return found

    def _node(self, raw: Obj) -> Schema:
        """The schema of a field, an item or a map value; nodes that say the same are one object."""
        reference = raw.get("$ref")
        if reference and len(raw) == 1:
            return self.definition(reference)
        key = orjson.dumps(raw)
        found = self._inline.get(key)
        if found is None:
            # A reference may add to what it refers to (`spec.strategy` retains keys): the field's own words win.
            found = Schema(self, {**self.raw(reference), **raw}, reference) if reference else Schema(self, raw)
            self._inline[key] = found
        return found


def _type_of(raw: Obj, name: str) -> Type:
    if name in _BY_NAME:
        return _BY_NAME[name]
    declared = raw.get("type")
    if declared == "object":
        return "object" if "properties" in raw else "map" if "additionalProperties" in raw else "any"
    if declared == "array":
        return "list" if "items" in raw else "any"
    if declared == "string":
        return "byte" if raw.get("format") == "byte" else "string"
    if declared in ("boolean", "integer", "number"):
        scalar: Type = declared
        return scalar
    return "any"


_FOLDER = Path(__file__).parent / "schemas"


@lru_cache(maxsize=4)
def _load(minor: int) -> Schemas:
    try:
        packed = (_FOLDER / f"v1.{minor}.z").read_bytes()
    except FileNotFoundError:
        served = ", ".join(f"1.{each}" for each in Schemas.minors())
        raise LookupError(f"Kubernetes 1.{minor} is not one of the versions carried: {served}") from None
    return Schemas(minor, zlib.decompress(packed))
