"""OpenAPI: `/openapi/v2`, and `/openapi/v3` with one document for each group and version.

Structure comes from the generated schemas and the registry; descriptions are read, while a document is built, from
the installed package `kubernetes-validate`, and are simply missing where it is. A document is built when it is first
asked for, and only its compressed bytes are kept: megabytes of JSON come to some tens of kilobytes. Specified at
https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-interface-definition.
"""

from __future__ import annotations

import copy
import gzip
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from pinnace.apis.kind import Kind
from pinnace.apiserver import openapi_proto
from pinnace.apiserver.aggregation.openapi import Told, added
from pinnace.apiserver.openapi_custom import CustomModels
from pinnace.apiserver.openapi_paths import PATCH, Operation, operations_of
from pinnace.apiserver.openapi_roots import VERSION, resources_operation, root_operations
from pinnace.apiserver.openapi_writing import Reference, paths_v2, paths_v3
from pinnace.machinery.meta import GVK, Obj
from pinnace.machinery.schema import Schemas

JSON = "application/json"
PROTOBUF_ACCEPT = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"

_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_PATCH_DEFINITION = _META + "Patch"
_SHARED = ("/openapi/v2", "/openapi/v3")  # documents that tell of every server
_VERSION_DEFINITION = "io.k8s.apimachinery.pkg.version.Info"
_BEARER = {
    "BearerToken": {
        "description": "Bearer Token authentication",
        "in": "header",
        "name": "authorization",
        "type": "apiKey",
    }
}


@dataclass(frozen=True, slots=True)
class OpenApiDocument:
    """One answer. Send `Vary: Accept, Accept-Encoding` with it."""

    content_type: str
    body: bytes
    etag: str  # in its quotes
    content_encoding: str = ""  # gzip, or nothing
    immutable: bool = False  # the URL named this very content: it may be cached for ever


