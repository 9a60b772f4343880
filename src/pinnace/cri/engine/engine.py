"""The engine: CRI's two services over sandboxes, containers, images and sessions; thin, it only joins them.

Made once per node. `start` takes up whatever runs already, `stop` leaves it running, `destroy` removes everything the
engine ever made. Specified by https://github.com/kubernetes/cri-api.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pinnace
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
    PodSandbox,
    PodSandboxConfig,
    PodSandboxStats,
    PodSandboxStatus,
    RuntimeCondition,
    RuntimeFeatures,
    Version,
)
from pinnace.cri.engine import checkpoints, pod_stats, procfs
from pinnace.cri.engine.apparmor import AppArmor
from pinnace.cri.engine.cgroups import Cgroups
from pinnace.cri.engine.cni import CniNetwork, CniOptions
from pinnace.cri.engine.containers import Containers
from pinnace.cri.engine.handlers import Handlers
from pinnace.cri.engine.images.service import Images
from pinnace.cri.engine.images.snapshots import Snapshots
from pinnace.cri.engine.images.store import ImageStore
from pinnace.cri.engine.inspection import Inspection
from pinnace.cri.engine.monitor_client import MonitorClient
from pinnace.cri.engine.network import BridgeNetwork, NetworkOptions, PodNetwork
from pinnace.cri.engine.records import ContainerRecord, SandboxRecord
from pinnace.cri.engine.sandboxes import Sandboxes
from pinnace.cri.engine.streaming import Sessions, StreamingServer, require_streams
from pinnace.wire.tasks import end_tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What differs between engines on one machine."""

    network: NetworkOptions = field(default_factory=NetworkOptions)
    cni: CniOptions | None = None  # plugins in place of the built-in network
    cgroup_prefix: str = ""  # put before every cgroup_parent
    oci_runtime: str = ""  # the program (runc, crun) that runs containers in place of the built-in launcher
    handlers: Mapping[str, str] = field(default_factory=dict)  # handler of RuntimeClasses -> such a program


