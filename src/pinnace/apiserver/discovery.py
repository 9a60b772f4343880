"""Discovery: the documents that tell clients which groups, versions and resources there are.

Two shapes of the same facts, made of the registry: one small document for each group and version, and the aggregated
list (`apidiscovery.k8s.io`), which tells all in two requests and has an ETag. Specified at
https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import orjson

from pinnace.apis.kind import Kind, Subresource
from pinnace.machinery.meta import Obj

JSON = "application/json"
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
_CHANGE = ("get", "patch", "update")

Document = tuple[str, bytes, str]
"""Content type, body, and the ETag in its quotes (empty where the document has none)."""


class Discovery:
    """Every discovery document of one set of kinds, each encoded when it is first asked for and kept as bytes.

    `groups` is `(group, versions)` in the order they are shown, preferred version first. When the kinds change (a
    CustomResourceDefinition comes or goes), make a new one.
    """

    def __init__(
        self,
        groups: Sequence[tuple[str, Sequence[str]]],
        kinds: Iterable[Kind],
        server_address: str = "",
        *,
        storage_hashes: bool = True,
    ) -> None:
        self._groups = groups
        self._storage_hashes = storage_hashes  # whether resources say what they are stored as
        self._server_address = server_address  # host:port shown to clients in /api
        self._versions: dict[tuple[str, str], list[Kind]] = {}
        for kind in sorted(kinds, key=lambda kind: kind.plural):
            self._versions.setdefault((kind.group, kind.version), []).append(kind)
        self._builders: dict[str, Callable[[], Obj]] = {"/api": self._core_versions, "/apis": self._group_list}
        for group, versions in groups:
            if group:
                self._builders[f"/apis/{group}"] = partial(self._one_group, group, versions)
            for version in versions:
                path = f"/apis/{group}/{version}" if group else f"/api/{version}"
                self._builders[path] = partial(self._resource_list, group, version)
        self._made: dict[tuple[str, str], Document] = {}

    def document(self, path: str, accept: str) -> Document | None:
        """What a GET of `path` answers; None if discovery serves no such path.

        With a non-empty ETag, answer `If-None-Match` and send `Vary: Accept`.
        """
        path = path.rstrip("/")
        build = self._builders.get(path)
        if build is None:
            return None
        version = _aggregated_version(accept) if path in ("/api", "/apis") else ""
        made = self._made.get((path, version))
        if made is None:
            made = self._made[path, version] = self._make(path, version, build)
        return made

    def _make(self, path: str, version: str, build: Callable[[], Obj]) -> Document:
        if not version:
            return JSON, orjson.dumps(build()), ""
        body = orjson.dumps(self._aggregated(path, version))
        etag = f'"{hashlib.sha512(body).hexdigest().upper()}"'
        return _AGGREGATED.format(version), body, etag

    # The plain documents.

    def _core_versions(self) -> Obj:
        versions = [version for group, versions in self._groups if not group for version in versions]
        addresses = [{"clientCIDR": "0.0.0.0/0", "serverAddress": self._server_address}]
        return {"kind": "APIVersions", "versions": versions, "serverAddressByClientCIDRs": addresses}

    def _group_list(self) -> Obj:
        groups = [_group(group, versions) for group, versions in self._groups if group]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def _one_group(self, group: str, versions: Sequence[str]) -> Obj:
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, versions)}

    def _resource_list(self, group: str, version: str) -> Obj:
        resources = [entry for kind in self._versions.get((group, version), ()) for entry in self._entries(kind)]
        head: Obj = {"kind": "APIResourceList"}
        if group:
            head["apiVersion"] = "v1"
        return {**head, "groupVersion": f"{group}/{version}" if group else version, "resources": resources}

    def _entries(self, kind: Kind) -> list[Obj]:
        found = _resources(kind)
        if not self._storage_hashes:
            found[0].pop("storageVersionHash", None)
        return found

    # The aggregated document.

    def _aggregated(self, path: str, version: str) -> Obj:
        items = [
            {
                "metadata": {"name": group, "creationTimestamp": None} if group else {"creationTimestamp": None},
                "versions": [self._version_entry(group, each) for each in versions],
            }
            for group, versions in self._groups
            if bool(group) == (path == "/apis")
        ]
        api_version = f"apidiscovery.k8s.io/{version}"
        return {"kind": "APIGroupDiscoveryList", "apiVersion": api_version, "metadata": {}, "items": items}

    def _version_entry(self, group: str, version: str) -> Obj:
        resources = [_aggregated_resource(kind) for kind in self._versions.get((group, version), ())]
        return {"version": version, "resources": resources, "freshness": "Current"}


def subresources_of(kind: Kind) -> list[Subresource]:
    """Every path below an object of the kind, `/status` and `/scale` among them, by name."""
    found = list(kind.subresources)
    if kind.has_status:
        found.append(Subresource("status", kind.kind, _CHANGE))
    if kind.scale:
        found.append(Subresource("scale", "Scale", _CHANGE, "autoscaling", "v1"))
    return sorted(found, key=lambda each: each.name)


def _aggregated_version(accept: str) -> str:
    """The version of aggregated discovery that the client likes best, empty where it wants the plain documents."""
    for offer in accept.split(","):
        media, *given = (part.strip() for part in offer.split(";"))
        parameters = dict(part.partition("=")[::2] for part in given)
        if media == JSON and parameters.get("as") == "APIGroupDiscoveryList":
            if parameters.get("g") == "apidiscovery.k8s.io" and parameters.get("v") in ("v2", "v2beta1"):
                return parameters["v"]
        elif media in (JSON, "application/*", "*/*") and "as" not in parameters:
            return ""
    return ""


def _group(group: str, versions: Sequence[str]) -> Obj:
    shown = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": shown, "preferredVersion": shown[0]}


def _resources(kind: Kind) -> list[Obj]:
    own: Obj = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": _verbs(kind),
    }
    if kind.short_names:
        own["shortNames"] = list(kind.short_names)
    if kind.categories:
        own["categories"] = list(kind.categories)
    if kind.is_stored and "create" in kind.verbs:
        own["storageVersionHash"] = _storage_version_hash(kind)
    entries = [own]
    for each in subresources_of(kind):
        entry: Obj = {"name": f"{kind.plural}/{each.name}", "singularName": "", "namespaced": kind.namespaced}
        if each.version:
            entry |= {"group": each.group, "version": each.version}
        entries.append({**entry, "kind": each.kind, "verbs": list(each.verbs)})
    return entries


def _storage_version_hash(kind: Kind) -> str:
    """Names what objects are stored as, so that clients see when that changes; Kubernetes' own hash."""
    stored = f"{kind.storage.group}/{kind.storage_version or kind.storage.version}/{kind.kind}"
    return base64.b64encode(hashlib.sha256(stored.encode()).digest()[:8]).decode()


def _verbs(kind: Kind) -> list[str]:
    """What a client may try: where a definition is being deleted, its objects may only be seen and deleted."""
    return [verb for verb in kind.verbs if not kind.terminating or verb not in ("create", "patch", "update")]


def _aggregated_resource(kind: Kind) -> Obj:
    entry: Obj = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": _verbs(kind),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    below = [
        {
            "subresource": each.name,
            "responseKind": {
                "group": each.group if each.version else kind.group,
                "version": each.version or kind.version,
                "kind": each.kind,
            },
            "verbs": list(each.verbs),
        }
        for each in subresources_of(kind)
    ]
    return {**entry, "subresources": below} if below else entry
