"""What a cloud does for a cluster: load balancers for Services, routes between nodes, and the machines that nodes are.

A provider is handed to the controllers that ask it (`service_lb`, `node_route`, `cloud_node_lifecycle`). No cloud comes
with the controller manager, as with the original since 1.31: without a provider these controllers have nothing to do.
https://kubernetes.io/docs/concepts/architecture/cloud-controller/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pinnace.machinery.meta import Obj, is_deleting, labels_of

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


class CloudError(Exception):
    """The cloud refuses; its words, which events repeat."""


class LoadBalancers(Protocol):
    """All may raise CloudError."""

    async def exists(self, service: Obj) -> bool:
        """Whether the Service has a load balancer."""

    async def ensure(self, service: Obj, nodes: Sequence[Obj]) -> Obj:
        """Make it, or bring it up to date; what `status.loadBalancer` is to say. Idempotent."""

    async def update(self, service: Obj, nodes: Sequence[Obj]) -> None:
        """Lead it to other nodes."""

    async def delete(self, service: Obj) -> None:
        """Take it away; one that is not there is gone already."""


class Routes(Protocol):
    """All may raise CloudError."""

    async def list(self) -> Mapping[str, set[str]]:
        """Of every node, the ranges that are led to it."""

    async def create(self, node: Obj, cidr: str) -> None:
        """Lead a range of pods to their node."""

    async def delete(self, node: str, cidr: str) -> None:
        """Lead it there no more."""


class Instances(Protocol):
    """All may raise CloudError."""

    async def exists(self, node: Obj) -> bool:
        """Whether the machine is still there, running or not."""

    async def is_shut_down(self, node: Obj) -> bool:
        """Whether it is, and is switched off."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """A provider, as far as it goes."""

    load_balancers: LoadBalancers | None = None
    routes: Routes | None = None
    instances: Instances | None = None


NO_CLOUD = Cloud()


def is_balanced_to(node: Obj) -> bool:
    """Whether load balancers may lead to a node."""
    if is_deleting(node) or EXCLUDED in labels_of(node):
        return False
    taints = (node.get("spec") or {}).get("taints") or ()
    return not any(taint.get("key") == "ToBeDeletedByClusterAutoscaler" for taint in taints)
