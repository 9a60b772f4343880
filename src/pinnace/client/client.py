"""The REST client: one method per verb of the Kubernetes API, for any resource.

It relies on a `Transport` and on nothing else. Errors are `ApiError` with the server's own code, reason and message.
Verbs and options are those of https://kubernetes.io/docs/reference/using-api/api-concepts/.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from pinnace.client.transport import JSON, MERGE_PATCH, Params, Transport
from pinnace.machinery.meta import GVR, Obj, name_of, namespace_of

Patch = Obj | list[Obj]
"""The body of a PATCH: an object, or the operations of a JSON patch."""


def _given(**params: str | int | bool | None) -> dict[str, str]:
    """Query parameters without those that were left at None, empty or False."""
    return {
        name: "true" if value is True else str(value)
        for name, value in params.items()
        if value is not None and value is not False and value != ""
    }


class Client:
    """Calls of one user to one API server. Objects returned may be shared: treat them as read-only."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    async def get(self, resource: GVR, name: str, namespace: str = "", *, subresource: str = "") -> Obj:
        return await self.transport.request("GET", resource.path(namespace, name, subresource))

    async def list(
        self,
        resource: GVR,
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
    ) -> Obj:
        """The list object: `items` and `metadata.resourceVersion`; all namespaces when none is given."""
        params = _given(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=limit or None,
            resourceVersion=resource_version,
        )
        if continue_token:
            params["continue"] = continue_token
        return await self.transport.request("GET", resource.path(namespace), params=params)

    def watch(
        self,
        resource: GVR,
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: int | None = None,
    ) -> AsyncIterator[Obj]:
        """Events after `resource_version`, bookmarks among them, until the server ends the watch."""
        params = _given(
            watch=True,
            allowWatchBookmarks=True,
            resourceVersion=resource_version,
            labelSelector=label_selector,
            fieldSelector=field_selector,
            timeoutSeconds=timeout_seconds,
        )
        return self.transport.watch(resource.path(namespace), params)

    async def create(
        self, resource: GVR, obj: Obj, namespace: str = "", *, name: str = "", subresource: str = ""
    ) -> Obj:
        """POST to the collection, or to the subresource of `name` (`binding`, `eviction`, `token`)."""
        path = resource.path(namespace or namespace_of(obj), name, subresource)
        return await self.transport.request("POST", path, body=obj)

    async def update(self, resource: GVR, obj: Obj, *, subresource: str = "") -> Obj:
        """PUT; a `metadata.resourceVersion` in `obj` must be the stored one, or ApiError Conflict is raised."""
        path = resource.path(namespace_of(obj), name_of(obj), subresource)
        return await self.transport.request("PUT", path, body=obj)

    async def update_status(self, resource: GVR, obj: Obj) -> Obj:
        return await self.update(resource, obj, subresource="status")

    async def patch(
        self,
        resource: GVR,
        name: str,
        patch: Patch,
        namespace: str = "",
        *,
        content_type: str = MERGE_PATCH,
        subresource: str = "",
        params: Params | None = None,
    ) -> Obj:
        path = resource.path(namespace, name, subresource)
        return await self.transport.request("PATCH", path, params=params, body=patch, content_type=content_type)

    async def delete(
        self,
        resource: GVR,
        name: str,
        namespace: str = "",
        *,
        grace_period_seconds: int | None = None,
        propagation_policy: str = "",
        uid: str = "",
        resource_version: str = "",
    ) -> Obj:
        """Delete; `uid` and `resource_version` are preconditions (a mismatch raises ApiError Conflict)."""
        options: Obj = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if propagation_policy:
            options["propagationPolicy"] = propagation_policy
        preconditions = _given(uid=uid, resourceVersion=resource_version)
        if preconditions:
            options["preconditions"] = preconditions
        path = resource.path(namespace, name)
        return await self.transport.request("DELETE", path, body=options, content_type=JSON)

    async def delete_collection(
        self, resource: GVR, namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> Obj:
        params = _given(labelSelector=label_selector, fieldSelector=field_selector)
        return await self.transport.request("DELETE", resource.path(namespace), params=params)
