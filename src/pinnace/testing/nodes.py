"""Nodes without machines for tests: hollow nodes whose pods run at once, and until they are told to end.

`finish` ends a pod as its containers would, `set_log` says what `kubectl logs` answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pinnace.apis.resources import PODS
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.kubelet.hollow.behaviour import Behaviour
from pinnace.kubelet.hollow.kubelets import HollowKubelets
from pinnace.kubelet.hollow.status import finished
from pinnace.machinery.meta import Obj, uid_of, utc_now
from pinnace.wire.tasks import end_tasks

if TYPE_CHECKING:
    from pinnace.client.client import Client
    from pinnace.testing.credentials import Credentials

FOR_EVER = Behaviour(run=None)


class FakeNodes:
    """All nodes of one cluster, in the event loop that made it. `minor` is of their version; the newest when None."""

    def __init__(self, client: Client, credentials: Credentials, minor: int | None) -> None:
        from pinnace.machinery.schema import Schemas
        from pinnace.wire.tls import TlsConfig

        certificate = credentials.serving("kubelet", "system:node:test", ("127.0.0.1", "localhost"))
        tls = TlsConfig(certificate, certificate.with_suffix(".key"), credentials.directory / "ca.crt")
        self._client = client
        self._kubelets = HollowKubelets(client, tls, f"v1.{minor or max(Schemas.minors())}.0")
        self._running: asyncio.Task[None] | None = None

    async def add(
        self, name: str, capacity: Mapping[str, str], labels: Mapping[str, str], taints: Sequence[Obj]
    ) -> Obj:
        """Register a node that is Ready; the Node."""
        if self._running is None:
            self._running = asyncio.create_task(self._kubelets.run())
        ready = await self._kubelets.add(name, capacity=capacity, labels=labels, taints=taints, behaviour=FOR_EVER)
        return await ready

    async def finish(self, pod_name: str, namespace: str, exit_code: int) -> Obj:
        """End every container of a pod, as a program does that exits with `exit_code`."""
        pod = await self._client.get(PODS, pod_name, namespace)
        patch = {"metadata": {"uid": uid_of(pod)}, "status": finished(pod, utc_now(), exit_code)}
        return await self._client.patch(
            PODS, pod_name, patch, namespace, content_type=STRATEGIC_MERGE_PATCH, subresource="status"
        )

    def set_log(self, pod_name: str, namespace: str, container: str, text: str) -> None:
        self._kubelets.logs[namespace, pod_name, container] = text

    async def stop(self) -> None:
        if self._running is not None:
            await end_tasks([self._running])
