"""Gives every node its own range of pod addresses, cut from the cluster's.

Pure choice of a free range, then one patch. Specified by `--allocate-node-cidrs` of
https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

import structlog

from pinnace.apis.resources import NODES
from pinnace.client.client import Client
from pinnace.client.controller import Controller, itself
from pinnace.client.informer import InformerFactory
from pinnace.machinery.meta import Obj, get_in, name_of

Network = IPv4Network | IPv6Network

_log = structlog.get_logger()

_MASK = {4: 24, 6: 64}


class ClusterRange:
    """One range of the cluster and the pieces of it that are taken."""

    def __init__(self, cidr: str, mask: int = 0) -> None:
        self.network: Network = ip_network(cidr)
        self.mask = max(mask or _MASK[self.network.version], self.network.prefixlen)
        self._taken: set[int] = set()
        self._next = 0  # nothing below is free

    def _number(self, piece: Network) -> int | None:
        """Which piece of the range it is; None for one outside."""
        offset = int(piece.network_address) - int(self.network.network_address)
        size = 1 << (self.network.max_prefixlen - self.mask)
        inside = piece.version == self.network.version and 0 <= offset < self.network.num_addresses
        return offset // size if inside else None

    def take(self, cidr: str) -> None:
        """Note that a node has this piece."""
        number = self._number(ip_network(cidr, strict=False))
        if number is not None:
            self._taken.add(number)

    def exclude(self, cidr: str) -> None:
        """Give nothing away of what lies in another range, that of Services."""
        other = ip_network(cidr)
        if other.version != self.network.version or not other.overlaps(self.network):
            return
        first = max(int(other.network_address), int(self.network.network_address))
        last = min(int(other.broadcast_address), int(self.network.broadcast_address))
        size = 1 << (self.network.max_prefixlen - self.mask)
        base = int(self.network.network_address)
        self._taken.update(range((first - base) // size, (last - base) // size + 1))

    def give_back(self, cidr: str) -> None:
        number = self._number(ip_network(cidr, strict=False))
        if number is not None:
            self._taken.discard(number)
            self._next = min(self._next, number)

    def allocate(self) -> str | None:
        """The lowest piece that is free, now taken; None when all are."""
        while self._next in self._taken:
            self._next += 1
        number = self._next
        if number >= 1 << (self.mask - self.network.prefixlen):
            return None
        self._taken.add(number)
        size = 1 << (self.network.max_prefixlen - self.mask)
        first = self.network.network_address + number * size
        return f"{first}/{self.mask}"


def cidrs_of(node: Obj) -> Sequence[str]:
    found: Sequence[str] = get_in(node, "spec", "podCIDRs", default=())
    single = get_in(node, "spec", "podCIDR")
    return found or ([single] if single else [])


class NodeIpamController(Controller):
    """One key is one node; a node keeps its ranges until it is deleted."""

    name = "node-ipam-controller"
    component = "cidrAllocator"
    workers = 1  # the choice of a range must not be made twice at once

    def __init__(
        self,
        client: Client,
        informers: InformerFactory,
        cluster_cidrs: Iterable[str],
        *,
        masks: Mapping[int, int] = _MASK,
        service_cidrs: Iterable[str] = (),
    ) -> None:
        self.ranges = [ClusterRange(cidr, masks.get(6 if ":" in cidr else 4, 0)) for cidr in cluster_cidrs]
        for cidr in service_cidrs:
            for one in self.ranges:
                one.exclude(cidr)
        self._waiting: dict[str, None] = {}  # nodes for which nothing was left
        super().__init__(client, informers)

    def setup(self) -> None:
        self.nodes = self.watch(NODES, itself)
        self.nodes.add_handler(self._note, lambda _, new: self._note(new), self._forget)

    def _note(self, node: Obj) -> None:
        for cidr in cidrs_of(node):
            for one in self.ranges:
                one.take(cidr)

    def _forget(self, node: Obj) -> None:
        self._waiting.pop(name_of(node), None)
        freed = cidrs_of(node)
        self._give_back(freed)
        if freed and self._waiting:
            self.queue.add(self._waiting.popitem()[0])

    def _give_back(self, cidrs: Iterable[str]) -> None:
        for cidr in cidrs:
            for one in self.ranges:
                one.give_back(cidr)

    async def reconcile(self, key: str) -> float | None:
        node = self.nodes.store.get(key)
        if node is None or cidrs_of(node):
            return None
        cidrs = [one.allocate() for one in self.ranges]
        given = [cidr for cidr in cidrs if cidr is not None]
        if len(given) < len(self.ranges):
            self._give_back(given)
            message = f"Node {name_of(node)} status is now: CIDRNotAvailable"
            self.recorder.event(node, "Normal", "CIDRNotAvailable", message)
            _log.warning("there are no remaining CIDRs left to allocate in the accepted range", node=key)
            self._waiting[key] = None
            return None
        try:
            await self.client.patch(NODES, key, {"spec": {"podCIDR": given[0], "podCIDRs": given}})
        except BaseException:
            self._give_back(given)
            raise
        return None
