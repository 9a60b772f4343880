"""Discovery and OpenAPI with the groups of registered servers among our own, in the order of their priorities."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import orjson

from pinnace.apiserver.aggregation.backend import Backend
from pinnace.apiserver.aggregation.local import priorities
from pinnace.apiserver.discovery import Document
from pinnace.machinery.meta import Obj, version_order
from pinnace.wire.http import AnyResponse, Response, StreamingResponse, unframe_chunk


async def body_of(answer: AnyResponse) -> bytes:
    """The whole body of an answer."""
    if isinstance(answer, Response):
        return answer.body
    if not isinstance(answer, StreamingResponse):
        return b""
    collected = _Collected()
    await answer.run(collected)
    return b"".join(collected.pieces)


class _Collected:
    """A `Writer` that keeps what it is given."""

    closed = False

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def write_framed(self, chunk: bytes) -> None:
        self.pieces.append(unframe_chunk(chunk))

    async def drain(self) -> None:
        return

    def on_close(self, callback: Any) -> None:
        """Nobody goes away."""


def resources_of(resource_list: Obj, group: str, version: str) -> list[Obj]:
    """An APIResourceList as aggregated discovery tells it: subresources below their resource."""
    found: dict[str, Obj] = {}
    for entry in resource_list["resources"]:
        name, _, below = entry["name"].partition("/")
        kind = {
            "group": entry.get("group") or group,
            "version": entry.get("version") or version,
            "kind": entry["kind"],
        }
        if below:
            subresource = {"subresource": below, "responseKind": kind, "verbs": entry.get("verbs") or []}
            found.setdefault(name, {"resource": name}).setdefault("subresources", []).append(subresource)
            continue
        shown: Obj = {
            "resource": name,
            "responseKind": kind,
            "scope": "Namespaced" if entry.get("namespaced") else "Cluster",
            "singularResource": entry.get("singularName") or "",
            "verbs": entry.get("verbs") or [],
        }
        for optional in ("shortNames", "categories"):
            if entry.get(optional):
                shown[optional] = entry[optional]
        found[name] = {**shown, **found.get(name, {})}
    return [entry for entry in found.values() if "responseKind" in entry]


def with_backends(path: str, document: Document | None, backends: Iterable[Backend]) -> Document | None:
    """A discovery document of our own with what registered servers add to it."""
    added = sorted(backends, key=_rank)
    parts = path.strip("/").split("/")
    if parts[0] != "apis" or len(parts) > 2:
        return document
    if len(parts) == 2:
        return _one_group(parts[1], document, [backend for backend in added if backend.group == parts[1]])
    assert document is not None
    content_type, body, etag = document
    whole = orjson.loads(body)
    if "groups" in whole:
        whole["groups"] = _placed(whole["groups"], _plain_groups(added), lambda entry: entry["name"])
    else:
        whole["items"] = _placed(whole["items"], _aggregated_groups(added), lambda entry: entry["metadata"]["name"])
    changed = orjson.dumps(whole)
    return content_type, changed, f'"{hashlib.sha512(changed).hexdigest().upper()}"' if etag else ""


def _rank(backend: Backend) -> tuple[str, int, object]:
    return backend.group, -(backend.spec.get("versionPriority") or 0), version_order(backend.version)


def _one_group(group: str, document: Document | None, backends: list[Backend]) -> Document | None:
    if not backends:
        return document
    own = orjson.loads(document[1])["versions"] if document is not None else []
    entry = _plain_group(group, own, backends)
    body = orjson.dumps({"kind": "APIGroup", "apiVersion": "v1", **entry})
    return "application/json", body, ""


def _plain_group(group: str, own: list[Obj], backends: list[Backend]) -> Obj:
    versions = {entry["version"]: entry for entry in own}
    for backend in backends:
        shown = {"groupVersion": f"{group}/{backend.version}", "version": backend.version}
        versions.setdefault(backend.version, shown)
    asked = {backend.version: backend.spec.get("versionPriority") or 0 for backend in backends}

    def rank(version: str) -> tuple[int, object]:
        return -asked.get(version, priorities(group, version)[1]), version_order(version)

    ordered = [versions[version] for version in sorted(versions, key=rank)]
    return {"name": group, "versions": ordered, "preferredVersion": ordered[0]}


def _plain_groups(backends: list[Backend]) -> list[tuple[int, Obj]]:
    return [(least, _plain_group(group, [], of_group)) for least, group, of_group in _by_group(backends)]


def _aggregated_groups(backends: list[Backend]) -> list[tuple[int, Obj]]:
    found = []
    for least, group, of_group in _by_group(backends):
        versions = [
            {
                "version": backend.version,
                "resources": backend.resources,
                "freshness": "Current" if backend.available else "Stale",
            }
            for backend in of_group
        ]
        found.append((least, {"metadata": {"name": group, "creationTimestamp": None}, "versions": versions}))
    return found


def _by_group(backends: list[Backend]) -> list[tuple[int, str, list[Backend]]]:
    """`(priority, group, servers)`; the highest priority that a version asks for is the group's."""
    groups: dict[str, list[Backend]] = {}
    for backend in backends:
        groups.setdefault(backend.group, []).append(backend)
    return [
        (max(one.spec.get("groupPriorityMinimum") or 0 for one in of_group), group, of_group)
        for group, of_group in groups.items()
    ]


def _placed(own: list[Obj], added: list[tuple[int, Obj]], name_of: Any) -> list[Obj]:
    """Our own groups, and each added one before the first of lower priority; ours win where both have a group."""
    names = {name_of(entry) for entry in own}
    whole = list(own)
    for least, entry in sorted(added, key=lambda each: -each[0]):
        if name_of(entry) in names:
            known = next(one for one in whole if name_of(one) == name_of(entry))
            told = {version["version"] for version in known["versions"]}
            known["versions"] = [*known["versions"], *(v for v in entry["versions"] if v["version"] not in told)]
            continue
        at = next((place for place, one in enumerate(whole) if _priority(name_of(one)) < least), len(whole))
        whole.insert(at, entry)
    return whole


def _priority(group: str) -> int:
    return priorities(group, "v1")[0]
