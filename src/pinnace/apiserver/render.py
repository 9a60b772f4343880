"""Results as bytes: objects, lists, tables, bare metadata, watch events, in JSON or YAML.

Stored bytes are passed on as they are wherever the client wants what is stored. Tables and partial metadata are
https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from pinnace.apis.kind import Kind
from pinnace.apiserver.cache import CachedObject, join_bodies
from pinnace.apiserver.call import Many, One, shown
from pinnace.apiserver.negotiate import JSON, Format, dump
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj, utc_now
from pinnace.wire.http import Response

JSON_HEADERS = (("Content-Type", JSON), ("Cache-Control", "no-cache, private"))


class View:
    """How one client sees objects of one kind; `key` identifies it among the views of a cache."""

    __slots__ = ("_as_stored", "_form", "_include", "_kind", "key")

    def __init__(self, kind: Kind, form: Format, include: str = "") -> None:
        self._kind = kind
        self._form = form
        if include not in ("", "None", "Metadata", "Object"):
            raise errors.bad_request(f'Invalid value: "{include}": must be one of None, Metadata, Object')
        self._include: Any = include or "Metadata"
        self._as_stored = not form.variant and (kind.stored_as is None or kind.stored_as == kind.gvr)
        self.key: Any = None if self._as_stored else (kind.gvr, form.variant, form.version, self._include)

    def encode(self, obj: CachedObject) -> bytes:
        """One object as JSON."""
        return obj.body() if self._as_stored else orjson.dumps(self.show(obj))

    def show(self, obj: CachedObject | Obj) -> Obj:
        """One object as a JSON value."""
        form = self._form
        found = shown(self._kind, obj)
        if form.variant == "Table":
            meta = {"resourceVersion": found["metadata"].get("resourceVersion", "")}
            return self._table([found], meta)
        if form.variant:
            return _partial(found, form.version)
        return found

    def event(self, kind: str, obj: CachedObject) -> bytes:
        """A line of a watch."""
        return b'{"type":"%b","object":%b}\n' % (kind.encode(), self.encode(obj))

    def bookmark(self, revision: int, annotations: dict[str, str] | None = None) -> bytes:
        return orjson.dumps({"type": "BOOKMARK", "object": self.bookmark_object(revision, annotations)}) + b"\n"

    def bookmark_object(self, revision: int, annotations: dict[str, str] | None = None) -> Obj:
        meta: Obj = {"resourceVersion": str(revision), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        form = self._form
        if form.variant == "Table":
            row = {"cells": [], "object": {**_partial_type("v1"), "metadata": meta}}
            return {"kind": "Table", "apiVersion": f"meta.k8s.io/{form.version}", "columnDefinitions": None,
                    "metadata": {"resourceVersion": str(revision)}, "rows": [row]}  # fmt: skip
        if form.variant:
            return {**_partial_type(form.version), "metadata": meta}
        return {"kind": self._kind.kind, "apiVersion": self._kind.gvr.api_version, "metadata": meta}

    def list_body(self, many: Many) -> bytes:
        """A list as JSON."""
        kind, form = self._kind, self._form
        if self._as_stored:
            head = b'{"kind":"%b","apiVersion":"%b","metadata":%b,"items":[' % (
                kind.list_kind.encode(),
                kind.gvr.api_version.encode(),
                orjson.dumps(many.metadata),
            )
            if many.whole is not None:
                return many.whole[0].whole_list(many.whole[1], head)
            return b"".join((head, join_bodies(many.items), b"]}"))
        return orjson.dumps(self.list_object(many)) if form.variant or kind.stored_as else b""

    def list_object(self, many: Many) -> Obj:
        kind, form = self._kind, self._form
        if form.variant == "Table":
            return self._table([shown(kind, item) for item in many.items], many.metadata)
        items = [self.show(item) for item in many.items]
        if form.variant:
            head: Obj = {"kind": "PartialObjectMetadataList", "apiVersion": f"meta.k8s.io/{form.version}"}
        else:
            head = {"kind": kind.list_kind, "apiVersion": kind.gvr.api_version}
        return {**head, "metadata": many.metadata, "items": items}

    def _table(self, objs: list[Obj], metadata: Obj) -> Obj:
        from pinnace.machinery import table

        rendered = table.render(self._kind, objs, utc_now(), self._include, metadata)
        if self._form.version != "v1":
            rendered = {**rendered, "apiVersion": f"meta.k8s.io/{self._form.version}"}
        return rendered


def _partial_type(version: str) -> Obj:
    return {"kind": "PartialObjectMetadata", "apiVersion": f"meta.k8s.io/{version}"}


def _partial(obj: Obj, version: str) -> Obj:
    return {**_partial_type(version), "metadata": obj["metadata"]}


def render_one(one: One, kind: Kind, form: Format, include: str, warnings: list[str]) -> Response:
    """An object as a response."""
    headers = JSON_HEADERS if not warnings else (*JSON_HEADERS, *warning_headers(warnings))
    obj = one.obj
    if isinstance(obj, CachedObject):
        view = View(kind, form, include)
        if not (form.yaml or form.pretty):
            return Response(one.status, headers, view.encode(obj))
        value = view.show(obj)
    elif one.kind is not None:
        value = View(one.kind, form, include).show(obj)
    else:
        value = obj
    body, content_type = dump(value, form)
    return Response(one.status, _typed(headers, content_type), body)


def render_many(many: Many, kind: Kind, form: Format, include: str, warnings: list[str]) -> Response:
    """A list as a response."""
    headers = JSON_HEADERS if not warnings else (*JSON_HEADERS, *warning_headers(warnings))
    view = View(kind, form, include)
    if not (form.yaml or form.pretty):
        return Response(200, headers, view.list_body(many))
    body, content_type = dump(view.list_object(many), form)
    return Response(200, _typed(headers, content_type), body)


def _typed(headers: Iterable[tuple[str, str]], content_type: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, content_type if name == "Content-Type" else value) for name, value in headers)


def warning_headers(warnings: list[str]) -> list[tuple[str, str]]:
    """`Warning: 299 - "text"` each, once (RFC 7234)."""
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") for text in dict.fromkeys(warnings))
    return [("Warning", f'299 - "{text}"') for text in quoted]
