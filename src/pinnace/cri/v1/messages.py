"""The messages of CRI v1 as protobuf has them, and the methods of its services.

Names and numbers are those of runtime.v1 (https://github.com/kubernetes/cri-api), without what is for Windows only.
Fields of later releases are skipped by older runtimes and the other way round, as protobuf means it.
"""

from __future__ import annotations

from typing import Any

from pinnace.machinery.message_table import message_classes

RUNTIME_SERVICE = "runtime.v1.RuntimeService"
IMAGE_SERVICE = "runtime.v1.ImageService"

_ENUMS = """
Protocol TCP UDP SCTP
MountPropagation PROPAGATION_PRIVATE PROPAGATION_HOST_TO_CONTAINER PROPAGATION_BIDIRECTIONAL
NamespaceMode POD CONTAINER NODE TARGET
ProfileType RuntimeDefault Unconfined Localhost
SupplementalGroupsPolicy Merge Strict
PodSandboxState SANDBOX_READY SANDBOX_NOTREADY
ContainerState CONTAINER_CREATED CONTAINER_RUNNING CONTAINER_EXITED CONTAINER_UNKNOWN
ContainerEventType CONTAINER_CREATED_EVENT CONTAINER_STARTED_EVENT CONTAINER_STOPPED_EVENT CONTAINER_DELETED_EVENT
MetricType COUNTER GAUGE
CgroupDriver SYSTEMD CGROUPFS
"""

_SIGNALS = (
    "RUNTIME_DEFAULT SIGABRT SIGALRM SIGBUS SIGCHLD SIGCLD SIGCONT SIGFPE SIGHUP SIGILL SIGINT SIGIO SIGIOT SIGKILL "
    "SIGPIPE SIGPOLL SIGPROF SIGPWR SIGQUIT SIGSEGV SIGSTKFLT SIGSTOP SIGSYS SIGTERM SIGTRAP SIGTSTP SIGTTIN SIGTTOU "
    "SIGURG SIGUSR1 SIGUSR2 SIGVTALRM SIGWINCH SIGXCPU SIGXFSZ SIGRTMIN "
    + " ".join(f"SIGRTMINPLUS{above}" for above in range(1, 16))
    + " "
    + " ".join(f"SIGRTMAXMINUS{below}" for below in range(14, 0, -1))
    + " SIGRTMAX"
)

_VALUES = """
Int64Value   value=1:int64
UInt64Value  value=1:uint64
KeyValue     key=1:string value=2:string
"""

_SANDBOXES = """
DNSConfig        servers=1:*string searches=2:*string options=3:*string
PortMapping      protocol=1:Protocol container_port=2:int32 host_port=3:int32 host_ip=4:string
IDMapping        host_id=1:uint32 container_id=2:uint32 length=3:uint32
UserNamespace    mode=1:NamespaceMode uids=2:*IDMapping gids=3:*IDMapping
NamespaceOption  network=1:NamespaceMode pid=2:NamespaceMode ipc=3:NamespaceMode target_id=4:string
                 userns_options=5:UserNamespace
SELinuxOption    user=1:string role=2:string type=3:string level=4:string
SecurityProfile  profile_type=1:ProfileType localhost_ref=2:string
LinuxSandboxSecurityContext  namespace_options=1:NamespaceOption selinux_options=2:SELinuxOption
    run_as_user=3:Int64Value readonly_rootfs=4:bool supplemental_groups=5:*int64 privileged=6:bool
    seccomp_profile_path=7:string run_as_group=8:Int64Value seccomp=9:SecurityProfile apparmor=10:SecurityProfile
    supplemental_groups_policy=11:SupplementalGroupsPolicy
LinuxPodSandboxConfig  cgroup_parent=1:string security_context=2:LinuxSandboxSecurityContext sysctls=3:map
    overhead=4:LinuxContainerResources resources=5:LinuxContainerResources
PodSandboxMetadata  name=1:string uid=2:string namespace=3:string attempt=4:uint32
PodSandboxConfig  metadata=1:PodSandboxMetadata hostname=2:string log_directory=3:string dns_config=4:DNSConfig
    port_mappings=5:*PortMapping labels=6:map annotations=7:map linux=8:LinuxPodSandboxConfig
PodIP                    ip=1:string
PodSandboxNetworkStatus  ip=1:string additional_ips=2:*PodIP
Namespace                options=2:NamespaceOption
LinuxPodSandboxStatus    namespaces=1:Namespace
PodSandboxStatus  id=1:string metadata=2:PodSandboxMetadata state=3:PodSandboxState created_at=4:int64
    network=5:PodSandboxNetworkStatus linux=6:LinuxPodSandboxStatus labels=7:map annotations=8:map
    runtime_handler=9:string
PodSandbox  id=1:string metadata=2:PodSandboxMetadata state=3:PodSandboxState created_at=4:int64 labels=5:map
    annotations=6:map runtime_handler=7:string
PodSandboxStateValue  state=1:PodSandboxState
PodSandboxFilter      id=1:string state=2:PodSandboxStateValue label_selector=3:map

RunPodSandboxRequest      config=1:PodSandboxConfig runtime_handler=2:string
RunPodSandboxResponse     pod_sandbox_id=1:string
StopPodSandboxRequest     pod_sandbox_id=1:string
StopPodSandboxResponse
RemovePodSandboxRequest   pod_sandbox_id=1:string
RemovePodSandboxResponse
PodSandboxStatusRequest   pod_sandbox_id=1:string verbose=2:bool
PodSandboxStatusResponse  status=1:PodSandboxStatus info=2:map containers_statuses=3:*ContainerStatus timestamp=4:int64
ListPodSandboxRequest     filter=1:PodSandboxFilter
ListPodSandboxResponse    items=1:*PodSandbox
UpdatePodSandboxResourcesRequest  pod_sandbox_id=1:string overhead=2:LinuxContainerResources
    resources=3:LinuxContainerResources
UpdatePodSandboxResourcesResponse
"""

