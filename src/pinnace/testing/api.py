"""A small synchronous client for tests: objects in and out as dicts, resources by the words kubectl takes, and waiting.

Calls go over HTTPS like any client's, as cluster administrator. Every method raises `ApiError` with the server's words.
"""

from __future__ import annotations

import builtins
import time
from collections.abc import AsyncIterator, Callable, Iterator
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from pinnace.client.transport import APPLY_PATCH, JSON, MERGE_PATCH
from pinnace.machinery.errors import ApiError, not_found
from pinnace.machinery.meta import GVR, Obj, get_in, name_of, namespace_of, parse_api_version
from pinnace.testing.loop_thread import LoopThread

if TYPE_CHECKING:
    from pinnace.client.client import Client

Until = str | Callable[[Obj], Any]
"""A condition by name (`Ready`, `Available=False`), or a function of the object that says whether it is so."""

WAIT_SECONDS = 30.0


class Api:
    """Calls to one cluster. Resources are named `pods`, `deploy`, `deployments.apps` or `apps/v1/deployments`."""

    def __init__(self, thread: LoopThread, client: Client) -> None:
        self._thread = thread
        self._client = client
        self._resources: dict[str, builtins.list[Obj]] = {}  # of a group version, as discovery lists them

    def request(
        self,
        method: str,
        path: str,
        body: Obj | builtins.list[Obj] | None = None,
        *,
        params: dict[str, str] | None = None,
        content_type: str = JSON,
    ) -> Obj:
        """Any request; the decoded answer."""
        transport = self._client.transport
        return self._thread.call(transport.request(method, path, params=params, body=body, content_type=content_type))

    def read(self, path: str, params: dict[str, str] | None = None) -> str:
        """The text at a path that does not answer in JSON: `/healthz`, a pod's log."""
        return self._thread.call(self._client.transport.read(path, params=params)).decode()

    def create(self, obj: Obj, namespace: str = "") -> Obj:
        """Create the object in its own namespace, or else in the one given, or in `default`."""
        found, namespace = self._place(obj, namespace)
        return self.request("POST", found.path(namespace), obj)

    def update(self, obj: Obj, *, subresource: str = "") -> Obj:
        found, namespace = self._place(obj, "")
        return self.request("PUT", found.path(namespace, name_of(obj), subresource), obj)

    def apply(self, obj: Obj, namespace: str = "", *, manager: str = "test", force: bool = True) -> Obj:
        """Server-side apply as the field manager `manager`."""
        found, namespace = self._place(obj, namespace)
        params = {"fieldManager": manager, "force": "true" if force else "false"}
        path = found.path(namespace, name_of(obj))
        return self.request("PATCH", path, obj, params=params, content_type=APPLY_PATCH)

    def get(self, resource: str, name: str, namespace: str = "") -> Obj:
        return self.request("GET", self._path(resource, name, namespace))

    def list(self, resource: str, namespace: str = "", *, labels: str = "", fields: str = "") -> builtins.list[Obj]:
        """What matches the selectors, in one namespace or in all."""
        found, _ = self.resource(resource)
        params = _selectors(labels, fields)
        items: builtins.list[Obj] = self.request("GET", found.path(namespace), params=params)["items"]
        return items

    def patch(
        self,
        resource: str,
        name: str,
        patch: Obj | builtins.list[Obj],
        namespace: str = "",
        *,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
    ) -> Obj:
        path = self._path(resource, name, namespace, subresource)
        return self.request("PATCH", path, patch, content_type=content_type)

    def delete(self, resource: str, name: str, namespace: str = "", *, propagation: str = "Background") -> Obj:
        """Begin to delete; `wait_gone` sees the end of it."""
        options: Obj = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        return self.request("DELETE", self._path(resource, name, namespace), options)

    def watch(
        self,
        resource: str,
        namespace: str = "",
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        timeout: float = WAIT_SECONDS,
    ) -> Watch:
        """Events from now on, after what there is, as ADDED; or all that followed `resource_version`."""
        found, _ = self.resource(resource)
        path, params = found.path(namespace), _selectors(labels, fields)
        there: builtins.list[Obj] = []
        if not resource_version:
            listed = self.request("GET", path, params=params)
            resource_version = listed["metadata"]["resourceVersion"]
            there = [{"type": "ADDED", "object": item} for item in listed["items"]]
        params |= {"watch": "true", "resourceVersion": resource_version}
        return Watch(self._thread, self._client.transport.watch(path, params), there, timeout)

    def wait_for(
        self,
        resource: str,
        name: str,
        until: Until | None = None,
        namespace: str = "",
        *,
        timeout: float = WAIT_SECONDS,
    ) -> Obj:
        """The object as soon as it is there and `until`, if given, holds. Raises TimeoutError that shows its state."""
        last: Obj | None = None
        try:
            for last in self._states(resource, name, namespace, timeout):
                if last is not None and (until is None or _holds(until, last)):
                    return last
        except TimeoutError:
            wanted = until if isinstance(until, str) else getattr(until, "__name__", "there")
            shown = "is not there" if last is None else f"has status {last.get('status')}"
            raise TimeoutError(f"{resource}/{name} was not {wanted} in {timeout:g} s: it {shown}") from None
        raise AssertionError("the states of an object have no end")

    def wait_gone(self, resource: str, name: str, namespace: str = "", *, timeout: float = WAIT_SECONDS) -> None:
        """Return as soon as there is no such object. Raises TimeoutError that shows what holds it."""
        last: Obj | None = None
        try:
            for state in self._states(resource, name, namespace, timeout):
                if state is None:
                    return
                last = state
        except TimeoutError:
            raise TimeoutError(
                f"{resource}/{name} was not gone in {timeout:g} s: {(last or {}).get('metadata')}"
            ) from None

    def wait_until(self, holds: Callable[[], Any], *, timeout: float = WAIT_SECONDS, pause: float = 0.05) -> Any:
        """What `holds` returns as soon as that is true: for what no single object tells."""
        deadline = time.monotonic() + timeout
        while not (found := holds()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{getattr(holds, '__name__', 'the condition')} did not hold in {timeout:g} s")
            time.sleep(pause)
        return found

    def resource(self, word: str) -> tuple[GVR, bool]:
        """Where a resource is served, and whether in namespaces. Raises 404 for a word that no group knows."""
        if word.count("/") >= 1:
            api_version, _, word = word.rpartition("/")
            versions = [parse_api_version(api_version)]
        else:
            word, _, group = word.partition(".")
            versions = self._versions(group)
        for fresh in (False, True):
            for group, version in versions:
                entry = self._entry(group, version, word.lower(), fresh)
                if entry is not None:
                    return GVR(group, version, entry["name"]), entry["namespaced"]
        raise not_found("", word)

    def _versions(self, group: str) -> builtins.list[tuple[str, str]]:
        """The preferred version of every group, the core's first; of one group if it is named."""
        groups = self.request("GET", "/apis")["groups"]
        found = [parse_api_version(one["preferredVersion"]["groupVersion"]) for one in groups]
        return [one for one in found if one[0] == group] if group else [("", "v1"), *found]

    def _entry(self, group: str, version: str, word: str, fresh: bool) -> Obj | None:
        prefix = GVR(group, version, "").prefix
        if fresh or prefix not in self._resources:
            try:
                self._resources[prefix] = self.request("GET", prefix)["resources"]
            except ApiError as error:
                if not error.is_not_found and error.code != 404:
                    raise
                return None
        for entry in self._resources[prefix]:
            names = (entry["name"], entry["singularName"], entry["kind"].lower(), *entry.get("shortNames", ()))
            if word in names and "/" not in entry["name"]:
                return entry
        return None

    def _place(self, obj: Obj, namespace: str) -> tuple[GVR, str]:
        found, namespaced = self.resource(f"{obj['apiVersion']}/{obj['kind']}")
        return found, (namespace_of(obj) or namespace or "default") if namespaced else ""

    def _path(self, resource: str, name: str, namespace: str, subresource: str = "") -> str:
        found, namespaced = self.resource(resource)
        return found.path((namespace or "default") if namespaced else "", name, subresource)

    def _states(self, resource: str, name: str, namespace: str, timeout: float) -> Iterator[Obj | None]:
        """The object's states from now on, None while there is none; TimeoutError after `timeout` seconds."""
        found, namespaced = self.resource(resource)
        namespace = (namespace or "default") if namespaced else ""
        deadline = time.monotonic() + timeout
        while True:
            listed = self.request("GET", found.path(namespace), params={"fieldSelector": f"metadata.name={name}"})
            yield listed["items"][0] if listed["items"] else None
            left = max(deadline - time.monotonic(), 0.0)
            events = self.watch(
                f"{found.api_version}/{found.resource}",
                namespace,
                fields=f"metadata.name={name}",
                resource_version=get_in(listed, "metadata", "resourceVersion", default=""),
                timeout=left,
            )
            try:
                with events:
                    for event in events:
                        yield None if event["type"] == "DELETED" else event["object"]
                        if time.monotonic() > deadline:
                            raise TimeoutError
            except ApiError as error:
                if not error.is_expired:
                    raise


class Watch:
    """An iterator of events `{"type": …, "object": …}`, until it is closed or its `with` ends.

    Raises TimeoutError when none has come for `timeout` seconds, ApiError when the server ends it.
    """

    def __init__(
        self, thread: LoopThread, events: AsyncIterator[Obj], there: builtins.list[Obj], timeout: float
    ) -> None:
        self._thread = thread
        self._timeout = timeout
        self._queue: SimpleQueue[Obj | ApiError] = SimpleQueue()
        for event in there:
            self._queue.put(event)
        self._task = thread.start(self._forward(events))

    def __iter__(self) -> Watch:
        return self

    def __next__(self) -> Obj:
        try:
            event = self._queue.get(timeout=self._timeout)
        except Empty:
            raise TimeoutError(f"no event in {self._timeout:g} s") from None
        if isinstance(event, ApiError):
            raise event
        return event

    def close(self) -> None:
        self._thread.cancel(self._task)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    async def _forward(self, events: AsyncIterator[Obj]) -> None:
        try:
            async for event in events:
                self._queue.put(event)
            self._queue.put(ApiError(410, "Expired", "the server ended the watch"))
        except ApiError as error:
            self._queue.put(error)


def _selectors(labels: str, fields: str) -> dict[str, str]:
    named = {"labelSelector": labels, "fieldSelector": fields}
    return {name: value for name, value in named.items() if value}


def _holds(until: Until, obj: Obj) -> bool:
    if not isinstance(until, str):
        return bool(until(obj))
    kind, _, status = until.partition("=")
    conditions = get_in(obj, "status", "conditions", default=None) or ()
    return any(one.get("type") == kind and one.get("status") == (status or "True") for one in conditions)
