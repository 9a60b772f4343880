"""CRI v1 as Python: the messages as dataclasses, the two services as protocols.

Names and meaning are those of runtime.v1 (https://github.com/kubernetes/cri-api), fields in snake_case, times in
nanoseconds since the epoch, durations and grace periods in seconds. Absent messages are None, absent scalars zero.
Failures raise `CriError` with a gRPC status name.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol


class CriError(Exception):
    """A call failed; `code` is the gRPC status name: NOT_FOUND, ALREADY_EXISTS, INVALID_ARGUMENT, UNKNOWN, …"""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class PodSandboxState(Enum):
    READY = "SANDBOX_READY"
    NOTREADY = "SANDBOX_NOTREADY"


class ContainerState(Enum):
    CREATED = "CONTAINER_CREATED"
    RUNNING = "CONTAINER_RUNNING"
    EXITED = "CONTAINER_EXITED"
    UNKNOWN = "CONTAINER_UNKNOWN"


class NamespaceMode(Enum):
    POD = "POD"
    CONTAINER = "CONTAINER"
    NODE = "NODE"
    TARGET = "TARGET"


class MountPropagation(Enum):
    PRIVATE = "PROPAGATION_PRIVATE"
    HOST_TO_CONTAINER = "PROPAGATION_HOST_TO_CONTAINER"
    BIDIRECTIONAL = "PROPAGATION_BIDIRECTIONAL"


@dataclass(slots=True, kw_only=True)
class DNSConfig:
    servers: list[str] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class PortMapping:
    protocol: str = "TCP"
    container_port: int = 0
    host_port: int = 0
    host_ip: str = ""


@dataclass(slots=True, kw_only=True)
class IDMapping:
    host_id: int
    container_id: int
    length: int


@dataclass(slots=True, kw_only=True)
class UserNamespace:
    """POD: users of the pod are others on the node, as the mappings say; NODE: they are the same."""

    mode: NamespaceMode = NamespaceMode.NODE
    uids: list[IDMapping] = field(default_factory=list)
    gids: list[IDMapping] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class NamespaceOption:
    network: NamespaceMode = NamespaceMode.POD
    pid: NamespaceMode = NamespaceMode.CONTAINER
    ipc: NamespaceMode = NamespaceMode.POD
    target_id: str = ""  # the container whose PID namespace is joined, with TARGET
    userns_options: UserNamespace | None = None


@dataclass(slots=True, kw_only=True)
class SecurityProfile:
    profile_type: str = "Unconfined"  # RuntimeDefault, Unconfined, Localhost
    localhost_ref: str = ""


@dataclass(slots=True, kw_only=True)
class Capability:
    add_capabilities: list[str] = field(default_factory=list)
    drop_capabilities: list[str] = field(default_factory=list)
    add_ambient_capabilities: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class LinuxSandboxSecurityContext:
    namespace_options: NamespaceOption = field(default_factory=NamespaceOption)
    run_as_user: int | None = None
    run_as_group: int | None = None
    readonly_rootfs: bool = False
    supplemental_groups: list[int] = field(default_factory=list)
    supplemental_groups_policy: str = "Merge"  # with the groups that the image's user is in; Strict: without
    privileged: bool = False
    seccomp: SecurityProfile | None = None


@dataclass(slots=True, kw_only=True)
class LinuxPodSandboxConfig:
    cgroup_parent: str = ""  # /kubepods/burstable/pod<uid>
    security_context: LinuxSandboxSecurityContext = field(default_factory=LinuxSandboxSecurityContext)
    sysctls: dict[str, str] = field(default_factory=dict)
    overhead: LinuxContainerResources | None = None  # of the sandbox itself
    resources: LinuxContainerResources | None = None  # of its containers together


@dataclass(slots=True, kw_only=True)
class PodSandboxMetadata:
    name: str
    uid: str
    namespace: str
    attempt: int = 0


@dataclass(slots=True, kw_only=True)
class PodSandboxConfig:
    metadata: PodSandboxMetadata
    hostname: str = ""
    log_directory: str = ""
    dns_config: DNSConfig | None = None
    port_mappings: list[PortMapping] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    linux: LinuxPodSandboxConfig = field(default_factory=LinuxPodSandboxConfig)


@dataclass(slots=True, kw_only=True)
class PodSandbox:
    """A sandbox in a list."""

    id: str
    metadata: PodSandboxMetadata
    state: PodSandboxState
    created_at: int
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    runtime_handler: str = ""


@dataclass(slots=True, kw_only=True)
class PodSandboxStatus:
    id: str
    metadata: PodSandboxMetadata
    state: PodSandboxState
    created_at: int
    ips: list[str] = field(default_factory=list)  # primary first; empty with the host's network
    namespaces: NamespaceOption = field(default_factory=NamespaceOption)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    runtime_handler: str = ""


@dataclass(slots=True, kw_only=True)
class ImageSpec:
    image: str  # a reference as the user wrote it, or an image ID
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Mount:
    container_path: str
    host_path: str  # empty for an image
    readonly: bool = False
    propagation: MountPropagation = MountPropagation.PRIVATE
    uidMappings: list[IDMapping] = field(default_factory=list)  # noqa: N815  (runtime.v1's name)
    gidMappings: list[IDMapping] = field(default_factory=list)  # noqa: N815
    recursive_read_only: bool = False  # what is mounted below it, too
    image: ImageSpec | None = None  # mounted, read-only, in place of a path
    image_sub_path: str = ""


@dataclass(slots=True, kw_only=True)
class Device:
    container_path: str
    host_path: str
    permissions: str = "rwm"


@dataclass(slots=True, kw_only=True)
class CDIDevice:
    name: str  # vendor.com/class=name (https://github.com/cncf-tags/container-device-interface)


@dataclass(slots=True, kw_only=True)
class HugepageLimit:
    page_size: str  # 2MB, 1GB
    limit: int  # bytes


@dataclass(slots=True, kw_only=True)
class LinuxContainerResources:
    cpu_period: int = 0  # microseconds
    cpu_quota: int = 0  # microseconds, 0: no limit
    cpu_shares: int = 0
    memory_limit_in_bytes: int = 0
    memory_swap_limit_in_bytes: int = 0  # of memory and swap together; 0: no more than of memory
    oom_score_adj: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int = 0
    hugepage_limits: list[HugepageLimit] = field(default_factory=list)
    unified: dict[str, str] = field(default_factory=dict)  # files of cgroup version 2 and what is written to them


@dataclass(slots=True, kw_only=True)
class LinuxContainerSecurityContext:
    capabilities: Capability = field(default_factory=Capability)
    privileged: bool = False
    namespace_options: NamespaceOption = field(default_factory=NamespaceOption)
    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_username: str = ""
    readonly_rootfs: bool = False
    supplemental_groups: list[int] = field(default_factory=list)
    supplemental_groups_policy: str = "Merge"  # with the groups that the image's user is in; Strict: without
    no_new_privs: bool = False
    seccomp: SecurityProfile | None = None
    apparmor: SecurityProfile | None = None
    masked_paths: list[str] = field(default_factory=list)
    readonly_paths: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class LinuxContainerConfig:
    resources: LinuxContainerResources = field(default_factory=LinuxContainerResources)
    security_context: LinuxContainerSecurityContext = field(default_factory=LinuxContainerSecurityContext)


@dataclass(slots=True, kw_only=True)
class ContainerMetadata:
    name: str
    attempt: int = 0


@dataclass(slots=True, kw_only=True)
class ContainerConfig:
    metadata: ContainerMetadata
    image: ImageSpec
    command: list[str] = field(default_factory=list)  # replaces the image's entrypoint
    args: list[str] = field(default_factory=list)  # replaces the image's cmd
    working_dir: str = ""
    envs: dict[str, str] = field(default_factory=dict)  # in order
    mounts: list[Mount] = field(default_factory=list)
    devices: list[Device] = field(default_factory=list)
    CDI_devices: list[CDIDevice] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    log_path: str = ""  # relative to the sandbox's log_directory
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    linux: LinuxContainerConfig = field(default_factory=LinuxContainerConfig)
    stop_signal: str = ""


@dataclass(slots=True, kw_only=True)
class Container:
    """A container in a list."""

    id: str
    pod_sandbox_id: str
    metadata: ContainerMetadata
    image: ImageSpec
    image_ref: str
    state: ContainerState
    created_at: int
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    image_id: str = ""


@dataclass(slots=True, kw_only=True)
class LinuxContainerUser:
    """Who a container's first process was at its start."""

    uid: int
    gid: int
    supplemental_groups: list[int] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class ContainerUser:
    linux: LinuxContainerUser | None = None


