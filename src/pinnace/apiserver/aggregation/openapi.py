"""What registered servers tell of themselves in OpenAPI, and how it is told among our own.

Of a server's document for version 2 only the paths of its group and version count, and the definitions these speak of.
A definition that we have by the same name, but otherwise, is told under the name with `_v2` behind it, as
kube-aggregator does. Version 3 leaves every document with the server that wrote it; the index says where. For a server
that has none its document of version 2 is told in version 3 here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from pinnace.apiserver import openapi_proto
from pinnace.apiserver.aggregation import openapi_v3
from pinnace.machinery.meta import Obj

_SECTIONS = ("definitions", "parameters")
_GVK = "x-kubernetes-group-version-kind"


@dataclass(frozen=True, slots=True)
class Told:
    """What one server told, cut to its group and version; nothing where it told nothing."""

    part: Obj = field(default_factory=dict)  # of version 2: paths, definitions, parameters
    urls: dict[str, str] = field(default_factory=dict)  # of version 3: `apis/group/version` -> URL
    converted: dict[str, Obj] = field(default_factory=dict)  # `apis/group/version` -> what it is instead of at a URL
    digest: bytes = b""


NOTHING = Told()


def told(v2: bytes, v3: bytes, group: str, version: str) -> Told:
    """Read a server's documents, empty where it has none; what cannot be read counts for nothing."""
    name = f"apis/{group}/{version}"
    part, urls = _part(v2, group, version), _urls(v3, name)
    instead = {name: _converted(v2, part)} if part and not urls else {}
    return Told(part, urls, instead, hashlib.sha512(orjson.dumps([part, urls, instead])).digest())


def _part(document: bytes, group: str, version: str) -> Obj:
    try:
        whole = orjson.loads(document)
        base = f"/apis/{group}/{version}/"
        paths = {path: item for path, item in whole["paths"].items() if f"{path}/".startswith(base)}
        part: Obj = {"paths": paths, **{section: {} for section in _SECTIONS}}
        waiting = list(_references(paths))
        while waiting:
            section, name = waiting.pop()
            if name not in part[section]:
                part[section][name] = whole[section][name]
                waiting.extend(_references(part[section][name]))
        openapi_proto.encode(part)
        openapi_v3.converted({**part, "info": {}})
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
    return part


def _converted(document: bytes, part: Obj) -> Obj:
    """The part in version 3."""
    whole = orjson.loads(document)
    about = {name: whole[name] for name in ("consumes", "produces") if name in whole}
    return openapi_v3.converted({**part, **about, "info": whole.get("info") or {"title": "", "version": ""}})


def _urls(index: bytes, name: str) -> dict[str, str]:
    try:
        url = orjson.loads(index)["paths"][name]["serverRelativeURL"]
    except (ValueError, KeyError, TypeError):
        return {}
    return {name: url} if isinstance(url, str) and url.startswith("/openapi/v3/") else {}


def added(own: Obj, parts: Iterable[Obj]) -> Obj:
    """What the parts add to our own document of version 2, in their order; paths that are there already stay."""
    found: Obj = {"paths": {}, **{section: {} for section in _SECTIONS}}
    for part in parts:
        if not part:
            continue
        renamed: dict[str, str] = {}
        fresh: list[tuple[str, str, Any]] = []
        for section in _SECTIONS:
            known = {**own.get(section, {}), **found[section]}
            for name, node in part[section].items():
                free = _free_name(name, node, known)
                if free != name:
                    renamed[f"#/{section}/{name}"] = f"#/{section}/{free}"
                if free not in known:
                    fresh.append((section, free, node))
        for section, name, node in fresh:
            found[section][name] = _redirected(node, renamed)
        for path, item in part["paths"].items():
            if path not in own["paths"]:
                found["paths"].setdefault(path, _redirected(item, renamed))
    return found


def _free_name(name: str, node: Any, known: Obj) -> str:
    """The name of an equal node, or one that nothing has."""
    candidate, number = name, 1
    while candidate in known and not _equal(known[candidate], node):
        number += 1
        candidate = f"{name}_v{number}"
    return candidate


def _equal(one: Obj, other: Obj) -> bool:
    """Whether two nodes say the same; which kinds they are of does not count."""
    return {**one, _GVK: None} == {**other, _GVK: None}


def _references(node: Any) -> Iterator[tuple[str, str]]:
    """Sections and names of what a node refers to."""
    if isinstance(node, dict):
        target = node.get("$ref")
        if isinstance(target, str):
            _, section, name = target.split("/", 2)
            yield section, name
        for child in node.values():
            yield from _references(child)
    elif isinstance(node, list):
        for child in node:
            yield from _references(child)


def _redirected(node: Any, renamed: dict[str, str]) -> Any:
    if not renamed:
        return node
    if isinstance(node, dict):
        return {
            key: renamed.get(child, child) if key == "$ref" and isinstance(child, str) else _redirected(child, renamed)
            for key, child in node.items()
        }
    return [_redirected(child, renamed) for child in node] if isinstance(node, list) else node