class Engine:
    """`RuntimeService` and `ImageService`. `root` is kept over reboots, `state` need not be (/run)."""

    streams_websockets = True

    def __init__(
        self,
        root: Path,
        state: Path,
        options: EngineOptions | None = None,
        images: ImageStore | None = None,
    ) -> None:
        self.options = options or EngineOptions()
        self.root = root
        self.state = state
        root.mkdir(parents=True, exist_ok=True)
        state.mkdir(parents=True, exist_ok=True, mode=0o711)
        self.images = images or ImageStore(root / "images")
        self.image_service = Images(self.images)
        self.cgroups = Cgroups(self.options.cgroup_prefix)
        self.network: PodNetwork = BridgeNetwork(root / "network", self.options.network)
        if self.options.cni is not None:
            self.network = CniNetwork(root / "network", self.options.cni)
        self.monitor = MonitorClient(state, self._on_event)
        self.monitor.on_reconnect = self._on_new_monitor
        self.apparmor = AppArmor(f"{self.options.cgroup_prefix.strip('/') or 'pinnace'}-default")
        self.handlers = Handlers(self.options.oci_runtime, self.options.handlers)
        self.sandboxes = Sandboxes(root, state, self.monitor, self.cgroups, self.network, self._emit)
        self.containers = Containers(
            root,
            state,
            self.monitor,
            self.cgroups,
            self.sandboxes,
            self.images,
            Snapshots(self.images.root),
            self._emit,
            self.handlers,
            self.apparmor,
        )
        self.inspection = Inspection(self)
        self.sessions = Sessions(self.monitor)
        self.monitor.on_lost = self.sessions.fail_all
        self.streaming = StreamingServer()
        self._subscribers: set[asyncio.Queue[ContainerEvent | None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # Life.

    async def start(self) -> None:
        """Connect to the monitor (starting it) and take up the sandboxes and containers that are there."""
        await self.monitor.start()
        await self.sandboxes.load()
        await self.containers.load()
        # What an unclean end left of images and layers; nobody waits for it.
        self._spawn(asyncio.to_thread(self.images.collect_garbage))

    async def stop(self) -> None:
        """Let go; everything that runs goes on."""
        for queue in self._subscribers:
            queue.put_nowait(None)
        await end_tasks(self._tasks)
        await self.streaming.close()
        await self.image_service.close()
        await self.monitor.close()

    async def destroy(self) -> None:
        """Remove every sandbox, container, mount, link, rule and cgroup, and end the monitor; images stay in `root`.

        Call on a started engine; afterwards it is stopped.
        """
        parents = {record.config.linux.cgroup_parent for record in self.sandboxes.records.values()}
        await asyncio.gather(*(self.remove_pod_sandbox(id_) for id_ in list(self.sandboxes.records)))
        for record in list(self.containers.records.values()):
            await self.containers.remove(record)
        await asyncio.to_thread(self.network.destroy)
        await asyncio.to_thread(self.cgroups.destroy, parents)
        await asyncio.to_thread(self.apparmor.remove)
        await self.monitor.shutdown()
        await self.stop()
        for name in ("monitor.lock", "monitor.json", "monitor.sock", "monitor.err"):
            (self.state / name).unlink(missing_ok=True)

    def _on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "exit":
            container = self.containers.records.get(event["id"])
            if container is not None:  # it may have ended with its sandbox: who is told of it finds that not ready
                self._see_to_init(container.sandbox_id)
            self.containers.on_exit(event["id"], event)
        elif event["event"] == "exec_exit":
            self.sessions.on_exec_exit(event)
        elif event["event"] == "sandbox_exit":
            self._see_to_init(event["id"])

    def _see_to_init(self, sandbox_id: str) -> None:
        record = self.sandboxes.records.get(sandbox_id)
        if record is not None and self.sandboxes.has_lost_init(record):
            self._spawn(self.sandboxes.take_down(record))

    def _on_new_monitor(self) -> None:
        self._spawn(self.containers.synchronize())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # Events.

    def _emit(self, kind: ContainerEventType, id_: str, sandbox: SandboxRecord) -> None:
        event = ContainerEvent(
            container_id=id_,
            container_event_type=kind,
            created_at=time.time_ns(),
            pod_sandbox_id=sandbox.id,
            pod_uid=sandbox.config.metadata.uid,
        )
        for queue in self._subscribers:
            queue.put_nowait(event)

    def get_container_events(self) -> AsyncIterator[ContainerEvent]:
        queue: asyncio.Queue[ContainerEvent | None] = asyncio.Queue()
        self._subscribers.add(queue)  # now, not at the first `anext`: nothing in between is missed

        async def events() -> AsyncIterator[ContainerEvent]:
            try:
                while (event := await queue.get()) is not None:
                    yield event
            finally:
                self._subscribers.discard(queue)

        return events()

    # Sandboxes.

    async def run_pod_sandbox(self, config: PodSandboxConfig, runtime_handler: str = "") -> str:
        self.handlers.program(runtime_handler)
        return await self.sandboxes.run(config, runtime_handler)

    async def stop_pod_sandbox(self, pod_sandbox_id: str) -> None:
        record = self._sandbox_or_none(pod_sandbox_id)
        if record is None:
            return
        members = self.containers.of_sandbox(record.id)
        await asyncio.gather(*(self.containers.stop(member, 0) for member in members))
        await self.sandboxes.take_down(record)

    async def remove_pod_sandbox(self, pod_sandbox_id: str) -> None:
        record = self._sandbox_or_none(pod_sandbox_id)
        if record is None:
            return
        await self.stop_pod_sandbox(record.id)
        await asyncio.gather(*(self.containers.remove(member) for member in self.containers.of_sandbox(record.id)))
        await self.sandboxes.forget(record)

    def _sandbox_or_none(self, id_: str) -> SandboxRecord | None:
        try:
            return self.sandboxes.get(id_)
        except CriError:
            return None

    async def pod_sandbox_status(self, pod_sandbox_id: str) -> PodSandboxStatus:
        return self.sandboxes.status(self.sandboxes.get(pod_sandbox_id))

    async def list_pod_sandbox(self) -> list[PodSandbox]:
        return self.sandboxes.all()

    async def update_pod_sandbox_resources(
        self, pod_sandbox_id: str, overhead: LinuxContainerResources | None, resources: LinuxContainerResources | None
    ) -> None:
        self.sandboxes.update(self.sandboxes.get(pod_sandbox_id, "failed to find sandbox"), overhead, resources)

    # Containers.

    async def create_container(
        self,
        pod_sandbox_id: str,
        config: ContainerConfig,
        sandbox_config: PodSandboxConfig,  # noqa: ARG002  (the sandbox has its own)
    ) -> str:
        sandbox = self.sandboxes.get(pod_sandbox_id, f'failed to find sandbox id "{pod_sandbox_id}"')
        return await self.containers.create(sandbox, config)

    async def start_container(self, container_id: str) -> None:
        await self.containers.start(self.containers.get(container_id))

    async def stop_container(self, container_id: str, timeout: int) -> None:
        record = self._container_or_none(container_id)
        if record:
            await self.containers.stop(record, timeout)

    async def remove_container(self, container_id: str) -> None:
        record = self._container_or_none(container_id)
        if record:
            await self.containers.remove(record)

    def _container_or_none(self, id_: str) -> ContainerRecord | None:
        try:
            return self.containers.get(id_)
        except CriError:
            return None

    async def list_containers(self) -> list[Container]:
        return self.containers.all()

    async def container_status(self, container_id: str) -> ContainerStatus:
        return self.containers.status(self.containers.get(container_id))

    async def update_container_resources(self, container_id: str, linux: LinuxContainerResources) -> None:
        await self.containers.update(self.containers.get(container_id, "failed to find container"), linux)

    async def reopen_container_log(self, container_id: str) -> None:
        await self.containers.reopen_log(self.containers.get(container_id))

    async def checkpoint_container(self, container_id: str, location: str, timeout: int = 0) -> None:
        """Only OCI runtimes make checkpoints, not the launcher."""
        words = "an error occurred when trying to find container the container status"
        found = f'an error occurred when try to find container "{container_id}"'
        record = self.containers.get(container_id, f'{words} "{container_id}": {found}')
        if not self.containers.program(record):
            raise CriError("UNIMPLEMENTED", "method CheckpointContainer not implemented")
        await checkpoints.require_criu(container_id)
        await self.containers.checkpoint(record, Path(location), timeout)

    async def list_container_stats(self) -> list[ContainerStats]:
        return await self.containers.stats()

    async def list_pod_sandbox_stats(self) -> list[PodSandboxStats]:
        members: dict[str, list[ContainerStats]] = {}
        for stats in await self.containers.stats():
            members.setdefault(self.containers.records[stats.id].sandbox_id, []).append(stats)
        ready = [record for record in self.sandboxes.records.values() if record.ready]
        return await asyncio.to_thread(
            lambda: [pod_stats.read(one, self.sandboxes, self.cgroups, members.get(one.id, [])) for one in ready]
        )

    # Sessions.

    def _running(self, container_id: str, words: str) -> ContainerRecord:
        record = self.containers.get(container_id, words)
        if record.state != ContainerState.RUNNING:
            raise CriError("UNKNOWN", f"container is in {record.state.value} state")
        return record

    def _process(self, record: ContainerRecord, cmd: list[str], terminal: bool) -> dict[str, Any]:
        """An OCI process like the container's own, but for the command."""
        document = procfs.read_json(str(self.state / "containers" / record.id / "config.json"))
        process: dict[str, Any] = document["process"]
        environment = process["env"]
        if terminal and not any(pair.startswith("TERM=") for pair in environment):
            environment = [*environment, "TERM=xterm"]
        return {**process, "args": cmd, "terminal": terminal, "env": environment}

    async def exec_sync(self, container_id: str, cmd: list[str], timeout: float = 0) -> ExecSyncResponse:
        try:
            record = self._running(container_id, f'failed to find container "{container_id}" in store')
        except CriError as error:
            raise CriError(error.code, f"failed to exec in container: {error.message}") from None
        return await self.sessions.exec_sync(record.id, self._process(record, cmd, False), timeout)

    async def exec(self, request: ExecRequest) -> str:
        record = self._running(request.container_id, f'failed to find container "{request.container_id}" in store')
        require_streams(request, "or")
        process = self._process(record, request.cmd, request.tty)
        return await self.streaming.exec_url(request, lambda streams: self.sessions.exec(record.id, process, streams))

    async def attach(self, request: AttachRequest) -> str:
        record = self._running(request.container_id, "failed to find container in store")
        require_streams(request, "and")
        request.tty = record.config.tty
        request.stdin = request.stdin and record.config.stdin
        path = str(self.state / "containers" / record.id / "stdin")

        def session(streams: Any) -> Any:
            exited = self.containers.exit_of(record.id)
            return self.sessions.attach(record.id, exited, path, record.config.stdin_once, record.config.tty, streams)

        return await self.streaming.attach_url(request, session)

    async def port_forward(self, pod_sandbox_id: str, ports: list[int]) -> str:
        record = self.sandboxes.get(pod_sandbox_id, f'failed to find sandbox "{pod_sandbox_id}"')
        if not record.ready:
            raise CriError("UNKNOWN", "sandbox container is not running")
        metadata = record.config.metadata
        pod = f"{metadata.name}_{metadata.namespace}, uid {metadata.uid}"
        return await self.streaming.port_forward_url(self.sandboxes.network_namespace(record), pod, ports)

    # The runtime itself.

    async def version(self) -> Version:
        return Version(version="0.1.0", runtime_name="pinnace", runtime_version=pinnace.__version__)

    async def status(self) -> list[RuntimeCondition]:
        network = self.network.configured
        return [
            RuntimeCondition(type="RuntimeReady", status=True),
            RuntimeCondition(
                type="NetworkReady",
                status=network,
                reason="" if network else "NetworkPluginNotReady",
                message="" if network else "Network plugin returns error: cni plugin not initialized",
            ),
        ]

    async def features(self) -> RuntimeFeatures:
        handlers = await asyncio.to_thread(self.handlers.features)
        return RuntimeFeatures(handlers=handlers, supplemental_groups_policy=True)

    async def runtime_config(self) -> str:
        return "cgroupfs"

    async def update_runtime_config(self, pod_cidr: str) -> None:
        if pod_cidr:
            self.network.configure([cidr for cidr in pod_cidr.split(",") if cidr])

    # Images.

    async def list_images(self) -> list[Image]:
        return await self.image_service.list_images()

    async def image_status(self, image: ImageSpec) -> Image | None:
        return await self.image_service.image_status(image)

    async def pull_image(self, image: ImageSpec, auth: AuthConfig | None = None) -> str:
        return await self.image_service.pull_image(image, auth)

    async def remove_image(self, image: ImageSpec) -> None:
        await self.image_service.remove_image(image)

    async def image_fs_info(self) -> list[FilesystemUsage]:
        return await self.image_service.image_fs_info()
