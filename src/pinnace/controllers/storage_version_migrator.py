"""Has every object of a resource written again, so that it is stored in the resource's storage version.

A patch that changes nothing is enough: the API server rewrites what it keeps in an older version. Specified by
https://kubernetes.io/docs/tasks/manage-kubernetes-objects/storage-version-migration/ and KEP-4192.
"""

from __future__ import annotations

import asyncio

from pinnace.apis.resources import STORAGE_VERSION_MIGRATIONS
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.controllers.conditions import condition, is_true, with_condition
from pinnace.controllers.served import Resource, ServedResources
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, get_in, name_of, namespace_of, uid_of, utc_now

_PAGE = 500
_AT_ONCE = 20
_PREFIX = "StorageVersionMigration"


class Unmigratable(Exception):
    """The migration has failed; the message says why."""


def is_over(migration: Obj) -> bool:
    return is_true(migration, "Succeeded") or is_true(migration, "Failed")


def with_outcome(status: Obj, kind: str, message: str, moment: str) -> Obj:
    """The status with `Running`, or with `Succeeded` or `Failed` in its place."""
    reason = f"{_PREFIX}{'InProgress' if kind == 'Running' else kind}"
    fresh = {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": moment}
    conditions = with_condition(status.get("conditions") or (), fresh)
    running = condition({"status": status}, "Running")
    if kind != "Running" and running is not None:
        conditions = with_condition(conditions, {**running, "status": "False", "lastTransitionTime": moment})
    return {**status, "conditions": conditions}


class StorageVersionMigrator(Controller):
    """One key is one StorageVersionMigration."""

    name = "storage-version-migrator-controller"
    workers = 1

    def __init__(self, client: Client, informers: InformerFactory, served: ServedResources) -> None:
        self._served = served
        super().__init__(client, informers)

    def setup(self) -> None:
        self.migrations = self.watch(STORAGE_VERSION_MIGRATIONS)

    async def reconcile(self, key: str) -> None:
        migration = self.migrations.store.get(key)
        if migration is None or is_over(migration):
            return
        migration = await self._say(migration, "Running")
        try:
            version = await self._migrate(migration)
        except Unmigratable as error:
            await self._say(migration, "Failed", str(error))
            return
        status = {**(migration.get("status") or {}), "resourceVersion": version}
        await self._say({**migration, "status": status}, "Succeeded")

    async def _say(self, migration: Obj, kind: str, message: str = "") -> Obj:
        if is_true(migration, kind):
            return migration
        status = with_outcome(migration.get("status") or {}, kind, message, format_time(utc_now()))
        return await self.client.update_status(STORAGE_VERSION_MIGRATIONS, {**migration, "status": status})

    async def _migrate(self, migration: Obj) -> str:
        """Write every object there is; the resourceVersion of the collection they were found in."""
        named = get_in(migration, "spec", "resource", default={})
        group, plural = named.get("group", ""), named.get("resource", "")
        served = {(one.gvr.group, one.gvr.resource): one for one in self._served.list()}
        resource = served.get((group, plural))
        if resource is None:
            raise Unmigratable(f"resource {f'{plural}.{group}' if group else plural} is not served")
        version = token = ""
        while True:
            listed = await self.client.list(resource.gvr, limit=_PAGE, continue_token=token)
            version = version or listed["metadata"].get("resourceVersion", "")
            items = listed.get("items") or []
            for start in range(0, len(items), _AT_ONCE):
                await asyncio.gather(*(self._rewrite(resource, one) for one in items[start : start + _AT_ONCE]))
            token = listed["metadata"].get("continue", "")
            if not token:
                return str(version)

    async def _rewrite(self, resource: Resource, obj: Obj) -> None:
        """What somebody else has written or deleted meanwhile needs no writing."""
        pinned = {"uid": uid_of(obj), "resourceVersion": obj["metadata"]["resourceVersion"]}
        try:
            await self.client.patch(resource.gvr, name_of(obj), {"metadata": pinned}, namespace_of(obj))
        except ApiError as error:
            if not (error.is_not_found or error.is_conflict):
                if error.code in (400, 403, 405, 422):
                    raise Unmigratable(f"migration encountered unhandled error: {error.message}") from error
                raise
