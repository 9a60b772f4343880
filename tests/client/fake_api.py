"""An API server in a dict: enough of the real one for controllers and informers to be tested without a server.

It keeps resourceVersions, uids, generations, finalizers and status subresources as Kubernetes does, and a history to
resume watches from; it validates nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

from pinnace.apis.registry import Registry
from pinnace.client.client import Client
from pinnace.client.transport import JSON, Params
from pinnace.machinery import merge_patch
from pinnace.machinery.errors import ApiError, already_exists, conflict, modified, not_found, too_old_resource_version
from pinnace.machinery.meta import GVR, Obj, deep_copy, format_time, key_of, labels_of, name_of, namespace_of, utc_now
from pinnace.machinery.selectors import parse_fields, parse_labels

_REGISTRY = Registry()
_GOING: dict[str, str] = {"Foreground": "foregroundDeletion", "Orphan": "orphan"}


class FakeApi:
    """A `Transport`; `client` calls it."""

    def __init__(self) -> None:
        self.objects: dict[GVR, dict[str, Obj]] = {}
        self.history: list[tuple[GVR, Obj]] = []  # every event, oldest first
        self.oldest = 0  # revisions up to this one are compacted
        self.requests: list[tuple[str, str]] = []
        self.fail: Callable[[str, str, Any], ApiError | None] = lambda *_: None
        self.client = Client(self)
        self._revision = 0
        self._names = itertools.count()
        self._changed = asyncio.Condition()
        self._watches: set[_Watch] = set()

    # For tests.

    async def until(self, check: Callable[[], Any], seconds: float = 30.0) -> Any:
        """Wait until `check` returns something true after some write, and return that."""
        async with asyncio.timeout(seconds):
            async with self._changed:
                return await self._changed.wait_for(check)

    def all(self, resource: GVR) -> list[Obj]:
        return list(self.objects.get(resource, {}).values())

    def find(self, resource: GVR, key: str) -> Obj | None:
        return self.objects.get(resource, {}).get(key)

    async def set_status(self, resource: GVR, key: str, status: Obj) -> Obj:
        """What a kubelet or another controller would report."""
        obj = self.objects[resource][key]
        return await self.client.update_status(resource, {**obj, "status": {**(obj.get("status") or {}), **status}})

    def break_watches(self, *, compact: bool = False) -> None:
        """End every watch; with `compact`, none of them can be resumed."""
        if compact:
            self._revision += 1
            self.oldest = self._revision
        for watch in list(self._watches):
            watch.ended = True
            watch.wake.set()

    # Transport.

    async def request(
        self, method: str, path: str, *, params: Params | None = None, body: Any = None, content_type: str = JSON
    ) -> Obj:
        await asyncio.sleep(0)
        self.requests.append((method, path))
        error = self.fail(method, path, body)
        if error is not None:
            raise error
        resource, namespace, name, subresource = _split(path)
        params = params or {}
        if method == "GET":
            return self._get(resource, namespace, name) if name else self._list(resource, namespace, params)
        if method == "DELETE" and not name:
            for obj in self._select(resource, namespace, params):
                self._delete(resource, key_of(obj), {})
            result: Obj = {"kind": "Status", "status": "Success"}
        elif method == "DELETE":
            result = self._delete(resource, _key(namespace, name), body or {})
        elif method == "POST":
            result = self._create(resource, namespace, deep_copy(body))
        else:
            result = self._write(resource, _key(namespace, name), method, deep_copy(body), subresource)
        async with self._changed:
            self._changed.notify_all()
        return result

    async def watch(self, path: str, params: Params) -> AsyncIterator[Obj]:
        resource, namespace, _, _ = _split(path)
        after = int(params.get("resourceVersion") or 0)
        if after < self.oldest:
            raise too_old_resource_version(after, self.oldest)
        watch = _Watch()
        self._watches.add(watch)
        position = 0
        try:
            while True:
                while position < len(self.history):
                    gvr, event = self.history[position]
                    position += 1
                    obj = event["object"]
                    if gvr != resource or (namespace and namespace_of(obj) != namespace):
                        continue
                    if int(obj["metadata"]["resourceVersion"]) > after and _matches(obj, params):
                        yield event
                if watch.ended:
                    return
                watch.wake.clear()
                if position == len(self.history):
                    await watch.wake.wait()
        finally:
            self._watches.discard(watch)

    async def read(self, path: str, *, params: Params | None = None) -> bytes:
        return b"ok"

    async def close(self) -> None:
        return None

    # Verbs.

    def _get(self, resource: GVR, namespace: str, name: str) -> Obj:
        found = self.objects.get(resource, {}).get(_key(namespace, name))
        if found is None:
            raise not_found(resource.resource, name, resource.group)
        return found

    def _list(self, resource: GVR, namespace: str, params: Params) -> Obj:
        kind = _REGISTRY.by_gvr(resource)
        return {
            "apiVersion": resource.api_version,
            "kind": f"{kind.kind if kind else 'Thing'}List",
            "metadata": {"resourceVersion": str(self._revision)},
            "items": self._select(resource, namespace, params),
        }

    def _select(self, resource: GVR, namespace: str, params: Params) -> list[Obj]:
        found = self.objects.get(resource, {}).values()
        return [obj for obj in found if namespace in ("", namespace_of(obj)) and _matches(obj, params)]

    def _create(self, resource: GVR, namespace: str, obj: Obj) -> Obj:
        metadata = obj["metadata"]
        if namespace:
            metadata["namespace"] = namespace
        if "name" not in metadata:
            metadata["name"] = f"{metadata['generateName']}{next(self._names):05d}"
        if key_of(obj) in self.objects.get(resource, {}):
            raise already_exists(resource.resource, name_of(obj), resource.group)
        metadata.setdefault("uid", str(uuid.uuid4()))
        metadata.setdefault("creationTimestamp", format_time(utc_now()))
        metadata["generation"] = 1
        return self._store(resource, obj, "ADDED")

    def _write(self, resource: GVR, key: str, method: str, body: Obj, subresource: str) -> Obj:
        old = self._get(resource, *_halves(key))
        new = merge_patch.apply(old, body) if method == "PATCH" else body
        wanted = body.get("metadata") or {}
        if wanted.get("resourceVersion") not in (None, "", old["metadata"]["resourceVersion"]):
            raise modified(resource.resource, name_of(old), resource.group)
        if wanted.get("uid") not in (None, old["metadata"]["uid"]):
            raise conflict(
                resource.resource, name_of(old), "the UID in the precondition does not match", resource.group
            )
        if subresource == "status":
            new = {**old, "status": new.get("status") or {}}
        elif "status" in old:
            new = {**new, "status": old["status"]}
        kept = {field: old["metadata"][field] for field in ("uid", "creationTimestamp", "generation")}
        if "deletionTimestamp" in old["metadata"]:
            kept["deletionTimestamp"] = old["metadata"]["deletionTimestamp"]
        new = {**new, "metadata": {**new["metadata"], **kept}}
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        if {**new, "metadata": {**new["metadata"], "resourceVersion": ""}} == {
            **old,
            "metadata": {**old["metadata"], "resourceVersion": ""},
        }:
            return old
        return self._store(resource, new, "MODIFIED")

    def _delete(self, resource: GVR, key: str, options: Obj) -> Obj:
        old = self._get(resource, *_halves(key))
        wanted = options.get("preconditions") or {}
        for field in ("uid", "resourceVersion"):
            if wanted.get(field) not in (None, old["metadata"][field]):
                raise conflict(resource.resource, name_of(old), f"precondition {field}", resource.group)
        finalizers = list(old["metadata"].get("finalizers") or ())
        added = _GOING.get(options.get("propagationPolicy", ""))
        if added and added not in finalizers:
            finalizers.append(added)
        metadata = {**old["metadata"]}
        metadata.setdefault("deletionTimestamp", format_time(utc_now()))
        if finalizers:
            metadata["finalizers"] = finalizers
        return self._store(resource, {**old, "metadata": metadata}, "MODIFIED")

    def _store(self, resource: GVR, obj: Obj, event: str) -> Obj:
        self._revision += 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._revision)}}
        metadata, held = obj["metadata"], (obj.get("spec") or {}).get("finalizers")
        going = "deletionTimestamp" in metadata and not metadata.get("finalizers") and not held
        if going:
            self.objects[resource].pop(key_of(obj), None)
            event = "DELETED"
        else:
            self.objects.setdefault(resource, {})[key_of(obj)] = obj
        self.history.append((resource, {"type": event, "object": obj}))
        for watch in self._watches:
            watch.wake.set()
        return obj


class _Watch:
    def __init__(self) -> None:
        self.ended = False
        self.wake = asyncio.Event()


def _matches(obj: Obj, params: Params) -> bool:
    labels, fields = params.get("labelSelector", ""), params.get("fieldSelector", "")
    named = {"metadata.name": name_of(obj), "metadata.namespace": namespace_of(obj), "type": obj.get("type", "")}
    named |= {f"spec.{name}": str((obj.get("spec") or {}).get(name, "")) for name in ("nodeName", "driver")}
    return parse_labels(labels).matches(labels_of(obj)) and parse_fields(fields).matches(named)


def _key(namespace: str, name: str) -> str:
    return f"{namespace}/{name}" if namespace else name


def _halves(key: str) -> tuple[str, str]:
    namespace, _, name = key.rpartition("/")
    return namespace, name


def _split(path: str) -> tuple[GVR, str, str, str]:
    """Resource, namespace, name and subresource of a path."""
    parts = path.strip("/").split("/")
    if parts[0] == "api":
        group, version, rest = "", parts[1], parts[2:]
    else:
        group, version, rest = parts[1], parts[2], parts[3:]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource, name, subresource = (*rest, "", "")[:3]
    return GVR(group, version, resource), namespace, name, subresource