_CONTAINERS = """
ImageSpec  image=1:string annotations=2:map user_specified_image=18:string runtime_handler=19:string
Mount      container_path=1:string host_path=2:string readonly=3:bool selinux_relabel=4:bool
    propagation=5:MountPropagation uidMappings=6:*IDMapping gidMappings=7:*IDMapping recursive_read_only=8:bool
    image=9:ImageSpec image_sub_path=10:string
Device     container_path=1:string host_path=2:string permissions=3:string
CDIDevice  name=1:string
HugepageLimit            page_size=1:string limit=2:uint64
LinuxContainerResources  cpu_period=1:int64 cpu_quota=2:int64 cpu_shares=3:int64 memory_limit_in_bytes=4:int64
    oom_score_adj=5:int64 cpuset_cpus=6:string cpuset_mems=7:string hugepage_limits=8:*HugepageLimit unified=9:map
    memory_swap_limit_in_bytes=10:int64
ContainerResources       linux=1:LinuxContainerResources
Capability  add_capabilities=1:*string drop_capabilities=2:*string add_ambient_capabilities=3:*string
LinuxContainerSecurityContext  capabilities=1:Capability privileged=2:bool namespace_options=3:NamespaceOption
    selinux_options=4:SELinuxOption run_as_user=5:Int64Value run_as_username=6:string readonly_rootfs=7:bool
    supplemental_groups=8:*int64 apparmor_profile=9:string seccomp_profile_path=10:string no_new_privs=11:bool
    run_as_group=12:Int64Value masked_paths=13:*string readonly_paths=14:*string seccomp=15:SecurityProfile
    apparmor=16:SecurityProfile supplemental_groups_policy=17:SupplementalGroupsPolicy
LinuxContainerConfig  resources=1:LinuxContainerResources security_context=2:LinuxContainerSecurityContext
ContainerMetadata     name=1:string attempt=2:uint32
ContainerConfig  metadata=1:ContainerMetadata image=2:ImageSpec command=3:*string args=4:*string working_dir=5:string
    envs=6:*KeyValue mounts=7:*Mount devices=8:*Device labels=9:map annotations=10:map log_path=11:string stdin=12:bool
    stdin_once=13:bool tty=14:bool linux=15:LinuxContainerConfig CDI_devices=17:*CDIDevice stop_signal=18:Signal
ContainerStateValue  state=1:ContainerState
ContainerFilter      id=1:string state=2:ContainerStateValue pod_sandbox_id=3:string label_selector=4:map
Container  id=1:string pod_sandbox_id=2:string metadata=3:ContainerMetadata image=4:ImageSpec image_ref=5:string
    state=6:ContainerState created_at=7:int64 labels=8:map annotations=9:map image_id=10:string
LinuxContainerUser   uid=1:int64 gid=2:int64 supplemental_groups=3:*int64
ContainerUser        linux=1:LinuxContainerUser
ContainerStatus  id=1:string metadata=2:ContainerMetadata state=3:ContainerState created_at=4:int64 started_at=5:int64
    finished_at=6:int64 exit_code=7:int32 image=8:ImageSpec image_ref=9:string reason=10:string message=11:string
    labels=12:map annotations=13:map mounts=14:*Mount log_path=15:string resources=16:ContainerResources
    image_id=17:string user=18:ContainerUser stop_signal=19:Signal

CreateContainerRequest   pod_sandbox_id=1:string config=2:ContainerConfig sandbox_config=3:PodSandboxConfig
CreateContainerResponse  container_id=1:string
StartContainerRequest    container_id=1:string
StartContainerResponse
StopContainerRequest     container_id=1:string timeout=2:int64
StopContainerResponse
RemoveContainerRequest   container_id=1:string
RemoveContainerResponse
ListContainersRequest    filter=1:ContainerFilter
ListContainersResponse   containers=1:*Container
ContainerStatusRequest   container_id=1:string verbose=2:bool
ContainerStatusResponse  status=1:ContainerStatus info=2:map
UpdateContainerResourcesRequest  container_id=1:string linux=2:LinuxContainerResources annotations=4:map
UpdateContainerResourcesResponse
ReopenContainerLogRequest   container_id=1:string
ReopenContainerLogResponse
CheckpointContainerRequest  container_id=1:string location=2:string timeout=3:int64
CheckpointContainerResponse
ExecSyncRequest      container_id=1:string cmd=2:*string timeout=3:int64
ExecSyncResponse     stdout=1:bytes stderr=2:bytes exit_code=3:int32
ExecRequest          container_id=1:string cmd=2:*string tty=3:bool stdin=4:bool stdout=5:bool stderr=6:bool
ExecResponse         url=1:string
AttachRequest        container_id=1:string stdin=2:bool tty=3:bool stdout=4:bool stderr=5:bool
AttachResponse       url=1:string
PortForwardRequest   pod_sandbox_id=1:string port=2:*int32
PortForwardResponse  url=1:string
"""