class OpenApi:
    """The OpenAPI documents of one set of kinds; `with_more` makes those of more.

    `document` may take a few hundred milliseconds when it builds: call it in a thread. What is built of the built-in
    kinds is kept while custom ones come and go: version 2 is put together of both.
    """

    def __init__(self, schemas: Schemas, kinds: Iterable[Kind], version: str) -> None:
        self._schemas = schemas
        self._kinds = list(kinds)
        self._version = version  # v1.37.0
        self._packed: dict[str, bytes] = {}
        self._builtin_packed: dict[str, bytes] = {}  # version 2 without custom kinds
        self._builtin_names = {**schemas.kinds, PATCH: _PATCH_DEFINITION, VERSION: _VERSION_DEFINITION}
        self._names = self._builtin_names
        self._custom = CustomModels((), schemas)
        self._others: list[Told] = []

    def with_more(self, kinds: Iterable[Kind], others: Iterable[Told] = ()) -> OpenApi:
        """The documents of the same built-in kinds, these custom ones, and what other servers told, the first first.

        This one may be building still.
        """
        other = copy.copy(self)
        other._custom = CustomModels(list(kinds), self._schemas)
        other._others = list(others)
        other._names = {**other._custom.names, **self._builtin_names}
        changed = {f"/openapi/v3{kind.gvr.prefix}" for kind in (*self._custom.kinds, *other._custom.kinds)}
        changed |= {"/openapi/v2", "/openapi/v2+protobuf", *self._converted, *other._converted}
        other._packed = {key: packed for key, packed in list(self._packed.items()) if key not in changed}
        for name in ("_served", "_group_versions", "_index"):
            other.__dict__.pop(name, None)
        return other

    def document(
        self, path: str, accept: str = "", accept_encoding: str = "", hash_asked: str = ""
    ) -> OpenApiDocument | None:
        """What a GET of `path` answers, None if there is no such document; `hash_asked` is the query's `hash`."""
        path = path.rstrip("/")
        if path == "/openapi/v3":
            return OpenApiDocument(JSON, self._index, self._etag(path))
        key, content_type = path, JSON
        if path == "/openapi/v2":
            if _wants_protobuf(accept):
                key, content_type = "/openapi/v2+protobuf", openapi_proto.CONTENT_TYPE
        elif path not in self._served and path not in self._converted:
            return None
        packed = self._packed.get(key)
        if packed is None:
            packed = self._packed[key] = gzip.compress(self._build(key), 6, mtime=0)
        etag = self._etag(key)
        immutable = bool(hash_asked) and hash_asked == etag.strip('"')
        if "gzip" in accept_encoding:
            return OpenApiDocument(content_type, packed, etag, "gzip", immutable)
        return OpenApiDocument(content_type, gzip.decompress(packed), etag, "", immutable)

    # What there is.

    @cached_property
    def _roots(self) -> dict[str, Operation]:
        """What is served outside the groups and versions, each by the path of its document."""
        groups: dict[str, None] = {kind.group: None for kind in self._kinds}
        found = root_operations((group, ()) for group in groups)
        return {f"/openapi/v3{operation.path.rstrip('/')}": operation for operation in found}

    @cached_property
    def _served(self) -> set[str]:
        return {*self._roots, *self._group_versions}

    @property
    def _converted(self) -> dict[str, Obj]:
        """Documents of others that are told here, by their paths; ours come first."""
        found = {f"/openapi/v3/{name}": obj for one in self._others for name, obj in one.converted.items()}
        return {path: obj for path, obj in found.items() if path not in self._served}

    @cached_property
    def _group_versions(self) -> dict[str, list[Kind]]:
        """Kinds by the path of their group and version's document."""
        found: dict[str, list[Kind]] = {}
        for kind in (*self._kinds, *self._custom.kinds):
            found.setdefault(f"/openapi/v3{kind.gvr.prefix}", []).append(kind)
        return found

    @cached_property
    def _index(self) -> bytes:
        paths = {
            path.removeprefix("/openapi/v3/"): {"serverRelativeURL": f"{path}?hash={self._etag(path).strip(chr(34))}"}
            for path in sorted({*self._served, *self._converted})
        }
        for one in self._others:
            for name, url in one.urls.items():
                paths.setdefault(name, {"serverRelativeURL": url})
        return orjson.dumps({"paths": dict(sorted(paths.items()))})

    def _etag(self, path: str) -> str:
        """Names the content without building it: a hash of all that it is made from."""
        custom = self._custom.digest(path.removeprefix("/openapi/v3") if path.startswith("/openapi/v3/") else "")
        told_there = path.removesuffix("+protobuf") in _SHARED or path in self._converted
        others = b"".join(one.digest for one in self._others) if told_there else b""
        return f'"{hashlib.sha512(self._fingerprint + path.encode() + custom + others).hexdigest().upper()}"'

    @cached_property
    def _fingerprint(self) -> bytes:
        digest = hashlib.sha512(self._version.encode())
        for module in ("openapi", "openapi_paths", "openapi_proto", "openapi_roots", "openapi_writing"):
            digest.update(Path(__file__).with_name(f"{module}.py").read_bytes())
        for kind in self._kinds:
            names = [each.name for each in kind.subresources]
            digest.update(repr((kind.gvr, kind.kind, kind.verbs, kind.has_status, bool(kind.scale), names)).encode())
        source = _prose_file(self._schemas.minor)
        digest.update(repr((self._schemas.minor, source and source.stat().st_size)).encode())
        return digest.digest()

    # Building.

    def _build(self, key: str) -> bytes:
        prose = _read_prose(self._schemas.minor)
        if key.startswith("/openapi/v2"):
            return self._join_v2(key, prose)
        root = self._roots.get(key)
        if root is not None:
            return orjson.dumps(self._build_v3([root], [], prose))
        if key in self._converted:
            return orjson.dumps(self._converted[key])
        kinds = self._group_versions[key]
        operations = [operation for kind in kinds for operation in operations_of(kind)]
        if not kinds[0].custom:
            operations.append(resources_operation(kinds[0].group, kinds[0].version))
        return orjson.dumps(self._build_v3(operations, kinds, prose))

    # Version 2: the document of the built-in kinds, built once, with what the custom kinds and other servers add. In
    # protobuf, messages put one after the other are one message.

    def _join_v2(self, key: str, prose: Obj) -> bytes:
        own = self._with_custom_v2(key, prose)
        if not any(one.part for one in self._others):
            return own
        packed = key.endswith("protobuf")
        whole = orjson.loads(self._with_custom_v2("/openapi/v2", prose) if packed else own)
        more = added(whole, [one.part for one in self._others])
        if packed:
            return own + openapi_proto.encode(more)
        for section, nodes in more.items():
            whole[section].update(nodes)
        return orjson.dumps(whole)

    def _with_custom_v2(self, key: str, prose: Obj) -> bytes:
        own = self._builtin_v2(key, prose)
        if not self._custom.kinds:
            return own
        operations = [operation for kind in self._custom.kinds for operation in operations_of(kind)]
        custom = self._build_v2(operations, self._custom.kinds, prose)  # its parameters are there already
        custom["definitions"] = {name: node for name, node in custom["definitions"].items() if name in self._custom}
        if key.endswith("protobuf"):
            return own + openapi_proto.encode({name: custom[name] for name in ("paths", "definitions")})
        head, _, rest = own.partition(b',"paths":{')
        paths, _, definitions = rest.partition(b'},"definitions":{')
        more = [orjson.dumps(custom[name])[1:-1] + b"," for name in ("paths", "definitions")]
        return b"".join((head, b',"paths":{', more[0], paths, b'},"definitions":{', more[1], definitions))

    def _builtin_v2(self, key: str, prose: Obj) -> bytes:
        packed = self._builtin_packed.get(key)
        if packed is not None:
            return gzip.decompress(packed)
        encode = openapi_proto.encode if key.endswith("protobuf") else orjson.dumps
        own = encode(self._build_v2(self._builtin_operations, self._kinds, prose))
        self._builtin_packed[key] = gzip.compress(own, 6, mtime=0)
        return own

    def _build_v2(self, operations: list[Operation], kinds: list[Kind], prose: Obj) -> Obj:
        paths, parameters = paths_v2(operations, self._to("#/definitions/"))
        definitions = {name: self._definition(name, prose, _to_v2) for name in self._closure(operations, kinds)}
        return {
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": self._version},
            "security": [{"BearerToken": []}],
            "securityDefinitions": _BEARER,
            "parameters": parameters,
            "paths": paths,
            "definitions": definitions,
        }

    def _build_v3(self, operations: list[Operation], kinds: list[Kind], prose: Obj) -> Obj:
        paths = paths_v3(operations, self._to("#/components/schemas/"))
        schemas = {name: self._definition(name, prose, _to_v3) for name in self._closure(operations, kinds)}
        return {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": self._version},
            "paths": paths,
            "components": {"schemas": schemas, "securitySchemes": _BEARER},
        }

    @cached_property
    def _builtin_operations(self) -> list[Operation]:
        groups: dict[str, dict[str, None]] = {}
        for kind in self._kinds:
            groups.setdefault(kind.group, {})[kind.version] = None
        return [*root_operations(groups.items()), *(one for kind in self._kinds for one in operations_of(kind))]

    def _closure(self, operations: Iterable[Operation], kinds: Iterable[Kind]) -> list[str]:
        """The definitions that the operations speak of, and those that these speak of, by name."""
        asked = {kind.gvk for kind in kinds}
        for operation in operations:
            asked |= {gvk for gvk in (operation.body, operation.answer) if gvk}
        waiting = [self._names[gvk] for gvk in asked if gvk in self._names]
        found: set[str] = set()
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                custom = name in self._custom
                waiting.extend(self._custom.references(name) if custom else _references(self._schemas.raw(name)))
        return sorted(found)

    def _definition(self, name: str, prose: Obj, convert: Any) -> Obj:
        if name in self._custom:
            old = convert is _to_v2
            prefix = "#/definitions/" if old else "#/components/schemas/"
            return self._custom.definition(name, prose, prefix, old=old)
        node: Obj = convert(self._schemas.raw(name), prose.get(name) or {})
        gvks = self._gvks.get(name)
        if gvks:
            node["x-kubernetes-group-version-kind"] = gvks
        return node

    @cached_property
    def _gvks(self) -> dict[str, list[Obj]]:
        found: dict[str, list[Obj]] = {}
        for gvk, name in self._schemas.kinds.items():
            found.setdefault(name, []).append(gvk._asdict())
        return found

    def _to(self, prefix: str) -> Reference:
        """What refers to definitions that stand below `prefix`."""

        def reference(gvk: GVK) -> Obj:
            name = self._names.get(gvk)
            return {"$ref": prefix + name} if name else {"type": "object"}

        return reference


