"""The pod resources API (v1): tells monitoring agents on the node which devices, CPUs and memory containers have.

Imported when the first of them connects. KEP-2403 and KEP-3695 specify it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from pinnace.kubelet.devices.messages import POD_RESOURCES, RESOURCES
from pinnace.kubelet.pods import containers, init_containers, is_sidecar
from pinnace.kubelet.statistics import measures
from pinnace.kubelet.topology.manager import ResourceManagers
from pinnace.machinery.meta import Obj, name_of, namespace_of, uid_of
from pinnace.wire import grpc_calls

_VERSION = "v1"


def of_pod(pod: Obj, managers: ResourceManagers) -> Any:
    """The PodResources message of a pod."""
    listed = [*containers(pod), *(one for one in init_containers(pod) if is_sidecar(one))]
    return RESOURCES["PodResources"](
        name=name_of(pod),
        namespace=namespace_of(pod),
        containers=[_of_container(uid_of(pod), container["name"], managers) for container in listed],
    )


def _of_container(uid: str, name: str, managers: ResourceManagers) -> Any:
    known = managers.devices.devices()
    devices = [
        _devices(resource, one, known.get(resource, {}).get(one, ()))
        for resource, held in managers.devices.held(uid, name).items()
        for one in held.ids
    ]
    memory = managers.memory.held(uid, name) if managers.memory is not None else {}
    return RESOURCES["ContainerResources"](
        name=name,
        devices=devices,
        cpu_ids=sorted(managers.cpu.held(uid, name)) if managers.cpu is not None else [],
        memory=[_memory(kind, size, [node]) for kind, parts in memory.items() for node, size in parts.items()],
    )


def allocatable(managers: ResourceManagers) -> Any:
    """What can be given to containers at all."""
    devices = [
        _devices(resource, one, nodes)
        for resource, listed in managers.devices.devices().items()
        for one, nodes in listed.items()
    ]
    kinds = managers.memory.kinds() if managers.memory is not None else {}
    return RESOURCES["AllocatableResourcesResponse"](
        devices=devices,
        cpu_ids=sorted(managers.cpu.allocatable) if managers.cpu is not None else [],
        memory=[_memory(kind, one.allocatable, [node]) for kind, nodes in kinds.items() for node, one in nodes.items()],
    )


def _devices(resource: str, identity: str, nodes: Iterable[int]) -> Any:
    return RESOURCES["ContainerDevices"](resource_name=resource, device_ids=[identity], topology=_topology(nodes))


def _memory(kind: str, size: int, nodes: Iterable[int]) -> Any:
    return RESOURCES["ContainerMemory"](memory_type=kind, size=size, topology=_topology(nodes))


def _topology(nodes: Iterable[int]) -> Any:
    listed = [RESOURCES["NUMANode"](ID=node) for node in sorted(nodes)]
    return RESOURCES["TopologyInfo"](nodes=listed) if listed else None


async def serve(socket: Path, pods: Callable[[], list[Obj]], managers: ResourceManagers) -> grpc.aio.Server:
    """Serve v1.PodResourcesLister at a socket; `pods` are those that run here."""

    async def list_all(_request: Any, _context: Any) -> Any:
        return RESOURCES["ListPodResourcesResponse"](pod_resources=[of_pod(pod, managers) for pod in pods()])

    async def get(request: Any, context: Any) -> Any:
        for pod in pods():
            if (name_of(pod), namespace_of(pod)) == (request.pod_name, request.pod_namespace):
                return RESOURCES["GetPodResourcesResponse"](pod_resources=of_pod(pod, managers))
        text = f"pod {request.pod_name} in namespace {request.pod_namespace} not found"
        return await context.abort(grpc.StatusCode.UNKNOWN, text)

    async def get_allocatable(_request: Any, _context: Any) -> Any:
        return allocatable(managers)

    methods = {
        "List": (RESOURCES["ListPodResourcesRequest"], list_all),
        "Get": (RESOURCES["GetPodResourcesRequest"], get),
        "GetAllocatableResources": (RESOURCES["AllocatableResourcesRequest"], get_allocatable),
    }
    counted = {name: (request, _counted(name, method)) for name, (request, method) in methods.items()}
    return await grpc_calls.serve(socket, POD_RESOURCES, counted)


def _counted(name: str, method: Callable[[Any, Any], Awaitable[Any]]) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(request: Any, context: Any) -> Any:
        measures.pod_resources_requests.inc(_VERSION)
        measures.pod_resources[name].inc(_VERSION)
        try:
            return await method(request, context)
        except BaseException:
            measures.pod_resources_errors[name].inc(_VERSION)
            raise

    return call
