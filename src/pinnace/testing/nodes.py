"""Nodes without machines: registered, kept alive by their lease, and running every pod that is bound to them in name.

A pod becomes Running and ready at once and is gone as soon as it is deleted; `finish` ends one as its containers would.
Each node answers `kubectl logs` with what the test said the container wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import structlog

from pinnace.apis.resources import NODES, PODS
from pinnace.client.informer import InformerFactory
from pinnace.client.tasks import end_tasks
from pinnace.client.transport import STRATEGIC_MERGE_PATCH
from pinnace.kubelet.lease import NodeLease
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj, format_time, get_in, is_deleting, name_of, namespace_of, uid_of, utc_now
from pinnace.wire.http import Request, Response

if TYPE_CHECKING:
    from pinnace.client.client import Client
    from pinnace.testing.credentials import Credentials
    from pinnace.wire.server import Server

LEASE_SECONDS = 40
KILLED = 137  # the exit code
CAPACITY = {"cpu": "8", "memory": "16Gi", "ephemeral-storage": "100Gi", "pods": "110"}

_log = structlog.get_logger()


class FakeNodes:
    """All nodes of one cluster, in the event loop that made it."""

    def __init__(self, client: Client, credentials: Credentials, minor: int | None) -> None:
        self._client = client
        self._credentials = credentials
        self._minor = minor  # of the kubelets' version; the newest when None
        self._informers = InformerFactory(client)
        self._pods = self._informers.informer(PODS)
        self._names: set[str] = set()
        self._tasks: list[asyncio.Task[Any]] = []
        self._logs: dict[tuple[str, str, str], str] = {}
        self._server: Server | None = None
        self._addresses = 0

    async def add(
        self, name: str, capacity: Mapping[str, str], labels: Mapping[str, str], taints: Sequence[Obj]
    ) -> Obj:
        """Register a node that is Ready; the Node."""
        if self._server is None:
            await self._begin()
        await self._client.create(NODES, _node(name, labels, taints))
        status = _node_status(name, {**CAPACITY, **capacity}, self._port(), self._version())
        node = await self._client.patch(
            NODES, name, {"status": status}, content_type=STRATEGIC_MERGE_PATCH, subresource="status"
        )
        self._names.add(name)
        self._tasks.append(asyncio.create_task(NodeLease(self._client, name, LEASE_SECONDS, lambda: node).run()))
        for pod in self._pods.store.list():
            self._seen(pod)
        return node

    async def finish(self, pod_name: str, namespace: str, exit_code: int) -> Obj:
        """End every container of a pod, as a program does that exits with `exit_code`."""
        pod = await self._client.get(PODS, pod_name, namespace)
        return await self._write(pod, _finished(pod, exit_code))

    def set_log(self, pod_name: str, namespace: str, container: str, text: str) -> None:
        self._logs[namespace, pod_name, container] = text

    async def stop(self) -> None:
        await end_tasks(self._tasks)
        await self._informers.stop()
        if self._server is not None:
            await self._server.close(0)

    async def _begin(self) -> None:
        from pinnace.wire.server import serve
        from pinnace.wire.tls import TlsConfig

        certificate = self._credentials.serving("kubelet", "system:node:test", ("127.0.0.1", "localhost"))
        tls = TlsConfig(certificate, certificate.with_suffix(".key"), self._credentials.directory / "ca.crt")
        self._server = await serve(self._answer, [("127.0.0.1", 0)], tls)
        self._pods.add_handler(self._seen, lambda _, pod: self._seen(pod))
        self._informers.start()

    def _seen(self, pod: Obj) -> None:
        if get_in(pod, "spec", "nodeName") not in self._names:
            return
        phase = get_in(pod, "status", "phase")
        if is_deleting(pod):
            self._begin_task(self._remove(pod))
        elif phase in (None, "", "Pending"):
            self._addresses += 1
            address = f"10.244.{self._addresses // 250 % 250}.{self._addresses % 250 + 2}"
            self._begin_task(self._write(pod, _running(pod, address)))

    def _begin_task(self, work: Any) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(self._quietly(work)))

    async def _quietly(self, work: Any) -> None:
        try:
            await work
        except ApiError as error:  # gone, or changed: the next event tells
            _log.debug("fake node could not write", error=error.message)

    async def _write(self, pod: Obj, status: Obj) -> Obj:
        patch = {"metadata": {"uid": uid_of(pod)}, "status": status}
        return await self._client.patch(
            PODS,
            name_of(pod),
            patch,
            namespace_of(pod),
            content_type=STRATEGIC_MERGE_PATCH,
            subresource="status",
        )

    async def _remove(self, pod: Obj) -> None:
        """End the containers, as the kill at the end of a grace period does, then the pod."""
        if get_in(pod, "status", "phase") not in ("Succeeded", "Failed"):
            await self._write(pod, _finished(pod, KILLED))
        await self._client.delete(PODS, name_of(pod), namespace_of(pod), grace_period_seconds=0, uid=uid_of(pod))

    def _answer(self, request: Request) -> Response:
        """What the API server asks of a kubelet: `/containerLogs/NAMESPACE/POD/CONTAINER`."""
        parts = request.path.strip("/").split("/")
        if len(parts) == 4 and parts[0] == "containerLogs":
            text = self._logs.get((parts[1], parts[2], parts[3]), "")
            tail = request.params().get("tailLines", "")
            lines = text.splitlines(keepends=True)
            if tail.isdigit():
                lines = lines[max(len(lines) - int(tail), 0) :]
            return Response(200, (("Content-Type", "text/plain"),), "".join(lines).encode())
        return Response(404, (("Content-Type", "text/plain"),), b"404 page not found\n")

    def _port(self) -> int:
        assert self._server is not None
        return self._server.addresses[0][1]

    def _version(self) -> str:
        from pinnace.machinery.schema import Schemas

        return f"v1.{self._minor or max(Schemas.minors())}.0"


def _node(name: str, labels: Mapping[str, str], taints: Sequence[Obj]) -> Obj:
    named = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {**named, **labels}},
        "spec": {"taints": list(taints)} if taints else {},
    }


def _node_status(name: str, capacity: Mapping[str, str], kubelet_port: int, version: str) -> Obj:
    now = format_time(utc_now())
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
    }
    return {
        "capacity": dict(capacity),
        "allocatable": dict(capacity),
        "conditions": [ready],
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet_port}},
        "nodeInfo": {
            "machineID": name,
            "systemUUID": name,
            "bootID": name,
            "kernelVersion": "none",
            "osImage": "none",
            "operatingSystem": "linux",
            "architecture": "amd64",
            "containerRuntimeVersion": "fake://1.0",
            "kubeletVersion": version,
            "kubeProxyVersion": version,
        },
    }


def _running(pod: Obj, address: str) -> Obj:
    now = format_time(utc_now())
    running = {"running": {"startedAt": now}}
    return {
        "phase": "Running",
        "hostIP": "127.0.0.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": now,
        "conditions": [
            _condition(name, "True", now) for name in ("Initialized", "ContainersReady", "Ready", "PodScheduled")
        ],
        "initContainerStatuses": [_init_status(one, now) for one in get_in(pod, "spec", "initContainers") or ()],
        "containerStatuses": [_status(one, running, ready=True) for one in pod["spec"]["containers"]],
    }


def _finished(pod: Obj, exit_code: int) -> Obj:
    now = format_time(utc_now())
    ended = {"terminated": _terminated(now, exit_code)}
    return {
        "phase": "Failed" if exit_code else "Succeeded",
        "conditions": [
            {**_condition(name, "False", now), "reason": "PodFailed" if exit_code else "PodCompleted"}
            for name in ("ContainersReady", "Ready")
        ],
        "containerStatuses": [_status(one, ended, ready=False) for one in pod["spec"]["containers"]],
    }


def _condition(kind: str, status: str, now: str) -> Obj:
    return {"type": kind, "status": status, "lastTransitionTime": now}


def _init_status(container: Obj, now: str) -> Obj:
    if container.get("restartPolicy") == "Always":  # a sidecar
        return _status(container, {"running": {"startedAt": now}}, ready=True)
    return _status(container, {"terminated": _terminated(now, 0)}, ready=True)


def _terminated(now: str, exit_code: int) -> Obj:
    reason = "Error" if exit_code else "Completed"
    return {"exitCode": exit_code, "reason": reason, "startedAt": now, "finishedAt": now}


def _status(container: Obj, state: Obj, *, ready: bool) -> Obj:
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": f"fake://{container.get('image', '')}",
        "containerID": f"fake://{container['name']}",
        "ready": ready,
        "started": ready,
        "restartCount": 0,
        "state": state,
        "lastState": {},
    }
