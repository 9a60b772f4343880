"""Takes out of StorageVersions, which say in which version objects are kept, what API servers said that are gone.

A server is there while it has a lease in kube-system. Specified by KEP-2339 and the API reference of StorageVersion.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pinnace.apis.resources import LEASES, STORAGE_VERSIONS
from pinnace.client.controller import Controller, itself
from pinnace.controllers.conditions import put_condition
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, get_in, key_of, labels_of, name_of, replace_in, uid_of, utc_now

NAMESPACE = "kube-system"
IDENTITY, SERVER = "apiserver.kubernetes.io/identity", "kube-apiserver"  # the label of servers' leases


def is_servers(lease: Obj | None) -> bool:
    return lease is not None and labels_of(lease).get(IDENTITY) == SERVER


def without_gone(version: Obj, find: Callable[[str], Obj | None], now: datetime) -> Obj | None:
    """The status without servers that are gone, None where there are none of them; `find` takes a lease's name."""
    reported = get_in(version, "status", "storageVersions") or []
    kept = [one for one in reported if is_servers(find(one["apiServerID"]))]
    if len(kept) == len(reported):
        return None
    status = {name: value for name, value in version["status"].items() if name != "commonEncodingVersion"}
    encodings = {one.get("encodingVersion") for one in kept}
    agreed = len(encodings) == 1
    if agreed:
        status["commonEncodingVersion"] = encodings.pop()
    condition = {
        "type": "AllEncodingVersionsEqual",
        "status": "True" if agreed else "False",
        "reason": "CommonEncodingVersionSet" if agreed else "CommonEncodingVersionUnset",
        "message": "Common encoding version set" if agreed else "Common encoding version unset",
        "lastTransitionTime": format_time(now),
    }
    conditions = put_condition(status.get("conditions") or (), condition)
    return {**status, "storageVersions": kept, "conditions": conditions}


class StorageVersionGarbageCollector(Controller):
    """One key is one StorageVersion."""

    name = "storageversion-garbage-collector-controller"

    def setup(self) -> None:
        self.versions = self.watch(STORAGE_VERSIONS, itself)
        self.leases = self.use(LEASES, namespace=NAMESPACE)
        self.leases.add_handler(None, self._lease_changed, self._lease_gone)

    def _lease_changed(self, old: Obj, new: Obj) -> None:
        if is_servers(old) and not is_servers(new):
            self._lease_gone(old)

    def _lease_gone(self, lease: Obj) -> None:
        for version in self.versions.store.list() if is_servers(lease) else ():
            self.queue.add(key_of(version))

    async def reconcile(self, key: str) -> None:
        version = self.versions.store.get(key)
        if version is None:
            return
        status = without_gone(version, lambda name: self.leases.store.get(f"{NAMESPACE}/{name}"), utc_now())
        if status is None:
            return
        try:
            if status["storageVersions"]:
                await self.client.update_status(STORAGE_VERSIONS, replace_in(version, status, "status"))
            else:
                await self.client.delete(STORAGE_VERSIONS, name_of(version), uid=uid_of(version))
        except ApiError as error:
            if not error.is_not_found:
                raise
