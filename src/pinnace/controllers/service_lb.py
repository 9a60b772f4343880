"""Has the cloud balance load to Services of type LoadBalancer, and tells in their status where.

Services with a `loadBalancerClass` are somebody else's. Specified by
https://kubernetes.io/docs/concepts/services-networking/service/#loadbalancer and, of the finalizer,
https://kubernetes.io/docs/tasks/access-application-cluster/create-external-load-balancer/#garbage-collecting-load-balancers.
"""

from __future__ import annotations

from dataclasses import dataclass

from pinnace.apis.resources import NODES, SERVICES
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.client.informer import InformerFactory
from pinnace.controllers.cloud import CloudError, LoadBalancers, is_balanced_to
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, is_deleting, key_of, name_of

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
_RETRY_SECONDS = 5.0
_MOST_NAMED = 50  # nodes in an event

# Decisions.


def wants_load_balancer(service: Obj) -> bool:
    """Whether the cloud's own balancer is meant."""
    spec = service.get("spec") or {}
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")


def has_finalizer(service: Obj) -> bool:
    return FINALIZER in (service["metadata"].get("finalizers") or ())


def needs_cleanup(service: Obj) -> bool:
    """Whether it had a balancer that is to go."""
    return has_finalizer(service) and (is_deleting(service) or get_in(service, "spec", "type") != "LoadBalancer")


def hosts_text(names: list[str]) -> str:
    """The nodes as an event names them."""
    shown = names if len(names) <= _MOST_NAMED else [*names[:_MOST_NAMED], "..."]
    return f"[{' '.join(shown)}]"


# Carrying them out.


@dataclass(frozen=True, slots=True)
class _Made:
    """What a balancer was made of."""

    spec: Obj
    hosts: list[str]


class ServiceLbController(Controller):
    """One key is one Service."""

    name = "service-lb-controller"
    component = "service-controller"
    workers = 1

    def __init__(self, client: Client, informers: InformerFactory, *, balancers: LoadBalancers) -> None:
        self._balancers = balancers
        self._made: dict[str, _Made] = {}  # by Service, since this process began
        super().__init__(client, informers)

    def setup(self) -> None:
        self.services = self.watch(SERVICES, itself)
        self.nodes = self.watch(NODES, lambda _: list(self._made))

    async def reconcile(self, key: str) -> float | None:
        service = self.services.store.get(key)
        if service is None:
            self._made.pop(key, None)
            return None
        try:
            if needs_cleanup(service):
                await self._clean_up(service)
            elif wants_load_balancer(service) and not is_deleting(service):
                await self._ensure(service)
        except CloudError as error:
            self.recorder.event(service, "Warning", "SyncLoadBalancerFailed", f"Error syncing load balancer: {error}")
            return _RETRY_SECONDS
        except ApiError as error:
            if not error.is_not_found:
                raise
        return None

    async def _clean_up(self, service: Obj) -> None:
        self._made.pop(key_of(service), None)
        if await self._exists(service):
            self.recorder.event(service, "Normal", "DeletingLoadBalancer", "Deleting load balancer")
            try:
                await self._balancers.delete(service)
            except CloudError as error:
                raise CloudError(f"failed to delete load balancer: {error}") from error
        if not is_deleting(service):
            service = await self._tell(service, {})
        left = [one for one in service["metadata"].get("finalizers") or () if one != FINALIZER]
        self.recorder.event(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer")
        await self.client.update(SERVICES, _with_finalizers(service, left))

    async def _exists(self, service: Obj) -> bool:
        try:
            return await self._balancers.exists(service)
        except CloudError as error:
            raise CloudError(f"failed to check if load balancer exists before cleanup: {error}") from error

    async def _ensure(self, service: Obj) -> None:
        """Have the balancer as the Service asks; where only the nodes have changed, tell it of them."""
        key = key_of(service)
        nodes = [node for node in self.nodes.store.list() if is_balanced_to(node)]
        names = sorted(name_of(node) for node in nodes)
        if (known := self._made.get(key)) is not None and known.spec == service["spec"]:
            if known.hosts != names:
                await self._update(service, nodes, names)
            return
        self.recorder.event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
        if not has_finalizer(service):
            finalizers = [*(service["metadata"].get("finalizers") or ()), FINALIZER]
            service = await self.client.update(SERVICES, _with_finalizers(service, finalizers))
        if not nodes:
            why = "There are no available nodes for LoadBalancer"
            self.recorder.event(service, "Warning", "UnAvailableLoadBalancer", why)
        try:
            status = await self._balancers.ensure(service, nodes)
        except CloudError as error:
            raise CloudError(f"failed to ensure load balancer: {error}") from error
        self.recorder.event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        await self._tell(service, status)
        self._made[key] = _Made(service["spec"], names)

    async def _update(self, service: Obj, nodes: list[Obj], names: list[str]) -> None:
        """Other nodes: the balancer stays what it is."""
        try:
            await self._balancers.update(service, nodes)
        except CloudError as error:
            message = f"Error updating load balancer with new hosts {hosts_text(names)}: {error}"
            self.recorder.event(service, "Warning", "UpdateLoadBalancerFailed", message)
            raise
        self._made[key_of(service)] = _Made(service["spec"], names)
        self.recorder.event(service, "Normal", "UpdatedLoadBalancer", "Updated load balancer with new hosts")

    async def _tell(self, service: Obj, status: Obj) -> Obj:
        if (get_in(service, "status", "loadBalancer") or {}) == status:
            return service
        whole = {**(service.get("status") or {}), "loadBalancer": status}
        return await self.client.update_status(SERVICES, {**service, "status": whole})


def _with_finalizers(service: Obj, finalizers: list[str]) -> Obj:
    return {**service, "metadata": {**service["metadata"], "finalizers": finalizers}}
