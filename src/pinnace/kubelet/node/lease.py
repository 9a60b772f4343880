"""The node's Lease: a heartbeat in kube-node-lease that says every ten seconds that the node is alive.

Specified by https://kubernetes.io/docs/concepts/architecture/leases/#node-heart-beats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from pinnace.apis.resources import LEASES
from pinnace.client.client import Client
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_micro_time, uid_of, utc_now

_log = structlog.get_logger()

NAMESPACE = "kube-node-lease"
_RETRY = 0.2


class NodeLease:
    """Keeps one node's lease renewed; `node` gives the Node object that shall own it."""

    def __init__(self, client: Client, name: str, duration: int, node: Callable[[], Obj | None]) -> None:
        self._client = client
        self._name = name
        self._duration = duration
        self._node = node
        self._lease: Obj | None = None

    async def run(self) -> None:
        """Renew at a quarter of the lease's duration until cancelled."""
        while True:
            renewed = False
            for attempt in range(5):
                renewed = await self.renew()
                if renewed:
                    break
                await asyncio.sleep(_RETRY * 2**attempt)
            await asyncio.sleep(self._duration / 4)

    async def renew(self) -> bool:
        """Create or renew the lease; whether that worked."""
        try:
            # An answer that takes longer comes too late: by then a new connection may find a server that answers.
            async with asyncio.timeout(self._duration / 4):
                if self._lease is None:
                    self._lease = await self._get_or_create()
                lease = {**self._lease, "spec": {**self._lease.get("spec", {}), **self._spec()}}
                lease["metadata"] = self._owned(lease["metadata"])
                self._lease = await self._client.update(LEASES, lease)
            return True
        except (ApiError, TimeoutError) as error:
            why = error.message if isinstance(error, ApiError) else "the API server does not answer"
            _log.warning("cannot renew the node lease", error=why)
            self._lease = None
            return False

    def _spec(self) -> Obj:
        return {
            "holderIdentity": self._name,
            "leaseDurationSeconds": self._duration,
            "renewTime": format_micro_time(utc_now()),
        }

    def _owned(self, metadata: Obj) -> Obj:
        node = self._node()
        if metadata.get("ownerReferences") or node is None:
            return metadata
        owner = {"apiVersion": "v1", "kind": "Node", "name": self._name, "uid": uid_of(node)}
        return {**metadata, "ownerReferences": [owner]}

    async def _get_or_create(self) -> Obj:
        try:
            return await self._client.get(LEASES, self._name, NAMESPACE)
        except ApiError as error:
            if not error.is_not_found:
                raise
        metadata = self._owned({"name": self._name, "namespace": NAMESPACE})
        made = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": self._spec()}
        return await self._client.create(LEASES, made)
