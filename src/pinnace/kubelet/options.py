"""What a kubelet is told: one dataclass, the fields of KubeletConfiguration that matter here plus the node's identity.

Defaults are those of kubelet.config.k8s.io/v1beta1
(https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/). Durations are in seconds, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pinnace.kubelet.eviction.thresholds import DEFAULT_HARD, Signal, parse_thresholds
from pinnace.kubelet.images.provider_config import Provider
from pinnace.kubelet.images.verification import PRELOADED
from pinnace.kubelet.pods import amount_of
from pinnace.kubelet.topology.cpu_sets import parse_cpus
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import Obj

_KEPT_FREE = {"ephemeral-storage": Signal.NODEFS_AVAILABLE, "memory": Signal.MEMORY_AVAILABLE}


@dataclass(slots=True, kw_only=True)
class KubeletOptions:
    """One node's settings; paths are absolute."""

    node_name: str
    node_ips: list[str]  # primary first; at most one of each family
    root_dir: Path  # /var/lib/kubelet: pods' volumes, hosts files
    pod_logs_dir: Path  # /var/log/pods
    hostname: str = ""  # the node's host name; node_name unless given
    manifest_dir: Path | None = None  # static pods
    manifest_url: str = ""  # more of them
    manifest_url_header: Mapping[str, Sequence[str]] = field(default_factory=dict)
    volume_plugin_dir: Path = Path("/usr/libexec/kubernetes/kubelet-plugins/volume/exec")  # drivers of flexVolumes
    volume_stats_period: float = 60.0  # seconds between looks at how full volumes of claims are; negative for none
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    kubernetes_version: str = "v1.37.0"  # what nodeInfo.kubeletVersion says

    # The pods' network
    cluster_dns: list[str] = field(default_factory=list)
    cluster_domain: str = "cluster.local"
    resolv_conf: Path = Path("/etc/resolv.conf")
    pod_cidr: str = ""  # used when the Node object carries none (a standalone kubelet)

    # The HTTPS server
    address: str = "0.0.0.0"
    port: int = 10250
    advertised_port: int = 0  # daemonEndpoints, where it is not the port listened on
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    client_ca_file: Path | None = None
    profiling: bool = True  # whether /debug/pprof/ is there
    debug_flags: bool = True  # whether /debug/flags/v is
    flags: Mapping[str, str] = field(default_factory=dict)  # as they were given or are by default, for /flagz
    rotate_certificates: bool = False
    server_tls_bootstrap: bool = False
    anonymous_auth: bool = False
    authentication_webhook: bool = False  # bearer tokens, by TokenReviews
    authentication_cache_ttl: float = 120.0
    authorization_mode: str = "AlwaysAllow"  # or Webhook: SubjectAccessReviews
    authorized_cache_ttl: float = 300.0
    unauthorized_cache_ttl: float = 30.0
    enable_server: bool = True
    enable_debugging_handlers: bool = True
    enable_system_log_handler: bool = True
    enable_system_log_query: bool = False  # whether services of the machine may be asked for their logs
    read_only_port: int = 0  # without TLS, for everybody: pods, figures, health; 0: no such server
    healthz_bind_address: str = "127.0.0.1"
    healthz_port: int = 0  # 0: no such server

    # The Node object
    register_node: bool = True
    node_labels: dict[str, str] = field(default_factory=dict)
    node_annotations: dict[str, str] = field(default_factory=dict)
    taints: list[Obj] = field(default_factory=list)
    unschedulable: bool = False
    provider_id: str = ""
    status_update_frequency: float = 10.0
    status_report_frequency: float = 300.0
    node_lease_duration: int = 40
    max_pods: int = 110
    pods_per_core: int = 0  # 0: no such limit
    node_status_max_images: int = 50  # that the Node names; -1: all
    fail_swap_on: bool = False
    kube_reserved: Mapping[str, str] = field(default_factory=dict)  # for Kubernetes' own daemons: cpu, memory, …
    system_reserved: Mapping[str, str] = field(default_factory=dict)  # for the system's
    enforce_node_allocatable: Sequence[str] = ("pods",)
    kube_reserved_cgroup: str = ""
    system_reserved_cgroup: str = ""
    capacity: dict[str, str] = field(default_factory=dict)  # overrides what the machine has: cpu, memory

    # Containers
    cgroup_root: str = ""  # a prefix of /kubepods, so that several nodes share one machine
    cgroup_driver: str = "cgroupfs"  # or systemd; what the runtime says wins
    container_runtime: str = "pinnace"  # the scheme of containerID; what the runtime says wins
    max_parallel_image_pulls: int = 5
    credential_providers: Sequence[Provider] = ()  # plugins that know credentials of registries
    credential_provider_dir: Path | None = None  # where their programs are
    image_verification_policy: str = PRELOADED  # which images need no proof that a pod may use them
    image_verification_allowlist: Sequence[str] = ()
    max_parallel_starts: int = 8  # pods whose containers are being started at the same time
    container_log_max_size: int = 10 * 1024 * 1024
    container_log_max_files: int = 5
    max_container_restart_period: float = 300.0
    max_dead_containers_per_container: int = 1  # beside the one that the status shows; below zero: any number
    max_dead_containers: int = -1  # on the node
    minimum_container_ttl: float = 0.0
    pods_pids_limit: int = 0
    cpu_cfs_quota: bool = True  # whether limits of CPU time are enforced
    seccomp_default: bool = False  # whether containers that ask for no profile get the runtime's own
    allowed_unsafe_sysctls: list[str] = field(default_factory=list)  # names, or patterns that end in `*`

    swap_behavior: str = "NoSwap"  # or LimitedSwap
    single_process_oom_kill: bool = False  # out of memory, a process ends and not all of its container
    memory_throttling_factor: float | None = None  # None: the version's default
    memory_reservation_policy: str = "None"  # or TieredReservation

    # CPUs, memory and devices that belong together
    cpu_manager_policy: str = "none"  # or static
    cpu_manager_policy_options: Mapping[str, str] = field(default_factory=dict)
    reserved_system_cpus: str = ""  # a cpuset, in place of as many as are reserved
    memory_manager_policy: str = "None"  # or Static
    reserved_memory: Sequence[Obj] = ()  # numaNode and limits
    topology_manager_policy: str = "none"
    topology_manager_policy_options: Mapping[str, str] = field(default_factory=dict)
    topology_manager_scope: str = "container"  # or pod

    # Where resources are short: signal -> amount, percentage or duration
    eviction_hard: Mapping[str, str] = field(default_factory=lambda: DEFAULT_HARD)
    eviction_soft: Mapping[str, str] = field(default_factory=dict)
    eviction_soft_grace_period: Mapping[str, str] = field(default_factory=dict)
    eviction_minimum_reclaim: Mapping[str, str] = field(default_factory=dict)
    eviction_max_pod_grace_period: int = 0
    eviction_pressure_transition_period: float = 300.0
    kernel_memcg_notification: bool = False
    image_gc_high_threshold_percent: int = 85
    image_gc_low_threshold_percent: int = 80
    image_minimum_gc_age: float = 120.0
    image_maximum_gc_age: float = 0.0

    # The node's end: seconds for pods to end in, and what of them is kept for critical ones; 0: none
    shutdown_grace_period: float = 0.0
    shutdown_grace_period_critical_pods: float = 0.0
    shutdown_grace_period_by_pod_priority: Sequence[tuple[int, int]] = ()  # (priority from which on, seconds)
    shutdown_on_sigterm: bool = False  # take SIGTERM for the node's end where no systemd-logind tells of it

    # Rhythms
    sync_frequency: float = 60.0  # a pod is looked at at least this often
    relist_period: float = 60.0  # the runtime is asked for everything at least this often
    file_check_frequency: float = 20.0
    http_check_frequency: float = 20.0
    housekeeping_period: float = 30.0
    log_check_period: float = 10.0

    def __post_init__(self) -> None:
        if not self.hostname:
            self.hostname = self.node_name

    @property
    def features(self) -> FeatureGates:
        """The gates of the kubelet's version as they are set."""
        return FeatureGates(self.minor, self.feature_gates)

    @property
    def minor(self) -> int:
        """Of the kubelet's version: 37."""
        return int(self.kubernetes_version.split(".")[1])

    def reserved(self, resource: str) -> int:
        """What of a resource pods do not get: millicores of cpu, units of anything else."""
        if resource == "cpu" and self.reserved_system_cpus:
            return 1000 * len(self.reserved_cpus())
        return sum(amount_of(resource, part.get(resource, "0")) for part in (self.kube_reserved, self.system_reserved))

    def reserved_cpus(self) -> frozenset[int]:
        """The CPUs that are named as the system's. Raises ValueError."""
        return parse_cpus(self.reserved_system_cpus)

    def kept_free(self, resource: str, capacity: int) -> int:
        """What evictions keep free at once of a resource that the node has so much of."""
        signal = _KEPT_FREE.get(resource)
        thresholds = parse_thresholds(self.eviction_hard, {}, {}, {}, enforce_pods=False) if signal else []
        return next((one.value.of(capacity) for one in thresholds if one.signal is signal), 0)

    @property
    def node_ip(self) -> str:
        """The primary address of the node."""
        return self.node_ips[0]

    @property
    def pods_dir(self) -> Path:
        """Where every pod has a directory of its UID."""
        return self.root_dir / "pods"
