"""A container runtime served on a socket as CRI v1 (gRPC), for `crictl` and for kubelets in other processes.

Everything is passed on to the two services, which the embedded engine is; what CRI leaves to the server is here: the
filters of lists, single statistics, and statuses with events. What only tools want, an `Inspection` tells. Failures
travel as the gRPC status that `CriError` names. Who may connect is said by the socket's mode: its owner. Needs `grpcio`
and `protobuf` (`pinnace[cri]`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import grpc
import grpc.aio
import orjson
import structlog

from pinnace.cri.api import (
    AttachRequest,
    AuthConfig,
    ContainerConfig,
    ContainerEvent,
    CriError,
    ExecRequest,
    ImageService,
    ImageSpec,
    LinuxContainerResources,
    PodSandboxConfig,
    RuntimeService,
)
from pinnace.cri.remote import MAX_MESSAGE
from pinnace.cri.v1 import filters
from pinnace.cri.v1.convert import from_message, to_message
from pinnace.cri.v1.messages import IMAGE_METHODS, IMAGE_SERVICE, RUNTIME_METHODS, RUNTIME_SERVICE, message_class

_log = structlog.get_logger()

_OPTIONS = (("grpc.max_receive_message_length", MAX_MESSAGE), ("grpc.max_send_message_length", MAX_MESSAGE))


class Descriptor(Protocol):
    """What a metric is."""

    @property
    def name(self) -> str: ...

    @property
    def help(self) -> str: ...

    @property
    def label_keys(self) -> Sequence[str]: ...


class Metric(Protocol):
    """A value now; its labels in the order of its descriptor's keys."""

    @property
    def name(self) -> str: ...

    @property
    def value(self) -> int: ...

    @property
    def label_values(self) -> Sequence[str]: ...

    @property
    def counter(self) -> bool: ...


class Inspection(Protocol):
    """What tools ask of a runtime beside what its services tell."""

    @property
    def descriptors(self) -> Sequence[Descriptor]:
        """Of all metrics."""

    def metrics(self) -> Mapping[str, Mapping[str, Sequence[Metric]]]:
        """By sandbox and container; may read files."""

    def runtime(self) -> dict[str, Any]:
        """The documents of the runtime by name."""

    def sandbox(self, id_: str) -> dict[str, Any]: ...

    def container(self, id_: str) -> dict[str, Any]: ...

    def image(self, name: str) -> dict[str, Any]: ...