def _wants_protobuf(accept: str) -> bool:
    """Whether protobuf comes before JSON among what the client takes; newer clients write `.v1.0` for `@v1.0`."""
    for offer in accept.split(","):
        media = offer.partition(";")[0].strip()
        if media in (PROTOBUF_ACCEPT, openapi_proto.CONTENT_TYPE):
            return True
        if media in (JSON, "application/*", "*/*"):
            return False
    return False


# Definitions.


def _references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                yield value
            else:
                yield from _references(value)


def _to_v2(node: Obj, prose: Obj) -> Obj:
    """A schema as version 2 writes it, descriptions added."""
    if node.get("format") == "quantity":
        node = {"type": "string"}
    if "$ref" in node:
        node["$ref"] = f"#/definitions/{node['$ref']}"
    return _described(node, prose, _to_v2)


def _to_v3(node: Obj, prose: Obj) -> Obj:
    """A schema as version 3 writes it: what stands beside a reference moves around it."""
    if node.get("format") == "quantity":
        node = {"oneOf": [{"type": "string"}, {"type": "number"}]}
    elif node.get("format") == "int-or-string":
        node = {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]}
    if "$ref" in node:
        reference = {"$ref": f"#/components/schemas/{node.pop('$ref')}"}
        node = {**node, "allOf": [reference]} if node or "description" in prose else reference
    return _described(node, prose, _to_v3)


def _described(node: Obj, prose: Obj, convert: Any) -> Obj:
    """The node with its own description and its children's; `node` is a fresh copy and may change."""
    if "properties" in node:
        told = prose.get("properties") or {}
        node["properties"] = {
            field: convert(child, told.get(field) or {}) for field, child in node["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if key in node:
            node[key] = convert(node[key], prose.get(key) or {})
    description = prose.get("description")
    return {"description": description, **node} if description else node


def _prose_file(minor: int) -> Path | None:
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "kubernetes-json-schema" / f"v1.{minor}.0-local" / "_definitions.json"
    return path if path.exists() else None


def _read_prose(minor: int) -> Obj:
    """The package's definitions, from which only descriptions are taken; let go of it soon."""
    path = _prose_file(minor)
    if path is None:
        return {}
    found: Obj = orjson.loads(path.read_bytes())["$defs"]
    return found