@dataclass(slots=True, kw_only=True)
class ContainerStatus:
    id: str
    metadata: ContainerMetadata
    state: ContainerState
    created_at: int
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    image: ImageSpec
    image_ref: str  # repo digest if known, else the image ID
    image_id: str = ""
    reason: str = ""  # Completed, Error, OOMKilled, ContainerCannotRun
    message: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    mounts: list[Mount] = field(default_factory=list)
    log_path: str = ""  # absolute
    resources: LinuxContainerResources | None = None
    user: ContainerUser | None = None
    stop_signal: str = ""  # SIGTERM, SIGRTMIN+3


@dataclass(slots=True, kw_only=True)
class ExecRequest:
    container_id: str
    cmd: list[str]
    tty: bool = False
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


@dataclass(slots=True, kw_only=True)
class ExecSyncResponse:
    stdout: bytes
    stderr: bytes
    exit_code: int


@dataclass(slots=True, kw_only=True)
class AttachRequest:
    container_id: str
    tty: bool = False
    stdin: bool = False
    stdout: bool = True
    stderr: bool = True


@dataclass(slots=True, kw_only=True)
class ContainerStats:
    id: str
    metadata: ContainerMetadata
    labels: dict[str, str]
    timestamp: int
    cpu_usage_core_nano_seconds: int = 0
    memory_working_set_bytes: int = 0
    memory_usage_bytes: int = 0
    memory_rss_bytes: int = 0
    writable_layer_used_bytes: int = 0
    writable_layer_inodes_used: int = 0
    process_count: int = 0  # of its cgroup; 0 where the runtime does not tell


