"""The field manager behind a write, and `metadata.managedFields` kept up to date with what it changes.

The rules are `machinery.managed_fields`; here is what they need to know of a request: who writes, what its path can
change, and the object in the versions in which others have written it.
https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import orjson

from pinnace.apis.kind import Kind
from pinnace.apiserver.call import Call, shown, to_storage
from pinnace.machinery import errors, managed_fields
from pinnace.machinery.errors import ApiError, Cause
from pinnace.machinery.fieldset import EMPTY, LEAF, Fields, FieldsError
from pinnace.machinery.managed_fields import MAX_MANAGER, Author
from pinnace.machinery.meta import GVK, Obj, format_time, parse_api_version, utc_now
from pinnace.machinery.typed import Node, node_of

T = TypeVar("T")

_COMPONENTS = {"admin": "pinnace", "apiserver": "kube-apiserver", "kubernetes-admin": "pinnace", "node": "kubelet"}
_STATUS: Fields = {"f:status": LEAF}
_SPEC: Fields = {"f:spec": LEAF}
_ONLY: dict[str, Fields] = {  # what these paths change
    "approval": {"f:status": {"f:conditions": LEAF}},
    "ephemeralcontainers": {"f:spec": {"f:ephemeralContainers": LEAF}},
    "finalize": {"f:spec": {"f:finalizers": LEAF}},
    "resize": _SPEC,
}
_INVALID_STATE = (
    ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating "
    "admission controller; please fix your requests: "
)


# Who.


def manager_of(call: Call, options: str) -> str:
    """The `fieldManager` parameter, or who the client says it is. Raises 422; `options` is the kind it names."""
    named = call.params.get("fieldManager")
    if named:
        check_manager(named, options)
        return named
    if call.request is None:
        return _component(call.user.name)
    return _first_word(call.request.headers.get("user-agent", ""))


def check_manager(name: str, options: str, *more: Cause) -> None:
    """Raise 422 for a name that no manager may have, or if there are `more` causes to."""
    causes = [*more]
    if len(name.encode(errors="surrogatepass")) > MAX_MANAGER:
        causes.append(errors.too_long("fieldManager", MAX_MANAGER))
    position = 0
    for letter in name:
        if not letter.isprintable():
            why = f"invalid character U+{ord(letter):04X} (at position {position})"
            causes.append(errors.invalid_value("fieldManager", name, why))
        position += len(letter.encode(errors="surrogatepass"))
    if causes:
        raise errors.invalid(options, "", causes, "meta.k8s.io")


@lru_cache(maxsize=256)
def _first_word(agent: str) -> str:
    """`kubectl` of `kubectl/v1.33.0 (linux/amd64)`, as much of it as may be shown and fits."""
    printable = "".join(letter for letter in agent.partition("/")[0] if letter.isprintable())
    return printable.encode()[:MAX_MANAGER].decode(errors="ignore")


@lru_cache(maxsize=256)
def _component(user: str) -> str:
    """The program behind a user of the loop-back path: `kube-scheduler` of `system:kube-scheduler`."""
    parts = user.split(":")
    if parts[0] == "system" and len(parts) == 3:  # system:node:<name>
        return _COMPONENTS.get(parts[1], parts[1])
    return _COMPONENTS.get(parts[-1], parts[-1])


def author_of(call: Call, options: str) -> Author:
    """Who writes, and what the path can change."""
    return Author(
        manager_of(call, options),
        call.kind.gvr.api_version,
        call.info.subresource,
        _ignored(call.kind, call.info.subresource),
        _only(call.kind, call.info.subresource),
    )


def _ignored(kind: Kind, subresource: str) -> Fields:
    if subresource == "status":
        left = {"f:" + name: LEAF for name in kind.status_leaves}
        return {**_SPEC, "f:metadata": left} if left else _SPEC
    return _STATUS if kind.has_status and subresource != "approval" else EMPTY


def _only(kind: Kind, subresource: str) -> Fields | None:
    if subresource == "status" and kind.custom:
        return _STATUS
    if subresource == "scale" and kind.scale is not None:
        return replicas_path(kind)
    return _ONLY.get(subresource)


def replicas_path(kind: Kind) -> Fields:
    """Where the kind keeps the replicas that /scale sets."""
    assert kind.scale is not None
    below: Fields = LEAF
    for name in reversed(kind.scale.spec_replicas.split(".")):
        below = {"f:" + name: below}
    return below


# In which versions.


class KindVersions:
    """The versions of one call's kind: `managed_fields.Versions`.

    Custom resources may be converted by other servers: what has not been asked yet ends the work with `_NotYet`.
    """

    def __init__(self, call: Call) -> None:
        self._call = call
        self._known: dict[tuple[bytes, str], Obj] = {}

    def node(self, api_version: str) -> Node | None:
        kind = self._kind(api_version)
        return node_of(self._call.api.schemas.for_gvk(kind.gvk)) if kind is not None else None

    def convert(self, obj: Obj, api_version: str) -> Obj:
        return self._between(obj, self._call.kind, self._kind(api_version))

    def revert(self, obj: Obj, api_version: str) -> Obj:
        return self._between(obj, self._kind(api_version), self._call.kind)

    def _kind(self, api_version: str) -> Kind | None:
        own = self._call.kind
        if api_version == own.gvr.api_version:
            return own
        found = self._call.api.registry.by_gvk(GVK(*parse_api_version(api_version), own.kind))
        same = found is not None and found.plural == own.plural and found.custom == own.custom
        return found if same else None

    def _between(self, obj: Obj, source: Kind | None, target: Kind | None) -> Obj:
        if source is None or target is None or source is target:
            return obj
        if not source.custom:
            return {**shown(target, to_storage(source, obj)), "apiVersion": target.gvr.api_version}
        key = (orjson.dumps(obj), target.version)
        if key not in self._known:
            raise _NotYet(key)
        return self._known[key]

    async def learn(self, missing: _NotYet) -> None:
        """Ask for what was missing. Raises ApiError."""
        text, version = missing.key
        obj: Obj = orjson.loads(text)
        converter = self._call.cache.converter
        self._known[missing.key] = await converter.convert(obj, version) if converter is not None else obj


class _NotYet(Exception):
    """An object is needed in another version: `key` is its JSON and that version."""

    def __init__(self, key: tuple[bytes, str]) -> None:
        self.key = key


async def with_versions(call: Call, work: Callable[[KindVersions], T]) -> T:
    """The result of `work`, which is begun again whenever an object had to be converted elsewhere first."""
    versions = KindVersions(call)
    while True:
        try:
            return work(versions)
        except _NotYet as missing:
            await versions.learn(missing)


# Tracking.


def track_new(call: Call, obj: Obj, options: str = "CreateOptions") -> None:
    """Say in a new object whose its fields are, in place."""
    meta = obj["metadata"]
    sent = meta.pop("managedFields", None)
    author = author_of(call, options)
    node = node_of(call.api.schemas.for_gvk(call.kind.gvk))
    set_entries(meta, managed_fields.create(author, node, obj, sent, meta.get("creationTimestamp") or now()))


async def track_change(call: Call, new: Obj, old: Obj) -> None:
    """Say in a changed object whose its fields are now, in place."""
    author = author_of(call, "UpdateOptions" if call.info.verb == "update" else "PatchOptions")
    moment = now()
    try:
        entries = await with_versions(call, lambda versions: managed_fields.update(author, versions, old, new, moment))
    except ApiError:  # of a conversion: the write does not wait for it, and nobody is tracked any more
        entries = []
    set_entries(new["metadata"], entries)


def set_entries(meta: Obj, entries: list[Obj]) -> None:
    """Put the entries, or none, into metadata, in place."""
    meta.pop("managedFields", None)
    if entries:
        meta["managedFields"] = entries


def now() -> str:
    return format_time(utc_now())


def check_after_admission(call: Call, obj: Obj, before: Any) -> None:
    """Put the entries back, in place, where admission has left some that nobody can read."""
    found = obj["metadata"].get("managedFields")
    if found is before:
        return
    try:
        managed_fields.decode(found)
    except (FieldsError, AttributeError, TypeError) as problem:
        call.warnings.append(f"{_INVALID_STATE}{problem}")
        set_entries(obj["metadata"], before or [])


def ignore_times(new: Obj, old: Obj) -> None:
    """Leave entries as they were, in place, if nothing is new in the object but their times."""
    found, before = new["metadata"].get("managedFields"), old["metadata"].get("managedFields")
    if not found or not before or found == before or not managed_fields.same_but_times(found, before):
        return
    new["metadata"]["managedFields"] = before
    if new != old:
        new["metadata"]["managedFields"] = found
