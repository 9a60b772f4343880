"""A container runtime behind a socket: containerd, CRI-O, or whatever else serves CRI v1 (gRPC).

The same services as the embedded engine's. Calls wait as long as a kubelet's do: `request_timeout`, twice that for a
new sandbox, and longer by what a stop or a command may take; pulls end when they end. A runtime that is gone fails its
calls with UNAVAILABLE, and is reached again as soon as it is back. Needs `grpcio` and `protobuf` (`pinnace[cri]`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import grpc
import grpc.aio

from pinnace.cri import sandbox_end
from pinnace.cri.api import (
    AttachRequest,
    AuthConfig,
    Container,
    ContainerConfig,
    ContainerEvent,
    ContainerEventType,
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
from pinnace.cri.container_usage import ContainerUsage
from pinnace.cri.v1.convert import from_message, to_message
from pinnace.cri.v1.messages import IMAGE_METHODS, IMAGE_SERVICE, RUNTIME_METHODS, RUNTIME_SERVICE, message_class
from pinnace.wire import grpc_calls

REQUEST_TIMEOUT = 120.0  # seconds; KubeletConfiguration's runtimeRequestTimeout
MAX_MESSAGE = 16 * 1024 * 1024  # bytes, as kubelets allow

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
)


def parse_endpoint(endpoint: str) -> str:
    """gRPC's name of `unix:///run/containerd/containerd.sock`, of that path alone or of `tcp://host:port`.

    Raises ValueError.
    """
    if endpoint.startswith("/"):
        return f"unix://{endpoint}"
    parts = urlsplit(endpoint)
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        return f"unix://{parts.path}"
    if parts.scheme == "tcp" and parts.netloc:
        return parts.netloc
    raise ValueError(f'"{endpoint}" is neither unix:///PATH nor tcp://HOST:PORT')


class _Service:
    """The methods of one service at an endpoint. Made in the event loop that calls them."""

    def __init__(self, endpoint: str, service: str, methods: tuple[str, ...], request_timeout: float) -> None:
        self._target = parse_endpoint(endpoint)
        self._timeout = request_timeout
        self._channel = grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        self._calls = {
            method: grpc_calls.unary(self._channel, f"/{service}/{method}", message_class(f"{method}Response"))
            for method in methods
        }

    async def close(self) -> None:
        """End the calls under way and the connection."""
        await self._channel.close()

    async def _call(self, method: str, *, timeout: float | None = 0, **fields: Any) -> Any:
        """Call with these fields of the request. `timeout`: seconds, 0 the usual ones, None without end."""
        request = message_class(f"{method}Request")(**fields)
        return await self._send(method, request, self._timeout if timeout == 0 else timeout)

    async def _send(self, method: str, request: Any, timeout: float | None) -> Any:
        try:
            return await self._calls[method](request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None

    def _error(self, error: grpc.aio.AioRpcError) -> CriError:
        details = error.details() or ""
        if error.code() is grpc.StatusCode.UNAVAILABLE and self._target.startswith("unix://"):
            reason = "no such file or directory" if "No such file" in details else "connection refused"
            if "onnect" in details:
                dialed = self._target.removeprefix("unix://")
                what = f"transport: Error while dialing: dial unix {dialed}: connect: {reason}"
                details = f'connection error: desc = "{what}"'
        return CriError(error.code().name, details)


class RemoteRuntimeService(_Service):
    """`RuntimeService` at an endpoint."""

    streams_websockets = False

    def __init__(self, endpoint: str, request_timeout: float = REQUEST_TIMEOUT) -> None:
        super().__init__(endpoint, RUNTIME_SERVICE, RUNTIME_METHODS, request_timeout)
        path = f"/{RUNTIME_SERVICE}/GetContainerEvents"
        self._events = grpc_calls.stream(self._channel, path, message_class("ContainerEventResponse"))
        self._usage = ContainerUsage(self._info)

    async def serving(self) -> None:
        """Return once it answers; waits for as long as it takes."""
        while True:
            await self._channel.channel_ready()
            try:
                await self.version()
                return
            except CriError:
                await asyncio.sleep(0.01)  # a containerd listens a moment before it knows its containers

    async def version(self) -> Version:
        return from_message(Version, await self._call("Version", version="0.1.0"))

    async def status(self) -> list[RuntimeCondition]:
        answer = await self._call("Status")
        return [from_message(RuntimeCondition, one) for one in answer.status.conditions]

    async def features(self) -> RuntimeFeatures:
        answer = await self._call("Status")
        handlers = [
            RuntimeHandler(
                name=one.name,
                recursive_read_only_mounts=one.features.recursive_read_only_mounts,
                user_namespaces=one.features.user_namespaces,
            )
            for one in answer.runtime_handlers
        ]
        policy = answer.features.supplemental_groups_policy
        return RuntimeFeatures(handlers=handlers, supplemental_groups_policy=policy)

    async def runtime_config(self) -> str:
        driver = message_class("LinuxRuntimeConfiguration").DESCRIPTOR.fields_by_name["cgroup_driver"].enum_type
        answer = await self._call("RuntimeConfig")
        if not answer.HasField("linux"):
            raise CriError("UNIMPLEMENTED", "the runtime does not tell its cgroup driver")
        name: str = driver.values_by_number[answer.linux.cgroup_driver].name
        return name.lower()

    async def update_runtime_config(self, pod_cidr: str) -> None:
        network = message_class("NetworkConfig")(pod_cidr=pod_cidr)
        await self._call("UpdateRuntimeConfig", runtime_config=message_class("RuntimeConfig")(network_config=network))

    # Sandboxes.

    async def run_pod_sandbox(self, config: PodSandboxConfig, runtime_handler: str = "") -> str:
        answer = await self._call(
            "RunPodSandbox", timeout=2 * self._timeout, config=to_message(config), runtime_handler=runtime_handler
        )
        identity: str = answer.pod_sandbox_id
        return identity

    async def stop_pod_sandbox(self, pod_sandbox_id: str) -> None:
        await self._call("StopPodSandbox", pod_sandbox_id=pod_sandbox_id)

    async def remove_pod_sandbox(self, pod_sandbox_id: str) -> None:
        await self._call("RemovePodSandbox", pod_sandbox_id=pod_sandbox_id)

    async def pod_sandbox_status(self, pod_sandbox_id: str) -> PodSandboxStatus:
        answer = await self._call("PodSandboxStatus", pod_sandbox_id=pod_sandbox_id)
        return from_message(PodSandboxStatus, answer.status)

    async def list_pod_sandbox(self) -> list[PodSandbox]:
        return [from_message(PodSandbox, one) for one in (await self._call("ListPodSandbox")).items]

    async def update_pod_sandbox_resources(
        self, pod_sandbox_id: str, overhead: LinuxContainerResources | None, resources: LinuxContainerResources | None
    ) -> None:
        given = {"overhead": overhead, "resources": resources}
        fields = {name: to_message(one) for name, one in given.items() if one is not None}
        await self._call("UpdatePodSandboxResources", pod_sandbox_id=pod_sandbox_id, **fields)

    # Containers.

    async def create_container(
        self, pod_sandbox_id: str, config: ContainerConfig, sandbox_config: PodSandboxConfig
    ) -> str:
        answer = await self._call(
            "CreateContainer",
            pod_sandbox_id=pod_sandbox_id,
            config=to_message(config),
            sandbox_config=to_message(sandbox_config),
        )
        identity: str = answer.container_id
        return identity

    async def start_container(self, container_id: str) -> None:
        await self._call("StartContainer", container_id=container_id)

    async def stop_container(self, container_id: str, timeout: int) -> None:
        request = message_class("StopContainerRequest")(container_id=container_id, timeout=timeout)
        await self._send("StopContainer", request, self._timeout + timeout)

    async def remove_container(self, container_id: str) -> None:
        await self._call("RemoveContainer", container_id=container_id)

    async def list_containers(self) -> list[Container]:
        return [from_message(Container, one) for one in (await self._call("ListContainers")).containers]

    async def container_status(self, container_id: str) -> ContainerStatus:
        answer = await self._call("ContainerStatus", container_id=container_id)
        return from_message(ContainerStatus, answer.status)

    async def update_container_resources(self, container_id: str, linux: LinuxContainerResources) -> None:
        await self._call("UpdateContainerResources", container_id=container_id, linux=to_message(linux))

    async def reopen_container_log(self, container_id: str) -> None:
        await self._call("ReopenContainerLog", container_id=container_id)

    async def checkpoint_container(self, container_id: str, location: str, timeout: int = 0) -> None:
        await self._call("CheckpointContainer", container_id=container_id, location=location, timeout=timeout)

    # Sessions.

    async def exec_sync(self, container_id: str, cmd: list[str], timeout: float = 0) -> ExecSyncResponse:
        seconds = math.ceil(timeout)
        request = message_class("ExecSyncRequest")(container_id=container_id, cmd=cmd, timeout=seconds)
        answer = await self._send("ExecSync", request, self._timeout + seconds if seconds else None)
        return from_message(ExecSyncResponse, answer)

    async def exec(self, request: ExecRequest) -> str:
        url: str = (await self._send("Exec", to_message(request), self._timeout)).url
        return url

    async def attach(self, request: AttachRequest) -> str:
        url: str = (await self._send("Attach", to_message(request), self._timeout)).url
        return url

    async def port_forward(self, pod_sandbox_id: str, ports: list[int]) -> str:
        url: str = (await self._call("PortForward", pod_sandbox_id=pod_sandbox_id, port=ports)).url
        return url

    async def _info(self, container_id: str) -> str:
        """What the runtime says of a container in words of its own."""
        try:
            answer = await self._call("ContainerStatus", container_id=container_id, verbose=True)
        except CriError:
            return ""  # it is gone
        info: str = answer.info.get("info", "")
        return info

    # Statistics and events.

    async def list_container_stats(self) -> list[ContainerStats]:
        answer = await self._call("ListContainerStats")
        return await self._usage.complete([from_message(ContainerStats, one) for one in answer.stats])

    async def list_pod_sandbox_stats(self) -> list[PodSandboxStats]:
        try:
            told = (await self._call("ListPodSandboxStats")).stats
        except CriError as error:
            if error.code in ("UNIMPLEMENTED", "UNAVAILABLE"):
                raise
            told = await self._stats_of_each()
        found = [from_message(PodSandboxStats, one) for one in told]
        for one in found:
            one.containers = await self._usage.complete(one.containers)
            one.process_count = one.process_count or sum(inner.process_count for inner in one.containers)
        return found

    async def _stats_of_each(self) -> list[Any]:
        """Of each sandbox by itself: a containerd of 1.6 tells of none together while one is just coming or going."""

        async def ask(sandbox: PodSandbox) -> Any:
            try:
                return (await self._call("PodSandboxStats", pod_sandbox_id=sandbox.id)).stats
            except CriError:
                return None

        ready = [one for one in await self.list_pod_sandbox() if one.state is PodSandboxState.READY]
        return [one for one in await asyncio.gather(*map(ask, ready)) if one is not None]

    async def get_container_events(self) -> AsyncIterator[ContainerEvent]:
        async with aclosing(self._events_told()) as told:
            async for event in told:
                ended = event.container_event_type is ContainerEventType.STOPPED
                if ended and event.container_id != event.pod_sandbox_id:
                    await sandbox_end.noted(partial(self._sandbox, event.pod_sandbox_id))
                yield event

    async def _sandbox(self, pod_sandbox_id: str) -> sandbox_end.Sandbox | None:
        try:
            answer = await self._call("PodSandboxStatus", pod_sandbox_id=pod_sandbox_id, verbose=True)
        except CriError:
            return None  # it is gone
        status = from_message(PodSandboxStatus, answer.status)
        return sandbox_end.Sandbox(
            ready=status.state is PodSandboxState.READY,
            shares_processes=status.namespaces.pid is NamespaceMode.POD,
            info=answer.info.get("info", ""),
        )

    async def _events_told(self) -> AsyncGenerator[ContainerEvent, None]:
        try:
            async for event in self._answers(self._events(message_class("GetEventsRequest")())):
                yield from_message(ContainerEvent, event)
        except CriError as error:
            if error.code != "UNIMPLEMENTED" or (await self.version()).runtime_name != "containerd":
                raise
            from pinnace.cri import containerd_events

            told = self._answers(containerd_events.subscribe(self._channel))
            async with aclosing(containerd_events.ended(told, self._find)) as events:
                async for event in events:
                    yield event

    async def _answers(self, call: Any) -> AsyncIterator[Any]:
        """What a call goes on answering. Raises CriError."""
        try:
            async for answer in call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise self._error(error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # who listens was told to end, not the connection
            raise CriError("CANCELLED", "the connection to the runtime was closed") from None
        finally:
            call.cancel()

    async def _find(self, identity: str) -> Container | PodSandbox | None:
        """A container or a sandbox by its id, as it is listed."""
        containers = (await self._call("ListContainers", filter={"id": identity})).containers
        if containers:
            return from_message(Container, containers[0])
        sandboxes = (await self._call("ListPodSandbox", filter={"id": identity})).items
        return from_message(PodSandbox, sandboxes[0]) if sandboxes else None


class RemoteImageService(_Service):
    """`ImageService` at an endpoint, a runtime's own or another."""

    def __init__(self, endpoint: str, request_timeout: float = REQUEST_TIMEOUT) -> None:
        super().__init__(endpoint, IMAGE_SERVICE, IMAGE_METHODS, request_timeout)

    async def list_images(self) -> list[Image]:
        return [from_message(Image, one) for one in (await self._call("ListImages")).images]

    async def image_status(self, image: ImageSpec) -> Image | None:
        answer = await self._call("ImageStatus", image=to_message(image))
        return from_message(Image, answer.image) if answer.HasField("image") else None

    async def pull_image(self, image: ImageSpec, auth: AuthConfig | None = None) -> str:
        given = to_message(auth) if auth is not None else None
        reference: str = (await self._call("PullImage", timeout=None, image=to_message(image), auth=given)).image_ref
        return reference

    async def remove_image(self, image: ImageSpec) -> None:
        await self._call("RemoveImage", image=to_message(image))

    async def image_fs_info(self) -> list[FilesystemUsage]:
        return [from_message(FilesystemUsage, one) for one in (await self._call("ImageFsInfo")).image_filesystems]