_STATISTICS = """
CpuUsage      timestamp=1:int64 usage_core_nano_seconds=2:UInt64Value usage_nano_cores=3:UInt64Value
MemoryUsage   timestamp=1:int64 working_set_bytes=2:UInt64Value available_bytes=3:UInt64Value usage_bytes=4:UInt64Value
    rss_bytes=5:UInt64Value page_faults=6:UInt64Value major_page_faults=7:UInt64Value
SwapUsage     timestamp=1:int64 swap_available_bytes=2:UInt64Value swap_usage_bytes=3:UInt64Value
ProcessUsage  timestamp=1:int64 process_count=2:UInt64Value
NetworkInterfaceUsage  name=1:string rx_bytes=2:UInt64Value rx_errors=3:UInt64Value tx_bytes=4:UInt64Value
    tx_errors=5:UInt64Value
NetworkUsage  timestamp=1:int64 default_interface=2:NetworkInterfaceUsage interfaces=3:*NetworkInterfaceUsage
FilesystemIdentifier  mountpoint=1:string
FilesystemUsage       timestamp=1:int64 fs_id=2:FilesystemIdentifier used_bytes=3:UInt64Value inodes_used=4:UInt64Value
ContainerAttributes   id=1:string metadata=2:ContainerMetadata labels=3:map annotations=4:map
ContainerStats  attributes=1:ContainerAttributes cpu=2:CpuUsage memory=3:MemoryUsage writable_layer=4:FilesystemUsage
    swap=5:SwapUsage
ContainerStatsFilter  id=1:string pod_sandbox_id=2:string label_selector=3:map
PodSandboxAttributes  id=1:string metadata=2:PodSandboxMetadata labels=3:map annotations=4:map
LinuxPodSandboxStats  cpu=1:CpuUsage memory=2:MemoryUsage network=3:NetworkUsage process=4:ProcessUsage
    containers=5:*ContainerStats
PodSandboxStats        attributes=1:PodSandboxAttributes linux=2:LinuxPodSandboxStats
PodSandboxStatsFilter  id=1:string label_selector=2:map
MetricDescriptor   name=1:string help=2:string label_keys=3:*string
Metric             name=1:string timestamp=2:int64 metric_type=3:MetricType label_values=4:*string value=5:UInt64Value
ContainerMetrics   container_id=1:string metrics=2:*Metric
PodSandboxMetrics  pod_sandbox_id=1:string metrics=2:*Metric container_metrics=3:*ContainerMetrics

ContainerStatsRequest           container_id=1:string
ContainerStatsResponse          stats=1:ContainerStats
ListContainerStatsRequest       filter=1:ContainerStatsFilter
ListContainerStatsResponse      stats=1:*ContainerStats
PodSandboxStatsRequest          pod_sandbox_id=1:string
PodSandboxStatsResponse         stats=1:PodSandboxStats
ListPodSandboxStatsRequest      filter=1:PodSandboxStatsFilter
ListPodSandboxStatsResponse     stats=1:*PodSandboxStats
ListMetricDescriptorsRequest
ListMetricDescriptorsResponse   descriptors=1:*MetricDescriptor
ListPodSandboxMetricsRequest
ListPodSandboxMetricsResponse   pod_metrics=1:*PodSandboxMetrics
"""