class CriServer:
    """Serves until `close`."""

    def __init__(self, runtime: RuntimeService, images: ImageService, inspection: Inspection) -> None:
        self._runtime = _Runtime(runtime, inspection)
        self._images = _Images(images, inspection)
        self._server: grpc.aio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen on a socket, which replaces one that was left there. Raises OSError."""
        server = grpc.aio.server(options=_OPTIONS)
        runtime = {method: _handler(method, self._runtime) for method in RUNTIME_METHODS}
        runtime["GetContainerEvents"] = grpc.unary_stream_rpc_method_handler(
            self._runtime.get_container_events,
            request_deserializer=message_class("GetEventsRequest").FromString,
            response_serializer=message_class("ContainerEventResponse").SerializeToString,
        )
        images = {method: _handler(method, self._images) for method in IMAGE_METHODS}
        server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(RUNTIME_SERVICE, runtime),
                grpc.method_handlers_generic_handler(IMAGE_SERVICE, images),
            )
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        before = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix://{path}")
            await server.start()
        except RuntimeError as error:
            raise OSError(f"cannot listen on {path}: {error}") from error
        finally:
            os.umask(before)
        self._server = server

    async def close(self) -> None:
        """End what is under way, and the socket."""
        if self._server is not None:
            await self._server.stop(1.0)
            self._server = None


def _handler(method: str, service: Any) -> Any:
    """The gRPC handler of a method: `RunPodSandbox` is `run_pod_sandbox` here."""
    answer: Callable[[Any], Awaitable[Any]] = getattr(service, re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower())
    response = message_class(f"{method}Response")

    async def handle(request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await answer(request) or response()
        except Exception as error:
            return await _fail(context, error, method)

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=message_class(f"{method}Request").FromString,
        response_serializer=response.SerializeToString,
    )


async def _fail(context: grpc.aio.ServicerContext, error: Exception, method: str) -> None:
    if isinstance(error, CriError):
        code = getattr(grpc.StatusCode, error.code, grpc.StatusCode.UNKNOWN)
        await context.abort(code, error.message)
    _log.error("call failed", method=method, error=repr(error))
    await context.abort(grpc.StatusCode.UNKNOWN, str(error))


def _info(document: dict[str, Any]) -> dict[str, str]:
    """What only verbose answers tell."""
    return {"info": orjson.dumps(document).decode()}


class _Runtime:
    """The methods of RuntimeService; each takes its request and returns its response, or nothing for an empty one."""

    def __init__(self, runtime: RuntimeService, inspection: Inspection) -> None:
        self._runtime = runtime
        self._inspection = inspection

    async def version(self, _: Any) -> Any:
        return to_message(await self._runtime.version(), "VersionResponse")

    async def status(self, request: Any) -> Any:
        told = self._inspection.runtime() if request.verbose else {}
        info = {name: one if isinstance(one, str) else orjson.dumps(one).decode() for name, one in told.items()}
        answer = message_class("StatusResponse")(info=info)
        answer.status.conditions.extend(to_message(one) for one in await self._runtime.status())
        features = await self._runtime.features()
        answer.features.supplemental_groups_policy = features.supplemental_groups_policy
        for handler in features.handlers:
            can = answer.runtime_handlers.add(name=handler.name).features
            can.recursive_read_only_mounts = handler.recursive_read_only_mounts
            can.user_namespaces = handler.user_namespaces
        return answer

    async def runtime_config(self, _: Any) -> Any:
        answer = message_class("RuntimeConfigResponse")()
        driver = (await self._runtime.runtime_config()).upper()
        answer.linux.cgroup_driver = (
            answer.linux.DESCRIPTOR.fields_by_name["cgroup_driver"].enum_type.values_by_name[driver].number
        )
        return answer

    async def update_runtime_config(self, request: Any) -> None:
        await self._runtime.update_runtime_config(request.runtime_config.network_config.pod_cidr)

    # Sandboxes.

    async def run_pod_sandbox(self, request: Any) -> Any:
        if not request.config.HasField("metadata"):
            raise CriError("UNKNOWN", "sandbox config must include metadata")
        config = from_message(PodSandboxConfig, request.config)
        identity = await self._runtime.run_pod_sandbox(config, request.runtime_handler)
        return message_class("RunPodSandboxResponse")(pod_sandbox_id=identity)

    async def stop_pod_sandbox(self, request: Any) -> None:
        await self._runtime.stop_pod_sandbox(request.pod_sandbox_id)

    async def remove_pod_sandbox(self, request: Any) -> None:
        await self._runtime.remove_pod_sandbox(request.pod_sandbox_id)

    async def pod_sandbox_status(self, request: Any) -> Any:
        status = await self._runtime.pod_sandbox_status(request.pod_sandbox_id)
        return message_class("PodSandboxStatusResponse")(
            status=to_message(status),
            info=_info(self._inspection.sandbox(status.id)) if request.verbose else {},
            containers_statuses=await self._statuses(status.id),
            timestamp=time.time_ns(),
        )

    async def _statuses(self, sandbox_id: str) -> list[Any]:
        """The containers of a sandbox; those that go meanwhile are left out."""
        found = []
        for container in await self._runtime.list_containers():
            if container.pod_sandbox_id == sandbox_id:
                try:
                    found.append(to_message(await self._runtime.container_status(container.id)))
                except CriError:
                    continue
        return found

    async def list_pod_sandbox(self, request: Any) -> Any:
        found = filters.sandboxes(await self._runtime.list_pod_sandbox(), request.filter)
        return message_class("ListPodSandboxResponse")(items=map(to_message, found))

    async def update_pod_sandbox_resources(self, request: Any) -> None:
        given = {
            name: from_message(LinuxContainerResources, getattr(request, name)) if request.HasField(name) else None
            for name in ("overhead", "resources")
        }
        await self._runtime.update_pod_sandbox_resources(request.pod_sandbox_id, **given)

    # Containers.

    async def create_container(self, request: Any) -> Any:
        if not request.config.HasField("metadata"):
            raise CriError("UNKNOWN", "container config must include metadata")
        identity = await self._runtime.create_container(
            request.pod_sandbox_id,
            from_message(ContainerConfig, request.config),
            from_message(PodSandboxConfig, request.sandbox_config),
        )
        return message_class("CreateContainerResponse")(container_id=identity)

    async def start_container(self, request: Any) -> None:
        await self._runtime.start_container(request.container_id)

    async def stop_container(self, request: Any) -> None:
        await self._runtime.stop_container(request.container_id, request.timeout)

    async def remove_container(self, request: Any) -> None:
        await self._runtime.remove_container(request.container_id)

    async def list_containers(self, request: Any) -> Any:
        found = filters.containers(await self._runtime.list_containers(), request.filter)
        return message_class("ListContainersResponse")(containers=map(to_message, found))

    async def container_status(self, request: Any) -> Any:
        status = await self._runtime.container_status(request.container_id)
        info = _info(self._inspection.container(status.id)) if request.verbose else {}
        return message_class("ContainerStatusResponse")(status=to_message(status), info=info)

    async def update_container_resources(self, request: Any) -> None:
        linux = from_message(LinuxContainerResources, request.linux)
        await self._runtime.update_container_resources(request.container_id, linux)

    async def reopen_container_log(self, request: Any) -> None:
        await self._runtime.reopen_container_log(request.container_id)

    async def checkpoint_container(self, request: Any) -> None:
        await self._runtime.checkpoint_container(request.container_id, request.location, request.timeout)

    # Sessions.

    async def exec_sync(self, request: Any) -> Any:
        return to_message(await self._runtime.exec_sync(request.container_id, list(request.cmd), request.timeout))

    async def exec(self, request: Any) -> Any:
        url = await self._runtime.exec(from_message(ExecRequest, request))
        return message_class("ExecResponse")(url=url)

    async def attach(self, request: Any) -> Any:
        url = await self._runtime.attach(from_message(AttachRequest, request))
        return message_class("AttachResponse")(url=url)

    async def port_forward(self, request: Any) -> Any:
        url = await self._runtime.port_forward(request.pod_sandbox_id, list(request.port))
        return message_class("PortForwardResponse")(url=url)

    # Statistics.

    async def container_stats(self, request: Any) -> Any:
        with _words("failed to find container"):
            identity = (await self._runtime.container_status(request.container_id)).id
        found = [one for one in await self._runtime.list_container_stats() if one.id == identity]
        if not found:
            raise CriError("UNKNOWN", "unexpected metrics response: []")
        return message_class("ContainerStatsResponse")(stats=to_message(found[0]))

    async def list_container_stats(self, request: Any) -> Any:
        sandbox_of = {one.id: one.pod_sandbox_id for one in await self._runtime.list_containers()}
        found = filters.container_stats(await self._runtime.list_container_stats(), request.filter, sandbox_of)
        return message_class("ListContainerStatsResponse")(stats=map(to_message, found))

    async def pod_sandbox_stats(self, request: Any) -> Any:
        with _words(f"an error occurred when trying to find sandbox {request.pod_sandbox_id}"):
            identity = (await self._runtime.pod_sandbox_status(request.pod_sandbox_id)).id
        found = [one for one in await self._runtime.list_pod_sandbox_stats() if one.id == identity]
        if not found:
            why = f'failed to get pod sandbox stats since sandbox container "{identity}" is not in ready state'
            words = f"failed to decode pod sandbox metrics {request.pod_sandbox_id}: {why}: unavailable"
            raise CriError("UNAVAILABLE", words)
        return message_class("PodSandboxStatsResponse")(stats=to_message(found[0]))

    async def list_pod_sandbox_stats(self, request: Any) -> Any:
        found = filters.sandbox_stats(await self._runtime.list_pod_sandbox_stats(), request.filter)
        return message_class("ListPodSandboxStatsResponse")(stats=map(to_message, found))

    async def list_metric_descriptors(self, _: Any) -> Any:
        answer = message_class("ListMetricDescriptorsResponse")()
        for one in self._inspection.descriptors:
            answer.descriptors.add(name=one.name, help=one.help, label_keys=one.label_keys)
        return answer

    async def list_pod_sandbox_metrics(self, _: Any) -> Any:
        answer = message_class("ListPodSandboxMetricsResponse")()
        now = time.time_ns()
        for sandbox, containers in (await asyncio.to_thread(self._inspection.metrics)).items():
            pod = answer.pod_metrics.add(pod_sandbox_id=sandbox)
            for container, metrics in containers.items():
                into = pod.container_metrics.add(container_id=container).metrics
                for one in metrics:
                    made = into.add(name=one.name, timestamp=now, label_values=one.label_values)
                    made.metric_type = 0 if one.counter else 1  # COUNTER, GAUGE
                    made.value.value = one.value
        return answer

    # Events.

    async def get_container_events(self, _: Any, context: grpc.aio.ServicerContext) -> AsyncIterator[Any]:
        events = self._runtime.get_container_events()
        await context.send_initial_metadata(())  # the caller may rely on it from here on
        async for event in events:
            yield await self._event(event)

    async def _event(self, event: ContainerEvent) -> Any:
        message = to_message(event, "ContainerEventResponse")
        try:
            status = await self._runtime.pod_sandbox_status(event.pod_sandbox_id)
        except CriError:
            return message  # it is gone
        message.pod_sandbox_status.CopyFrom(to_message(status))
        message.containers_statuses.extend(await self._statuses(event.pod_sandbox_id))
        return message


class _Images:
    """The methods of ImageService."""

    def __init__(self, images: ImageService, inspection: Inspection) -> None:
        self._images = images
        self._inspection = inspection

    async def list_images(self, request: Any) -> Any:
        found = filters.images(await self._images.list_images(), request.filter.image.image)
        return message_class("ListImagesResponse")(images=map(to_message, found))

    async def image_status(self, request: Any) -> Any:
        found = await self._images.image_status(from_message(ImageSpec, request.image))
        if found is None:
            return None
        info = _info(self._inspection.image(found.id)) if request.verbose else {}
        return message_class("ImageStatusResponse")(image=to_message(found), info=info)

    async def pull_image(self, request: Any) -> Any:
        auth = from_message(AuthConfig, request.auth) if request.HasField("auth") else None
        image = from_message(ImageSpec, request.image)
        return message_class("PullImageResponse")(image_ref=await self._images.pull_image(image, auth))

    async def remove_image(self, request: Any) -> None:
        await self._images.remove_image(from_message(ImageSpec, request.image))

    async def image_fs_info(self, _: Any) -> Any:
        found = [to_message(one) for one in await self._images.image_fs_info()]
        # One file system holds images and what containers write.
        return message_class("ImageFsInfoResponse")(image_filesystems=found, container_filesystems=found)


@contextlib.contextmanager
def _words(begin: str) -> Iterator[None]:
    """Let what is not found be told in other words than those of the status."""
    try:
        yield
    except CriError as error:
        raise CriError(error.code, f"{begin}: {error.message.rpartition(': ')[2]}") from None
