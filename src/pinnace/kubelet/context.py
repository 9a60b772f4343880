"""What every part of one kubelet shares: the runtime, the API, the caches; made once by `Kubelet`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from pinnace.client.client import Client
from pinnace.client.events import EventRecorder
from pinnace.cri.api import ContainerStatus, CriError, DNSConfig, LinuxContainerResources, RuntimeService
from pinnace.kubelet.containers.env import PodFacts, node_allocatable, service_environment
from pinnace.kubelet.containers.network_files import parse_resolv_conf
from pinnace.kubelet.containers.user_namespaces import UserRanges
from pinnace.kubelet.csi.drivers import CsiDrivers
from pinnace.kubelet.devices.dra import DraManager
from pinnace.kubelet.devices.health import GATE as HEALTH_GATE
from pinnace.kubelet.devices.manager import DeviceManager
from pinnace.kubelet.images.manager import ImagePuller
from pinnace.kubelet.node.machine_info import has_unified_cgroups
from pinnace.kubelet.objects import ObjectFetcher
from pinnace.kubelet.options import KubeletOptions
from pinnace.kubelet.pods import field_path
from pinnace.kubelet.probes.manager import Probes
from pinnace.kubelet.resources import unified
from pinnace.kubelet.resources.cgroups import CgroupManager, pod_resources
from pinnace.kubelet.resources.resizing import Resizing
from pinnace.kubelet.resources.swap import swap_limit
from pinnace.kubelet.runtime.status import RuntimeCache
from pinnace.kubelet.status.container import Report, Waiting
from pinnace.kubelet.status.writer import StatusWriter
from pinnace.kubelet.sync.backoff import Backoff
from pinnace.kubelet.sync.compute import restarts
from pinnace.kubelet.sync.termination import TerminationMessages
from pinnace.kubelet.topology.manager import ResourceManagers
from pinnace.kubelet.volumes.context import VolumeContext
from pinnace.kubelet.volumes.disks import Disks
from pinnace.kubelet.volumes.pod_certificates import PodCertificates
from pinnace.kubelet.volumes.tokens import Tokens
from pinnace.machinery.meta import Obj, uid_of, utc_now
from pinnace.machinery.quantity import Quantity


@dataclass(slots=True, kw_only=True)
class Node:
    """One node's services, as its pod workers use them."""

    options: KubeletOptions
    client: Client
    runtime: RuntimeService
    puller: ImagePuller
    cache: RuntimeCache
    probes: Probes
    events: EventRecorder
    statuses: StatusWriter
    objects: ObjectFetcher
    tokens: Tokens
    certificates: PodCertificates
    services: Callable[[], list[Obj]]  # every Service, for service links
    node_object: Callable[[], Obj | None]  # this node, as the API has it
    csi: CsiDrivers
    disks: Disks
    crashes: Backoff  # of containers that end, by pod and container
    starts: asyncio.Semaphore  # sandboxes being made at the same time
    resizing: Resizing  # the sizes that pods were granted and have
    devices: DeviceManager
    managers: ResourceManagers
    claims: DraManager
    users: UserRanges
    swap_capacity: int = 0  # bytes of swap space of the node
    page_sizes: Collection[str] = ()  # of its huge pages: hugepages-2Mi
    cpus_changed: Callable[[], None] = lambda: None  # containers may have to run on other CPUs
    cgroups: CgroupManager | None = None  # None: pods' cgroups are left to the runtime
    messages: TerminationMessages = field(default_factory=TerminationMessages)

    def tell(self, pod: Obj, kind: str, reason: str, message: str) -> None:
        """An event about a pod."""
        self.events.event(pod, kind, reason, message)

    def tell_container(self, pod: Obj, name: str, kind: str, reason: str, message: str) -> None:
        """An event about one container of a pod."""
        self.events.event(pod, kind, reason, message, field_path=field_path(pod, name))

    def host_dns(self) -> DNSConfig:
        try:
            return parse_resolv_conf(self.options.resolv_conf.read_text())
        except OSError:
            return DNSConfig()

    def memory_capacity(self) -> int:
        """Bytes of memory of the node, as its Node object says."""
        node = self.node_object()
        text = ((node or {}).get("status") or {}).get("capacity", {}).get("memory")
        return Quantity.parse(str(text)).value() if text else 0

    def container_files(self, pod: Obj, container: Obj) -> dict[str, str]:
        """What is written to the container's cgroup beside its limits; nothing where that is not of version 2."""
        if not has_unified_cgroups():
            return {}
        options = self.options
        swap = swap_limit(pod, container, options.swap_behavior, self.memory_capacity(), self.swap_capacity)
        files = unified.container_files(
            pod,
            container,
            unified.memory_qos(options),
            allocatable_memory=node_allocatable(self.node_object()).get("memory", 0),
            single_process_oom_kill=options.single_process_oom_kill,
        )
        return {"memory.swap.max": str(swap), **files}

    def pod_limits(self, pod: Obj) -> LinuxContainerResources:
        """Everything that the pod's cgroup is limited to."""
        options = self.options
        limits = pod_resources(pod, options.pods_pids_limit, self.page_sizes, quotas=options.cpu_cfs_quota)
        if has_unified_cgroups():
            limits.unified = unified.pod_files(pod, unified.memory_qos(self.options))
        return self.managers.of_pod(pod, limits)

    def facts(self, pod: Obj, pod_ips: list[str]) -> PodFacts:
        return PodFacts(
            pod,
            host_ips=self.options.node_ips,
            pod_ips=pod_ips,
            allocatable=node_allocatable(self.node_object()),
            cluster_domain=self.options.cluster_domain,
        )

    def volume_context(self, pod: Obj) -> VolumeContext:
        return VolumeContext(
            pod=pod,
            pods_dir=self.options.pods_dir,
            facts=self.facts(pod, []),
            fetch=self.objects.fetch_for(pod),
            bundles=self.objects.bundles,
            certificates=self.certificates,
            tokens=self.tokens,
            client=self.client,
            csi=self.csi,
            disks=self.disks,
            node=self.node_object,
            tell=self.events.event,
        )

    def service_links(self, pod: Obj) -> dict[str, str]:
        enabled = pod["spec"].get("enableServiceLinks") is not False
        return service_environment(self.services(), pod["metadata"]["namespace"], enabled)

    def report(
        self, pod: Obj, waiting: dict[str, Waiting], *, terminating: bool, restarting_all: bool = False
    ) -> Report:
        """What `pod_status` needs besides the pod and its containers."""
        return Report(
            now=utc_now(),
            health=self.probes.health,
            waiting=waiting,
            messages=self.messages,
            host_ips=self.options.node_ips,
            scheme=self.options.container_runtime,
            terminating=terminating,
            restarts=lambda container, status: restarts(pod, container, status.exit_code),
            tells_pod_resources=self.options.minor >= 35,
            tells_users=self.options.minor >= 33,
            tells_images=self.options.minor >= 36,
            tells_restarts=self.options.features.enabled("RestartAllContainersOnContainerExits"),
            restarting_all=restarting_all,
            devices=self._devices_of(pod),
            resizes=self.resizing.conditions(uid_of(pod)),
        )

    def _devices_of(self, pod: Obj) -> Callable[[Obj], list[Obj]]:
        """How the devices of the pod's containers are."""
        if not self.options.features.enabled(HEALTH_GATE):
            return lambda _container: []
        uid = uid_of(pod)
        return lambda one: [*self.devices.health_of(uid, one["name"]), *self.claims.health_of(pod, one)]

    async def refresh(self, status: ContainerStatus, uid: str) -> None:
        """Ask the runtime anew about one container."""
        sandbox = self.cache.get(uid).sandbox_of.get(status.id, "")
        try:
            await self.cache.refresh_container(status.id, sandbox)
        except CriError:
            return  # the next runtime event or relist brings it
