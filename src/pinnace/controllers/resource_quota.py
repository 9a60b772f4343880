"""Says of every ResourceQuota what its namespace uses of it.

The API server charges quotas for what is made; this controller gives back what goes, and puts right what was charged
for objects that never came to be. Specified by https://kubernetes.io/docs/concepts/policy/resource-quotas/.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime

from pinnace.apis.core.pod_resources import Amounts, add
from pinnace.apis.core.quota_usage import EVALUATED, counted, in_scope, usage
from pinnace.apis.resources import RESOURCE_QUOTAS
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.client.informer import Informer, InformerFactory
from pinnace.client.store import by_namespace
from pinnace.controllers.served import Resource, ServedResources
from pinnace.machinery.meta import GVR, Obj, get_in, is_deleting, namespace_of, replace_in, utc_now
from pinnace.machinery.quantity import ZERO

_RESYNC = 300.0  # seconds; what was charged in vain is given back after so long at the latest
_COALESCE = 2.0  # seconds between looks at what is made, which was charged already
_PATIENCE = 30.0  # seconds for a resource to be listed, which may just have gone

_Found = Iterable[tuple[tuple[str, str], Sequence[Obj]]]


def status_of(quota: Obj, found: _Found, now: datetime) -> Obj:
    """The quota's status, where `found` are the objects of its namespace by group and plural.

    Names of the quota that nothing counts under stay without a figure.
    """
    hard: Obj = get_in(quota, "spec", "hard", default={})
    used: Amounts = {}
    for resource, objects in found:
        names = counted(resource, hard)
        used = add(used, dict.fromkeys(names, ZERO))
        for obj in objects if names else ():
            if in_scope(quota, resource, obj):
                cost = usage(resource, obj, now)
                used = add(used, {name: cost[name] for name in names if name in cost})
    return {"hard": dict(hard), "used": {name: str(quantity) for name, quantity in used.items()}}


class ResourceQuotaController(Controller):
    """One key is one ResourceQuota."""

    name = "resourcequota-controller"

    def __init__(self, client: Client, informers: InformerFactory, served: ServedResources) -> None:
        self._served = served
        self._followed: dict[GVR, Informer] = {}
        super().__init__(client, informers)

    def setup(self) -> None:
        self.quotas = self.use(RESOURCE_QUOTAS)
        self.quotas.add_index("namespace", by_namespace)
        self.quotas.add_handler(self._enqueue, self._enqueue_changed, None)
        self._served.on_change(lambda _: self._enqueue_all(), self._unfollow)

    def _enqueue(self, quota: Obj) -> None:
        for key in itself(quota):
            self.queue.add(key)

    def _enqueue_changed(self, old: Obj, new: Obj) -> None:
        """What admission writes to the status is no reason to count again."""
        if old.get("spec") != new.get("spec") or get_in(new, "status", "hard") != get_in(new, "spec", "hard"):
            self._enqueue(new)

    def _enqueue_all(self) -> None:
        for quota in self.quotas.store.list():
            self._enqueue(quota)

    async def reconcile(self, key: str) -> float | None:
        quota = self.quotas.store.get(key)
        if quota is None or is_deleting(quota):
            return None
        hard = get_in(quota, "spec", "hard", default={})
        found = []
        for resource in self._served.list():
            where = (resource.gvr.group, resource.gvr.resource)
            if resource.namespaced and resource.watchable and counted(where, hard):
                informer = self._follow(resource)
                async with asyncio.timeout(_PATIENCE):
                    await informer.wait_synced()
                found.append((where, list(informer.store.by_index("namespace", namespace_of(quota)))))
        status = status_of(quota, found, utc_now())
        if status != (quota.get("status") or {}):
            await self.client.update_status(RESOURCE_QUOTAS, replace_in(quota, status, "status"))
        return _RESYNC

    def _follow(self, resource: Resource) -> Informer:
        """The objects of a resource that a quota counts; whole ones only where more than their number matters."""
        gvr = resource.gvr
        informer = self._followed.get(gvr)
        if informer is None:
            where = (gvr.group, gvr.resource)
            whole = where in EVALUATED
            informer = self.informers.informer(gvr) if whole else self.informers.metadata_informer(gvr)
            informer.add_index("namespace", by_namespace)
            informer.add_handler(self._look_later, lambda old, new: self._look_at(where, old, new), self._replenish)
            self._followed[gvr] = informer
        return informer

    def _look_later(self, obj: Obj) -> None:
        """A count made between an object's charge and its arrival here gave the charge back."""
        for quota in self.quotas.store.by_index("namespace", namespace_of(obj)):
            for key in itself(quota):
                self.queue.add_after(key, _COALESCE)

    def _look_at(self, resource: tuple[str, str], old: Obj, new: Obj) -> None:
        """An update gives back what it takes off the object's cost."""
        now = utc_now()
        if resource in EVALUATED and usage(resource, old, now) != usage(resource, new, now):
            self._replenish(new)

    def _replenish(self, obj: Obj) -> None:
        for quota in self.quotas.store.by_index("namespace", namespace_of(obj)):
            self._enqueue(quota)

    def _unfollow(self, resource: Resource) -> None:
        if self._followed.pop(resource.gvr, None) is not None:
            self.informers.drop_metadata_informer(resource.gvr)
            self._enqueue_all()
