"""Has the cloud lead every node's range of pod addresses to the node, and says of nodes whether their network is there.

Specified by `--configure-cloud-routes` of
https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from pinnace.apis.resources import NODES
from pinnace.client.client import Client
from pinnace.client.controller import Controller
from pinnace.client.informer import InformerFactory
from pinnace.controllers.cloud import CloudError, Routes
from pinnace.controllers.conditions import condition, with_condition
from pinnace.controllers.node_ipam import cidrs_of
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, get_in, name_of, replace_in, utc_now

_ALL = "routes"  # the one key
_PERIOD = 10.0  # seconds between looks at everything


def plan(nodes: Iterable[Obj], routes: Mapping[str, set[str]]) -> tuple[list[tuple[Obj, str]], list[tuple[str, str]]]:
    """Routes to create and to delete: node and range each."""
    wanted = {name_of(node): (node, set(cidrs_of(node))) for node in nodes}
    create = [
        (node, cidr) for name, (node, cidrs) in wanted.items() for cidr in sorted(cidrs - set(routes.get(name, ())))
    ]
    delete = [
        (name, cidr)
        for name, cidrs in routes.items()
        for cidr in sorted(cidrs - (wanted[name][1] if name in wanted else set()))
    ]
    return create, delete


def network_condition(node: Obj, now: datetime, *, routed: bool) -> Obj | None:
    """The condition NetworkUnavailable as it should be; None if it is so already."""
    wanted = {
        "type": "NetworkUnavailable",
        "status": "False" if routed else "True",
        "reason": "RouteCreated" if routed else "NoRouteCreated",
        "message": "RouteController created a route" if routed else "RouteController failed to create a route",
    }
    found = condition(node, "NetworkUnavailable") or {}
    if all(found.get(field) == value for field, value in wanted.items()):
        return None
    return wanted | {"lastTransitionTime": format_time(now)}


class NodeRouteController(Controller):
    """There is one key: routes of nodes that are gone are told from the others by looking at all."""

    name = "node-route-controller"
    component = "route_controller"
    workers = 1

    def __init__(self, client: Client, informers: InformerFactory, *, routes: Routes) -> None:
        self._routes = routes
        super().__init__(client, informers)

    def setup(self) -> None:
        self.nodes = self.watch(NODES, lambda _: (_ALL,))
        self.queue.add(_ALL)

    async def reconcile(self, key: str) -> float | None:  # noqa: ARG002 - there is but one
        nodes = self.nodes.store.list()
        try:
            create, delete = plan(nodes, await self._routes.list())
            for name, cidr in delete:
                await self._routes.delete(name, cidr)
        except CloudError:
            return _PERIOD
        failed = {name_of(node) for node, cidr in create if not await self._create(node, cidr)}
        for node in nodes:
            if cidrs_of(node):
                await self._tell(node, routed=name_of(node) not in failed)
        return _PERIOD

    async def _create(self, node: Obj, cidr: str) -> bool:
        try:
            await self._routes.create(node, cidr)
        except CloudError as error:
            message = f"Could not create route {cidr} for node {name_of(node)}: {error}"
            self.recorder.event(node, "Warning", "FailedToCreateRoute", message)
            return False
        return True

    async def _tell(self, node: Obj, *, routed: bool) -> None:
        wanted = network_condition(node, utc_now(), routed=routed)
        if wanted is None:
            return
        conditions = with_condition(get_in(node, "status", "conditions", default=()), wanted)
        try:
            await self.client.update_status(NODES, replace_in(node, conditions, "status", "conditions"))
        except ApiError as error:
            if not (error.is_not_found or error.is_conflict):
                raise