@dataclass(slots=True, kw_only=True)
class NetworkInterfaceUsage:
    """Counters since the interface is there."""

    name: str
    rx_bytes: int = 0
    rx_errors: int = 0
    tx_bytes: int = 0
    tx_errors: int = 0
    rx_packets: int | None = None  # these are not CRI's: known of the engine alone
    rx_dropped: int | None = None
    tx_packets: int | None = None
    tx_dropped: int | None = None


@dataclass(slots=True, kw_only=True)
class PodSandboxStats:
    """What a pod uses: everything in its cgroup and its network."""

    id: str
    metadata: PodSandboxMetadata
    labels: dict[str, str]
    timestamp: int
    cpu_usage_core_nano_seconds: int = 0
    memory_working_set_bytes: int = 0
    memory_usage_bytes: int = 0
    memory_rss_bytes: int = 0
    process_count: int = 0
    interfaces: list[NetworkInterfaceUsage] = field(default_factory=list)  # the default one first; none: the host's
    containers: list[ContainerStats] = field(default_factory=list)


class ContainerEventType(Enum):
    CREATED = "CONTAINER_CREATED_EVENT"
    STARTED = "CONTAINER_STARTED_EVENT"
    STOPPED = "CONTAINER_STOPPED_EVENT"
    DELETED = "CONTAINER_DELETED_EVENT"


@dataclass(slots=True, kw_only=True)
class ContainerEvent:
    """Something happened to a container (or, where the ids are equal, to a sandbox)."""

    container_id: str
    container_event_type: ContainerEventType
    created_at: int
    pod_sandbox_id: str
    pod_uid: str


@dataclass(slots=True, kw_only=True)
class RuntimeCondition:
    type: str  # RuntimeReady, NetworkReady
    status: bool
    reason: str = ""
    message: str = ""


@dataclass(slots=True, kw_only=True)
class RuntimeHandler:
    """What a handler can do, as far as runtimes tell."""

    name: str = ""  # empty: the default
    recursive_read_only_mounts: bool = False
    user_namespaces: bool = False


@dataclass(slots=True, kw_only=True)
class RuntimeFeatures:
    """A part of the status that does not change while a runtime runs."""

    handlers: list[RuntimeHandler] = field(default_factory=list)
    supplemental_groups_policy: bool = False


@dataclass(slots=True, kw_only=True)
class Version:
    version: str
    runtime_name: str
    runtime_version: str
    runtime_api_version: str = "v1"


@dataclass(slots=True, kw_only=True)
class Image:
    id: str  # sha256:<digest of the config>
    repo_tags: list[str] = field(default_factory=list)
    repo_digests: list[str] = field(default_factory=list)
    size: int = 0
    uid: int | None = None  # the numeric user the image asks for
    username: str = ""  # or its name
    pinned: bool = False