_RUNTIME = """
NetworkConfig     pod_cidr=1:string
RuntimeConfig     network_config=1:NetworkConfig
RuntimeCondition  type=1:string status=2:bool reason=3:string message=4:string
RuntimeStatus     conditions=1:*RuntimeCondition
RuntimeHandlerFeatures     recursive_read_only_mounts=1:bool user_namespaces=2:bool
RuntimeHandler             name=1:string features=2:RuntimeHandlerFeatures
RuntimeFeatures            supplemental_groups_policy=1:bool
LinuxRuntimeConfiguration  cgroup_driver=1:CgroupDriver

VersionRequest               version=1:string
VersionResponse  version=1:string runtime_name=2:string runtime_version=3:string runtime_api_version=4:string
StatusRequest                verbose=1:bool
StatusResponse   status=1:RuntimeStatus info=2:map runtime_handlers=3:*RuntimeHandler features=4:RuntimeFeatures
UpdateRuntimeConfigRequest   runtime_config=1:RuntimeConfig
UpdateRuntimeConfigResponse
RuntimeConfigRequest
RuntimeConfigResponse        linux=1:LinuxRuntimeConfiguration
GetEventsRequest
ContainerEventResponse  container_id=1:string container_event_type=2:ContainerEventType created_at=3:int64
    pod_sandbox_status=4:PodSandboxStatus containers_statuses=5:*ContainerStatus
"""

_IMAGES = """
Image       id=1:string repo_tags=2:*string repo_digests=3:*string size=4:uint64 uid=5:Int64Value username=6:string
    spec=7:ImageSpec pinned=8:bool
ImageFilter  image=1:ImageSpec
AuthConfig  username=1:string password=2:string auth=3:string server_address=4:string identity_token=5:string
    registry_token=6:string

ListImagesRequest    filter=1:ImageFilter
ListImagesResponse   images=1:*Image
ImageStatusRequest   image=1:ImageSpec verbose=2:bool
ImageStatusResponse  image=1:Image info=2:map
PullImageRequest     image=1:ImageSpec auth=2:AuthConfig sandbox_config=3:PodSandboxConfig
PullImageResponse    image_ref=1:string
RemoveImageRequest   image=1:ImageSpec
RemoveImageResponse
ImageFsInfoRequest
ImageFsInfoResponse  image_filesystems=1:*FilesystemUsage container_filesystems=2:*FilesystemUsage
"""

_CLASSES = message_classes(
    "runtime.v1",
    "".join(
        line + "\n"
        for part in (_VALUES, _SANDBOXES, _CONTAINERS, _STATISTICS, _RUNTIME, _IMAGES)
        for line in part.splitlines()
        if line
    ),
    f"{_ENUMS}Signal {_SIGNALS}",
)

RUNTIME_METHODS = (
    "Version",
    "RunPodSandbox",
    "StopPodSandbox",
    "RemovePodSandbox",
    "PodSandboxStatus",
    "ListPodSandbox",
    "CreateContainer",
    "StartContainer",
    "StopContainer",
    "RemoveContainer",
    "ListContainers",
    "ContainerStatus",
    "UpdateContainerResources",
    "ReopenContainerLog",
    "ExecSync",
    "Exec",
    "Attach",
    "PortForward",
    "ContainerStats",
    "ListContainerStats",
    "PodSandboxStats",
    "ListPodSandboxStats",
    "UpdateRuntimeConfig",
    "Status",
    "CheckpointContainer",
    "ListMetricDescriptors",
    "ListPodSandboxMetrics",
    "RuntimeConfig",
    "UpdatePodSandboxResources",
)  # GetContainerEvents beside them: the one whose responses are a stream
IMAGE_METHODS = ("ListImages", "ImageStatus", "PullImage", "RemoveImage", "ImageFsInfo")


def message_class(name: str) -> Any:
    """The class of a message by its name in runtime.v1."""
    return _CLASSES[name]
