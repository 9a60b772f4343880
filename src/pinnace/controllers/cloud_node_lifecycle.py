"""Asks the cloud about nodes that are not ready: those whose machine is gone are deleted, those switched off tainted.

Specified by https://kubernetes.io/docs/concepts/architecture/cloud-controller/#node-lifecycle-controller.
"""

from __future__ import annotations

from pinnace.apis.resources import NODES
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.client.informer import InformerFactory
from pinnace.controllers.cloud import CloudError, Instances
from pinnace.controllers.node_lifecycle import node_ready
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, get_in, is_deleting, name_of, uid_of

SHUT_DOWN = {"key": "node.cloudprovider.kubernetes.io/shutdown", "effect": "NoSchedule"}
_PERIOD = 5.0  # seconds between questions about a node that is not ready


def with_shutdown_taint(node: Obj, *, is_shut_down: bool) -> list[Obj] | None:
    """The taints that the node should have; None if it has them."""
    taints = get_in(node, "spec", "taints") or []
    others = [taint for taint in taints if (taint.get("key"), taint.get("effect")) != tuple(SHUT_DOWN.values())]
    wanted = [*others, SHUT_DOWN] if is_shut_down else others
    return wanted if len(wanted) != len(taints) else None


class CloudNodeLifecycleController(Controller):
    """One key is one node."""

    name = "cloud-node-lifecycle-controller"
    workers = 1

    def __init__(self, client: Client, informers: InformerFactory, *, instances: Instances) -> None:
        self._instances = instances
        super().__init__(client, informers)

    def setup(self) -> None:
        self.nodes = self.watch(NODES, itself)

    async def reconcile(self, key: str) -> float | None:
        node = self.nodes.store.get(key)
        if node is None or is_deleting(node):
            return None
        if node_ready(node) == "True":
            await self._taint(node, is_shut_down=False)
            return None
        try:
            if not await self._instances.exists(node):
                await self._delete(node)
                return None
            await self._taint(node, is_shut_down=await self._instances.is_shut_down(node))
        except CloudError:
            pass  # asked again
        return _PERIOD

    async def _delete(self, node: Obj) -> None:
        name = name_of(node)
        message = f"Deleting node {name} because it does not exist in the cloud provider"
        self.recorder.event(node, "Normal", "DeletingNode", message)
        try:
            await self.client.delete(NODES, name, uid=uid_of(node))
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def _taint(self, node: Obj, *, is_shut_down: bool) -> None:
        taints = with_shutdown_taint(node, is_shut_down=is_shut_down)
        if taints is not None:
            await self.client.update(NODES, {**node, "spec": {**node["spec"], "taints": taints}})