@dataclass(slots=True, kw_only=True)
class AuthConfig:
    username: str = ""
    password: str = ""
    auth: str = ""
    server_address: str = ""
    identity_token: str = ""
    registry_token: str = ""


@dataclass(slots=True, kw_only=True)
class FilesystemUsage:
    timestamp: int
    mountpoint: str
    used_bytes: int
    inodes_used: int


class RuntimeService(Protocol):
    """runtime.v1.RuntimeService, as far as the kubelet calls it."""

    @property
    def streams_websockets(self) -> bool:
        """Whether its streaming server takes every WebSocket protocol, besides SPDY, which all take."""

    async def version(self) -> Version: ...

    async def run_pod_sandbox(self, config: PodSandboxConfig, runtime_handler: str = "") -> str:
        """Make a sandbox with its namespaces and network, READY when this returns; its id."""

    async def stop_pod_sandbox(self, pod_sandbox_id: str) -> None:
        """Kill what runs in it and take its network down; idempotent."""

    async def remove_pod_sandbox(self, pod_sandbox_id: str) -> None:
        """Remove it and its containers, running or not; idempotent."""

    async def pod_sandbox_status(self, pod_sandbox_id: str) -> PodSandboxStatus: ...

    async def list_pod_sandbox(self) -> list[PodSandbox]: ...

    async def update_pod_sandbox_resources(
        self, pod_sandbox_id: str, overhead: LinuxContainerResources | None, resources: LinuxContainerResources | None
    ) -> None:
        """Tell what a pod may use, whose cgroup its kubelet has changed already."""

    async def create_container(
        self, pod_sandbox_id: str, config: ContainerConfig, sandbox_config: PodSandboxConfig
    ) -> str: ...

    async def start_container(self, container_id: str) -> None: ...

    async def stop_container(self, container_id: str, timeout: int) -> None:
        """Send the stop signal, and SIGKILL after `timeout` seconds; returns when it has exited; idempotent."""

    async def remove_container(self, container_id: str) -> None:
        """Remove it, by force if it runs; idempotent."""

    async def list_containers(self) -> list[Container]: ...

    async def container_status(self, container_id: str) -> ContainerStatus: ...

    async def update_container_resources(self, container_id: str, linux: LinuxContainerResources) -> None: ...

    async def reopen_container_log(self, container_id: str) -> None:
        """After a rotation: write on to a new file at the container's log path."""

    async def checkpoint_container(self, container_id: str, location: str, timeout: int = 0) -> None:
        """Write the state of a running container to an archive. UNIMPLEMENTED where the runtime cannot."""

    async def exec_sync(self, container_id: str, cmd: list[str], timeout: float = 0) -> ExecSyncResponse:
        """Run a command to its end; DEADLINE_EXCEEDED after `timeout` seconds (0: no limit)."""

    async def exec(self, request: ExecRequest) -> str:
        """The URL at which a streaming server carries the session (SPDY, or WebSocket as well)."""

    async def attach(self, request: AttachRequest) -> str: ...

    async def port_forward(self, pod_sandbox_id: str, ports: list[int]) -> str: ...

    async def list_container_stats(self) -> list[ContainerStats]: ...

    async def list_pod_sandbox_stats(self) -> list[PodSandboxStats]: ...

    def get_container_events(self) -> AsyncIterator[ContainerEvent]:
        """Every event from now on. UNIMPLEMENTED where the runtime tells of none, and must be asked."""

    async def status(self) -> list[RuntimeCondition]: ...

    async def features(self) -> RuntimeFeatures: ...

    async def update_runtime_config(self, pod_cidr: str) -> None: ...

    async def runtime_config(self) -> str:
        """The cgroup driver, `cgroupfs` or `systemd`. UNIMPLEMENTED where the runtime does not tell."""


class ImageService(Protocol):
    """runtime.v1.ImageService."""

    async def list_images(self) -> list[Image]: ...

    async def image_status(self, image: ImageSpec) -> Image | None: ...

    async def pull_image(self, image: ImageSpec, auth: AuthConfig | None = None) -> str:
        """Pull by the distribution spec; the image's id."""

    async def remove_image(self, image: ImageSpec) -> None: ...

    async def image_fs_info(self) -> list[FilesystemUsage]: ...
