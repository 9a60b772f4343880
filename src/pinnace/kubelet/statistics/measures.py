"""What a kubelet counts of its own work: pods and containers started, calls to the runtime, relists, requests.

Names, labels and bounds are Kubernetes' (https://kubernetes.io/docs/reference/instrumentation/metrics/). To count costs
a look-up in a dictionary; `node_metrics` adds what is looked up when somebody asks.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, TypeVar, cast

from pinnace.machinery.metrics import Counter, Family, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_RUNTIME_SECONDS = tuple(round(0.005 * 2.5**power, 12) for power in range(14))
_START_SECONDS = (
    *(0.5, 1, 2, 3, 4, 5, 6, 8, 10, 20, 30, 45, 60, 120, 180, 240, 300, 360, 480, 600),
    *(900, 1200, 1800, 2700, 3600),
)
_PULL_SECONDS = (1, 5, 10, 20, 30, 60, 180, 300, 600, 900, 1200, 1800, 2700, 3600)
_ADMISSION_MILLISECONDS = tuple(round(0.05 * 2**power, 12) for power in range(15))

# Pods.

pod_start = Histogram(
    "kubelet_pod_start_duration_seconds",
    "Duration in seconds from kubelet seeing a pod for the first time to the pod starting to run",
    (),
    _START_SECONDS,
)
pod_start_sli = Histogram(
    "kubelet_pod_start_sli_duration_seconds",
    "Duration in seconds to start a pod, excluding time to pull images and run init containers, measured from pod "
    "creation timestamp to when all its containers are reported as started and observed via watch",
    (),
    _START_SECONDS,
)
pod_start_total = Histogram(
    "kubelet_pod_start_total_duration_seconds",
    "Duration in seconds to start a pod since creation, including time to pull images and run init containers, "
    "measured from pod creation timestamp to when all its containers are reported as started and observed via watch",
    (),
    _START_SECONDS,
)
pod_worker = Histogram(
    "kubelet_pod_worker_duration_seconds",
    "Duration in seconds to sync a single pod. Broken down by operation type: create, update, or sync",
    ("operation_type",),
    _SECONDS,
)
pod_worker_start = Histogram(
    "kubelet_pod_worker_start_duration_seconds",
    "Duration in seconds from kubelet seeing a pod to starting a worker.",
    (),
    _SECONDS,
)
status_sync = Histogram(
    "kubelet_pod_status_sync_duration_seconds",
    "Duration in seconds to sync a pod status update. Measures time from detection of a change to pod status until the "
    "API is successfully updated for that pod, even if multiple intevening changes to pod status occur.",
    (),
    (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 20, 30, 45, 60),
)
started_pods = Counter("kubelet_started_pods_total", "Cumulative number of pods started")
started_pods_errors = Counter("kubelet_started_pods_errors_total", "Cumulative number of errors when starting pods")
started_user_namespaces = Counter(
    "kubelet_started_user_namespaced_pods_total",
    "Cumulative number of pods with user namespaces started. This metric will only be collected on Linux.",
)
started_user_namespaces_errors = Counter(
    "kubelet_started_user_namespaced_pods_errors_total",
    "Cumulative number of errors when starting pods with user namespaces. This metric will only be collected on Linux.",
)
image_volumes = Counter("kubelet_image_volume_requested_total", "Number of requested image volumes.")
image_volumes_mounted = Counter(
    "kubelet_image_volume_mounted_succeed_total", "Number of successful image volume mounts."
)
image_volumes_failed = Counter("kubelet_image_volume_mounted_errors_total", "Number of failed image volume mounts.")
sleeps_cut_short = Counter(
    "kubelet_sleep_action_terminated_early_total",
    "The number of times lifecycle sleep handler got terminated before it finishes",
)
started_containers = Counter(
    "kubelet_started_containers_total", "Cumulative number of containers started", ("container_type",)
)
started_containers_errors = Counter(
    "kubelet_started_containers_errors_total",
    "Cumulative number of errors when starting containers",
    ("code", "container_type"),
)
rejections = Counter(
    "kubelet_admission_rejections_total", "Cumulative number pod admission rejections by the Kubelet.", ("reason",)
)
orphans = Counter(
    "kubelet_orphaned_runtime_pods_total",
    "Number of pods that have been detected in the container runtime without being already known to the pod worker. "
    "This typically indicates the kubelet was restarted while a pod was force deleted in the API or in the local "
    "configuration, which is unusual.",
)

# The runtime and images.

runtime_operations = Counter(
    "kubelet_runtime_operations_total",
    "Cumulative number of runtime operations by operation type.",
    ("operation_type",),
)
runtime_seconds = Histogram(
    "kubelet_runtime_operations_duration_seconds",
    "Duration in seconds of runtime operations. Broken down by operation type.",
    ("operation_type",),
    _RUNTIME_SECONDS,
)
runtime_errors = Counter(
    "kubelet_runtime_operations_errors_total",
    "Cumulative number of runtime operation errors by operation type.",
    ("operation_type",),
)
relist_seconds = Histogram(
    "kubelet_pleg_relist_duration_seconds", "Duration in seconds for relisting pods in PLEG.", (), _SECONDS
)
relist_interval = Histogram(
    "kubelet_pleg_relist_interval_seconds", "Interval in seconds between relisting in PLEG.", (), _SECONDS
)
relist_seen = Gauge("kubelet_pleg_last_seen_seconds", "Timestamp in seconds when PLEG was last seen active.")
event_connections = Counter(
    "kubelet_evented_pleg_connection_success_count",
    "The number of times a streaming client was obtained to receive CRI Events.",
)
event_connection_errors = Counter(
    "kubelet_evented_pleg_connection_error_count",
    "The number of errors encountered during the establishment of streaming connection with the CRI runtime.",
)
event_latency = Histogram(
    "kubelet_evented_pleg_connection_latency_seconds",
    "The latency of streaming connection with the CRI runtime, measured in seconds.",
    (),
    _SECONDS,
)
relist_discarded = Counter("kubelet_pleg_discard_events", "The number of discard events in PLEG.")
sandbox_seconds = Histogram(
    "kubelet_run_podsandbox_duration_seconds",
    "Duration in seconds of the run_podsandbox operations. Broken down by RuntimeClass.Handler.",
    ("runtime_handler",),
    _SECONDS,
)
sandbox_errors = Counter(
    "kubelet_run_podsandbox_errors_total",
    "Cumulative number of the run_podsandbox operation errors by RuntimeClass.Handler.",
    ("runtime_handler",),
)
image_pulls = Histogram(
    "kubelet_image_pull_duration_seconds",
    "Duration in seconds to pull an image.",
    ("image_size_in_bytes",),
    _PULL_SECONDS,
)
images_removed = Counter(
    "kubelet_image_garbage_collected_total",
    "Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
    ("reason",),
)

# The node.

cgroup_seconds = Histogram(
    "kubelet_cgroup_manager_duration_seconds",
    "Duration in seconds for cgroup manager operations. Broken down by method.",
    ("operation_type",),
    _SECONDS,
)
topology_requests = Counter(
    "kubelet_topology_manager_admission_requests_total",
    "The number of admission requests where resources have to be aligned.",
)
topology_errors = Counter(
    "kubelet_topology_manager_admission_errors_total",
    "The number of admission request failures where resources could not be aligned.",
)
topology_milliseconds = Histogram(
    "kubelet_topology_manager_admission_duration_ms",
    "Duration in milliseconds to serve a pod admission request.",
    (),
    _ADMISSION_MILLISECONDS,
)
cpu_pinnings = Counter(
    "kubelet_cpu_manager_pinning_requests_total", "The number of cpu core allocations which required pinning."
)
cpu_pinning_errors = Counter(
    "kubelet_cpu_manager_pinning_errors_total", "The number of cpu core allocations which required pinning failed."
)
memory_pinnings = Counter(
    "kubelet_memory_manager_pinning_requests_total",
    "The number of memory pages allocations which required pinning.",
)
memory_pinning_errors = Counter(
    "kubelet_memory_manager_pinning_errors_total",
    "The number of memory pages allocations which required pinning that failed.",
)
startup = {
    name: Gauge(f"kubelet_node_startup_{name}duration_seconds", f"Duration in seconds of node startup {words}.")
    for name, words in (
        ("", "in total"),
        ("pre_kubelet_", "before kubelet starts"),
        ("pre_registration_", "before registration"),
        ("registration_", "during registration"),
        ("post_registration_", "after registration"),
    )
}
client_renewal_errors = Counter(
    "kubelet_certificate_manager_client_expiration_renew_errors", "Counter of certificate renewal errors."
)
server_renewal_errors = Counter("kubelet_server_expiration_renew_errors", "Counter of certificate renewal errors.")

device_registrations = Counter(
    "kubelet_device_plugin_registration_total",
    "Cumulative number of device plugin registrations. Broken down by resource name.",
    ("resource_name",),
)
device_allocations = Histogram(
    "kubelet_device_plugin_alloc_duration_seconds",
    "Duration in seconds to serve a device plugin Allocation request. Broken down by resource name.",
    ("resource_name",),
    _SECONDS,
)
_ENDPOINTS = (("list", "List"), ("get", "Get"), ("get_allocatable", "GetAllocatableResources"))
_SERVED = "Broken down by server api version."
pod_resources_requests = Counter(
    "kubelet_pod_resources_endpoint_requests_total",
    f"Cumulative number of requests to the PodResource endpoint. {_SERVED}",
    ("server_api_version",),
)
pod_resources = {
    method: Counter(
        f"kubelet_pod_resources_endpoint_requests_{name}",
        f"Number of requests to the PodResource {method} endpoint. {_SERVED}",
        ("server_api_version",),
    )
    for name, method in _ENDPOINTS
}
pod_resources_errors = {
    method: Counter(
        f"kubelet_pod_resources_endpoint_errors_{name}",
        f"Number of requests to the PodResource {method} endpoint which returned error. {_SERVED}",
        ("server_api_version",),
    )
    for name, method in _ENDPOINTS
}
shutdown_began = Gauge(
    "kubelet_graceful_shutdown_start_time_seconds",
    "Last graceful shutdown start time since unix epoch in seconds",
)
shutdown_ended = Gauge(
    "kubelet_graceful_shutdown_end_time_seconds", "Last graceful shutdown end time since unix epoch in seconds"
)

# The server.

_REQUEST = ("long_running", "method", "path", "server_type")
requests = Counter(
    "kubelet_http_requests_total", "Number of the http requests received since the server started", _REQUEST
)
request_seconds = Histogram(
    "kubelet_http_requests_duration_seconds", "Duration in seconds to serve http requests", _REQUEST, _SECONDS
)
inflight_requests = Gauge("kubelet_http_inflight_requests", "Number of the inflight http requests", _REQUEST)

_IMAGE_SIZES = (
    (10, "0-10MB"),
    (100, "10MB-100MB"),
    (500, "100MB-500MB"),
    (1000, "500MB-1GB"),
    (5000, "1GB-5GB"),
    (10_000, "5GB-10GB"),
    (20_000, "10GB-20GB"),
    (30_000, "20GB-30GB"),
    (40_000, "30GB-40GB"),
    (60_000, "40GB-60GB"),
    (100_000, "60GB-100GB"),
)


def families() -> list[Family]:
    """All of this module."""
    tables: tuple[Mapping[str, Family], ...] = (startup, pod_resources, pod_resources_errors)
    own = [one for one in globals().values() if isinstance(one, Family)]
    return [*own, *(one for table in tables for one in table.values())]


def image_size(size: int) -> str:
    """How large an image is, roughly; bytes."""
    return next((name for most, name in _IMAGE_SIZES if size <= most << 20), "GT100GB")


@contextmanager
def taking(family: Histogram, *labels: str) -> Iterator[None]:
    """Observe how long something takes."""
    began = time.perf_counter()
    try:
        yield
    finally:
        family.observe(time.perf_counter() - began, *labels)


@contextmanager
def taking_milliseconds(family: Histogram, *labels: str) -> Iterator[None]:
    """The same in milliseconds."""
    began = time.perf_counter()
    try:
        yield
    finally:
        family.observe((time.perf_counter() - began) * 1000, *labels)


_T = TypeVar("_T")
_Call = Callable[..., Awaitable[Any]]

# What Kubernetes calls the calls of the CRI, where it is not as they are named here.
_OPERATIONS = {
    "run_pod_sandbox": "run_podsandbox",
    "stop_pod_sandbox": "stop_podsandbox",
    "remove_pod_sandbox": "remove_podsandbox",
    "pod_sandbox_status": "podsandbox_status",
    "list_pod_sandbox": "list_podsandbox",
    "list_pod_sandbox_stats": "list_podsandbox_stats",
    "update_pod_sandbox_resources": "update_podsandbox_resources",
    "update_container_resources": "update_container",
}


def measured_runtime(service: _T) -> _T:
    """The same service of the CRI, every call of which is counted and timed."""
    return cast("_T", _Measured(service, _timed_call))


def measured_cgroups(manager: _T) -> _T:
    """The same manager of cgroups, whose changes are timed."""
    return cast("_T", _Measured(manager, _timed_change))


class _Measured:
    """Stands for another object; `wrap(name, method)` is what is called in place of its methods."""

    def __init__(self, inner: object, wrap: Callable[[str, Callable[..., Any]], Callable[..., Any] | None]) -> None:
        self._inner = inner
        self._wrap = wrap

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        wrapped = self._wrap(name, found) if callable(found) else None
        if wrapped is None:
            return found
        self.__dict__[name] = wrapped  # the next look-up finds it at once
        return wrapped


def _timed_call(name: str, method: Callable[..., Any]) -> _Call | None:
    if not iscoroutinefunction(method):
        return None
    operation = _OPERATIONS.get(name, name)

    @wraps(method)
    async def call(*args: Any, **more: Any) -> Any:
        runtime_operations.inc(operation)
        began = time.perf_counter()
        try:
            return await method(*args, **more)
        except Exception:
            runtime_errors.inc(operation)
            raise
        finally:
            runtime_seconds.observe(time.perf_counter() - began, operation)

    return call


_CHANGES: Mapping[str, str] = {"create": "create", "limit": "update", "remove_if_empty": "destroy"}


def _timed_change(name: str, method: Callable[..., Any]) -> Callable[..., Any] | None:
    operation = _CHANGES.get(name)
    if operation is None:
        return None

    @wraps(method)
    def change(*args: Any, **more: Any) -> Any:
        with taking(cgroup_seconds, operation):
            return method(*args, **more)

    return change
