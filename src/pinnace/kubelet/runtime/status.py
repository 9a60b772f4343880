"""What the runtime says of one pod: its sandboxes and containers, newest first, and the cache of that for all pods.

Relies on the CRI alone. Everything the kubelet must remember about a running container is in its labels and
annotations, so that a kubelet started anew knows as much as the old one did.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from pinnace.cri.api import (
    ContainerState,
    ContainerStatus,
    CriError,
    PodSandboxState,
    PodSandboxStatus,
    RuntimeService,
)
from pinnace.kubelet.pods import (
    ANNOTATION_HASH,
    ANNOTATION_RESTART_COUNT,
    LABEL_CONTAINER_NAME,
    LABEL_POD_NAME,
    LABEL_POD_NAMESPACE,
    LABEL_POD_UID,
)

_ORDER = {
    ContainerState.UNKNOWN: 0,
    ContainerState.CREATED: 1,
    ContainerState.RUNNING: 2,
    ContainerState.EXITED: 3,
}


def container_name(status: ContainerStatus) -> str:
    return status.labels.get(LABEL_CONTAINER_NAME) or status.metadata.name


def restart_count(status: ContainerStatus) -> int:
    try:
        return int(status.annotations.get(ANNOTATION_RESTART_COUNT, status.metadata.attempt))
    except ValueError:
        return status.metadata.attempt


def spec_hash(status: ContainerStatus) -> str:
    return status.annotations.get(ANNOTATION_HASH, "")


@dataclass(slots=True)
class PodRuntimeStatus:
    """A pod as the runtime has it."""

    uid: str
    name: str = ""
    namespace: str = ""
    sandboxes: list[PodSandboxStatus] = field(default_factory=list)  # newest first
    containers: list[ContainerStatus] = field(default_factory=list)  # newest first
    sandbox_of: dict[str, str] = field(default_factory=dict)  # container id -> sandbox id

    @property
    def sandbox(self) -> PodSandboxStatus | None:
        """The newest sandbox, ready or not."""
        return self.sandboxes[0] if self.sandboxes else None

    @property
    def ips(self) -> list[str]:
        """The addresses of the ready sandbox."""
        sandbox = self.sandbox
        return sandbox.ips if sandbox and sandbox.state is PodSandboxState.READY else []

    def latest(self, name: str) -> ContainerStatus | None:
        """The newest instance of a container, of any sandbox."""
        return next((status for status in self.containers if container_name(status) == name), None)

    def instances(self, name: str) -> list[ContainerStatus]:
        """Every instance of a container still known, newest first."""
        return [status for status in self.containers if container_name(status) == name]

    def current(self, name: str) -> ContainerStatus | None:
        """The newest instance in the newest sandbox."""
        sandbox = self.sandbox
        for status in self.containers:
            if container_name(status) == name and (sandbox is None or self.sandbox_of.get(status.id) == sandbox.id):
                return status
        return None

    def running(self) -> list[ContainerStatus]:
        return [status for status in self.containers if status.state is ContainerState.RUNNING]

    def anything_alive(self) -> bool:
        """Whether a process of the pod may still run."""
        return bool(self.running()) or any(box.state is PodSandboxState.READY for box in self.sandboxes)


def primary_first(ips: Sequence[str], node_ip: str) -> list[str]:
    """A pod's addresses, one of each family, first that of the node's own family."""
    own = ":" in node_ip
    first = [ip for ip in ips if (":" in ip) is own][:1]
    return first + [ip for ip in ips if (":" in ip) is not own][:1]


class RuntimeCache:
    """The runtime's state per pod UID; `refresh_*` asks the runtime, everything else answers from memory."""

    def __init__(self, runtime: RuntimeService, node_ip: str = "") -> None:
        self._runtime = runtime
        self._node_ip = node_ip
        self.pods: dict[str, PodRuntimeStatus] = {}
        self._owner: dict[str, str] = {}  # container or sandbox id -> pod UID

    def get(self, uid: str) -> PodRuntimeStatus:
        """What is known of a pod; empty for one that the runtime does not have."""
        return self.pods.get(uid) or PodRuntimeStatus(uid)

    async def relist(self) -> set[str]:
        """Ask for everything; the UIDs of the pods of which something changed."""
        known_before = list(self._owner)  # what is made from now on, the lists need not show
        sandboxes = await self._runtime.list_pod_sandbox()
        containers = await self._runtime.list_containers()
        changed: set[str] = set()
        seen: set[str] = set()
        for sandbox in sandboxes:
            seen.add(sandbox.id)
            known = self._sandbox(sandbox.id)
            if known is None or known.state is not sandbox.state:
                changed.add(sandbox.metadata.uid)
                await self.refresh_sandbox(sandbox.id)
        for container in containers:
            seen.add(container.id)
            status = self._container(container.id)
            if status is None or status.state is not container.state:
                changed.add(container.labels.get(LABEL_POD_UID, ""))
                await self.refresh_container(container.id, container.pod_sandbox_id)
        for gone in [identity for identity in known_before if identity in self._owner and identity not in seen]:
            changed.add(self._owner[gone])
            self.drop(gone)
        return changed

    async def refresh_sandbox(self, sandbox_id: str) -> None:
        try:
            status = await self._runtime.pod_sandbox_status(sandbox_id)
        except CriError as error:
            if error.code == "NOT_FOUND":
                self.drop(sandbox_id)
                return
            raise
        status = replace(status, ips=primary_first(status.ips, self._node_ip))
        pod = self._pod(status.metadata.uid, status.metadata.name, status.metadata.namespace)
        others = [box for box in pod.sandboxes if box.id != sandbox_id]
        pod.sandboxes = sorted([status, *others], key=lambda box: (box.created_at, box.metadata.attempt), reverse=True)
        self._owner[sandbox_id] = pod.uid

    async def refresh_container(self, container_id: str, sandbox_id: str) -> None:
        try:
            status = await self._runtime.container_status(container_id)
        except CriError as error:
            if error.code == "NOT_FOUND":
                self.drop(container_id)
                return
            raise
        labels = status.labels
        uid = labels.get(LABEL_POD_UID, "")
        pod = self._pod(uid, labels.get(LABEL_POD_NAME, ""), labels.get(LABEL_POD_NAMESPACE, ""))
        known = next((one for one in pod.containers if one.id == container_id), None)
        if known is not None and _ORDER[known.state] > _ORDER[status.state]:
            return  # an answer that was overtaken by a newer one
        others = [one for one in pod.containers if one.id != container_id]
        pod.containers = sorted([status, *others], key=lambda one: (one.created_at, one.metadata.attempt), reverse=True)
        pod.sandbox_of[container_id] = sandbox_id
        self._owner[container_id] = uid

    def drop(self, identity: str) -> None:
        """Forget a container or sandbox that is gone; a pod without any is forgotten too."""
        uid = self._owner.pop(identity, None)
        pod = self.pods.get(uid) if uid is not None else None
        if pod is None:
            return
        pod.sandboxes = [box for box in pod.sandboxes if box.id != identity]
        pod.containers = [one for one in pod.containers if one.id != identity]
        pod.sandbox_of.pop(identity, None)
        if not pod.sandboxes and not pod.containers:
            del self.pods[pod.uid]

    def _pod(self, uid: str, name: str, namespace: str) -> PodRuntimeStatus:
        pod = self.pods.get(uid)
        if pod is None:
            pod = self.pods[uid] = PodRuntimeStatus(uid, name, namespace)
        return pod

    def _all_sandboxes(self) -> Iterable[PodSandboxStatus]:
        return (box for pod in self.pods.values() for box in pod.sandboxes)

    def _sandbox(self, identity: str) -> PodSandboxStatus | None:
        pod = self.pods.get(self._owner.get(identity, ""))
        return next((box for box in pod.sandboxes if box.id == identity), None) if pod else None

    def _container(self, identity: str) -> ContainerStatus | None:
        pod = self.pods.get(self._owner.get(identity, ""))
        return next((one for one in pod.containers if one.id == identity), None) if pod else None
