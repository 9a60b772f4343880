"""A container runtime in memory: both CRI services, containers that live until a test ends them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from pinnace.cri.api import (
    AttachRequest,
    AuthConfig,
    Container,
    ContainerConfig,
    ContainerEvent,
    ContainerEventType,
    ContainerState,
    ContainerStats,
    ContainerStatus,
    CriError,
    ExecRequest,
    ExecSyncResponse,
    FilesystemUsage,
    Image,
    ImageSpec,
    LinuxContainerResources,
    NamespaceMode,
    NetworkInterfaceUsage,
    PodSandbox,
    PodSandboxConfig,
    PodSandboxState,
    PodSandboxStats,
    PodSandboxStatus,
    RuntimeCondition,
    RuntimeFeatures,
    RuntimeHandler,
    Version,
)


class FakeRuntime:
    """`images` are present from the start; `remote` can be pulled."""

    streams_websockets = False

    def __init__(self, *images: str, remote: tuple[str, ...] = ()) -> None:
        self.sandboxes: dict[str, PodSandboxStatus] = {}
        self.configs: dict[str, ContainerConfig] = {}
        self.sandbox_configs: dict[str, PodSandboxConfig] = {}
        self.containers: dict[str, ContainerStatus] = {}
        self.box_of: dict[str, str] = {}
        self.calls: list[str] = []
        self.images = {name: Image(id=f"sha256:{name}", repo_tags=[name], size=1234) for name in images}
        self.remote = set(remote)
        self.updates: list[tuple[str, LinuxContainerResources]] = []
        self.fail: dict[str, CriError | OSError] = {}  # by method name
        self.exits: dict[str, int] = {}  # container name -> code with which it ends at once
        self.exec_results: dict[str, ExecSyncResponse] = {}  # first word of the command
        self.conditions = [
            RuntimeCondition(type="RuntimeReady", status=True),
            RuntimeCondition(type="NetworkReady", status=True),
        ]
        self.pod_cidr = ""
        self.stop_hangs = False
        self.pulled_with: list[AuthConfig | None] = []
        self._numbers = itertools.count(1)
        self._changed = asyncio.Event()
        self._queues: set[asyncio.Queue[ContainerEvent]] = set()

    # For tests.

    async def until(self, check: Callable[[], Any], seconds: float = 30.0) -> None:
        """Wait until `check` is true after some call or event."""
        async with asyncio.timeout(seconds):
            while not check():
                self._changed.clear()
                await self._changed.wait()

    def by_name(self, name: str) -> list[ContainerStatus]:
        """Instances of a container, oldest first."""
        return [one for one in self.containers.values() if one.metadata.name == name]

    def running(self) -> list[str]:
        return [one.metadata.name for one in self.containers.values() if one.state is ContainerState.RUNNING]

    def end(self, container_id: str, code: int = 0, reason: str = "", message: str = "") -> None:
        """The container's process ends."""
        status = self.containers[container_id]
        if status.state is not ContainerState.RUNNING:
            return
        status.state = ContainerState.EXITED
        status.exit_code = code
        status.finished_at = time.time_ns()
        status.reason = reason or ("Completed" if code == 0 else "Error")
        status.message = message
        self._emit(container_id, ContainerEventType.STOPPED)

    def write_message(self, container_id: str, text: str) -> None:
        """What the container writes to its termination message file."""
        for mount in self.configs[container_id].mounts:
            if mount.container_path == "/dev/termination-log":
                Path(mount.host_path).write_text(text)

    def _emit(self, identity: str, kind: ContainerEventType) -> None:
        self._changed.set()
        box = self.box_of.get(identity, identity)
        uid = self.sandbox_configs[box].metadata.uid if box in self.sandbox_configs else ""
        for queue in self._queues:
            queue.put_nowait(
                ContainerEvent(
                    container_id=identity,
                    container_event_type=kind,
                    created_at=time.time_ns(),
                    pod_sandbox_id=box,
                    pod_uid=uid,
                )
            )

    def _call(self, name: str, *details: str) -> None:
        self.calls.append(" ".join((name, *details)))
        self._changed.set()
        if name in self.fail:
            raise self.fail[name]

    # RuntimeService.

    async def version(self) -> Version:
        return Version(version="0.1", runtime_name="fake", runtime_version="1.0")

    async def run_pod_sandbox(self, config: PodSandboxConfig, runtime_handler: str = "") -> str:
        self._call("run_pod_sandbox", config.metadata.name, *filter(None, [runtime_handler]))
        number = next(self._numbers)
        identity = f"box{number}"
        options = config.linux.security_context.namespace_options
        ips = [] if options.network is NamespaceMode.NODE else [f"10.244.0.{number}"]
        self.sandbox_configs[identity] = config
        self.sandboxes[identity] = PodSandboxStatus(
            id=identity,
            metadata=config.metadata,
            state=PodSandboxState.READY,
            created_at=time.time_ns(),
            ips=ips,
            namespaces=options,
            labels=config.labels,
        )
        self._emit(identity, ContainerEventType.STARTED)
        return identity

    async def stop_pod_sandbox(self, pod_sandbox_id: str) -> None:
        self._call("stop_pod_sandbox", pod_sandbox_id)
        for identity, box in self.box_of.items():
            if box == pod_sandbox_id:
                self.end(identity, 137)
        if pod_sandbox_id in self.sandboxes:
            self.sandboxes[pod_sandbox_id].state = PodSandboxState.NOTREADY
            self._emit(pod_sandbox_id, ContainerEventType.STOPPED)

    async def remove_pod_sandbox(self, pod_sandbox_id: str) -> None:
        self._call("remove_pod_sandbox", pod_sandbox_id)
        for identity in [one for one, box in self.box_of.items() if box == pod_sandbox_id]:
            await self.remove_container(identity)
        self.sandboxes.pop(pod_sandbox_id, None)
        self._changed.set()

    async def pod_sandbox_status(self, pod_sandbox_id: str) -> PodSandboxStatus:
        if pod_sandbox_id not in self.sandboxes:
            raise CriError("NOT_FOUND", f"sandbox {pod_sandbox_id} not found")
        return replace(self.sandboxes[pod_sandbox_id])

    async def list_pod_sandbox(self) -> list[PodSandbox]:
        self._call("list_pod_sandbox")
        return [
            PodSandbox(id=box.id, metadata=box.metadata, state=box.state, created_at=box.created_at, labels=box.labels)
            for box in self.sandboxes.values()
        ]

    async def update_pod_sandbox_resources(
        self, pod_sandbox_id: str, overhead: LinuxContainerResources | None, resources: LinuxContainerResources | None
    ) -> None:
        self._call("update_pod_sandbox_resources", pod_sandbox_id)

    async def create_container(
        self, pod_sandbox_id: str, config: ContainerConfig, sandbox_config: PodSandboxConfig
    ) -> str:
        self._call("create_container", config.metadata.name)
        identity = f"c{next(self._numbers)}"
        self.configs[identity] = config
        self.box_of[identity] = pod_sandbox_id
        self.containers[identity] = ContainerStatus(
            id=identity,
            metadata=config.metadata,
            state=ContainerState.CREATED,
            created_at=time.time_ns(),
            image=config.image,
            image_ref=config.image.image,
            labels=config.labels,
            annotations=config.annotations,
            mounts=config.mounts,
            resources=config.linux.resources,
            log_path=f"{sandbox_config.log_directory}/{config.log_path}",
        )
        return identity

    async def start_container(self, container_id: str) -> None:
        status = self.containers[container_id]
        self._call("start_container", status.metadata.name)
        status.state = ContainerState.RUNNING
        status.started_at = time.time_ns()
        self._emit(container_id, ContainerEventType.STARTED)
        if status.metadata.name in self.exits:
            self.end(container_id, self.exits[status.metadata.name])

    async def stop_container(self, container_id: str, timeout: int) -> None:
        name = self.containers[container_id].metadata.name if container_id in self.containers else container_id
        self._call("stop_container", name, str(timeout))
        if self.stop_hangs and timeout > 1:
            await asyncio.get_running_loop().create_future()
        if container_id in self.containers:
            self.end(container_id, 143)

    async def remove_container(self, container_id: str) -> None:
        self.containers.pop(container_id, None)
        self.box_of.pop(container_id, None)

    async def list_containers(self) -> list[Container]:
        return [
            Container(
                id=one.id,
                pod_sandbox_id=self.box_of[one.id],
                metadata=one.metadata,
                image=one.image,
                image_ref=one.image_ref,
                state=one.state,
                created_at=one.created_at,
                labels=one.labels,
                annotations=one.annotations,
            )
            for one in self.containers.values()
        ]

    async def container_status(self, container_id: str) -> ContainerStatus:
        if container_id not in self.containers:
            raise CriError("NOT_FOUND", f"container {container_id} not found")
        return replace(self.containers[container_id])

    async def update_container_resources(self, container_id: str, linux: LinuxContainerResources) -> None:
        self._call("update_container_resources", container_id)
        self.updates.append((container_id, linux))
        changed = {field.name: getattr(linux, field.name) for field in fields(linux) if getattr(linux, field.name)}
        status = self.containers[container_id]
        status.resources = replace(status.resources or LinuxContainerResources(), **changed)

    async def reopen_container_log(self, container_id: str) -> None:
        Path(self.containers[container_id].log_path).touch()

    async def checkpoint_container(self, container_id: str, location: str, timeout: int = 0) -> None:
        self._call("checkpoint_container", container_id)
        Path(location).write_bytes(b"state")

    async def exec_sync(self, container_id: str, cmd: list[str], timeout: float = 0) -> ExecSyncResponse:
        self._call("exec_sync", *cmd)
        return self.exec_results.get(cmd[0], ExecSyncResponse(stdout=b"", stderr=b"", exit_code=0))

    async def exec(self, request: ExecRequest) -> str:
        return f"http://127.0.0.1:1/exec/{request.container_id}"

    async def attach(self, request: AttachRequest) -> str:
        return f"http://127.0.0.1:1/attach/{request.container_id}"

    async def port_forward(self, pod_sandbox_id: str, ports: list[int]) -> str:
        return f"http://127.0.0.1:1/portforward/{pod_sandbox_id}"

    async def list_container_stats(self) -> list[ContainerStats]:
        return [
            ContainerStats(
                id=one.id,
                metadata=one.metadata,
                labels=one.labels,
                timestamp=time.time_ns(),
                cpu_usage_core_nano_seconds=2_000_000_000,
                memory_working_set_bytes=4096,
            )
            for one in self.containers.values()
            if one.state is ContainerState.RUNNING
        ]

    async def list_pod_sandbox_stats(self) -> list[PodSandboxStats]:
        containers = await self.list_container_stats()
        return [
            PodSandboxStats(
                id=box.id,
                metadata=box.metadata,
                labels=box.labels,
                timestamp=time.time_ns(),
                cpu_usage_core_nano_seconds=3_000_000_000,
                memory_working_set_bytes=8192,
                process_count=2,
                interfaces=[NetworkInterfaceUsage(name="eth0", rx_bytes=10, tx_bytes=20)] if box.ips else [],
                containers=[one for one in containers if self.box_of[one.id] == box.id],
            )
            for box in self.sandboxes.values()
            if box.state is PodSandboxState.READY
        ]

    async def get_container_events(self) -> AsyncIterator[ContainerEvent]:
        queue: asyncio.Queue[ContainerEvent] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)

    async def status(self) -> list[RuntimeCondition]:
        return self.conditions

    async def features(self) -> RuntimeFeatures:
        return RuntimeFeatures(handlers=[RuntimeHandler(name=name, user_namespaces=True) for name in ("", "runc")])

    async def runtime_config(self) -> str:
        return "cgroupfs"

    async def update_runtime_config(self, pod_cidr: str) -> None:
        self.pod_cidr = pod_cidr
        self._changed.set()

    # ImageService.

    async def list_images(self) -> list[Image]:
        return list(self.images.values())

    async def image_status(self, image: ImageSpec) -> Image | None:
        return self.images.get(image.image)

    async def pull_image(self, image: ImageSpec, auth: AuthConfig | None = None) -> str:
        self._call("pull_image", image.image)
        self.pulled_with.append(auth)
        if image.image not in self.remote:
            raise CriError("NOT_FOUND", f'failed to resolve reference "{image.image}": not found')
        self.images[image.image] = Image(id=f"sha256:{image.image}", repo_tags=[image.image], size=1234)
        return self.images[image.image].id

    async def remove_image(self, image: ImageSpec) -> None:
        for name in [name for name, one in self.images.items() if image.image in (name, one.id)]:
            del self.images[name]

    async def image_fs_info(self) -> list[FilesystemUsage]:
        return []
