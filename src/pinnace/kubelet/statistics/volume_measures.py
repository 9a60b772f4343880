"""What a kubelet counts of its work with volumes: how long they take to be ready and to go, and calls of CSI drivers.

Names, labels and bounds are Kubernetes' (https://kubernetes.io/docs/reference/instrumentation/metrics/).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pinnace.machinery.meta import Obj
from pinnace.machinery.metrics import Family, Gauge, Histogram

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15, 25, 50, 120, 300, 600)
_PLUGINS = {
    "configMap": "kubernetes.io/configmap",
    "downwardAPI": "kubernetes.io/downward-api",
    "emptyDir": "kubernetes.io/empty-dir",
    "fc": "kubernetes.io/fc",
    "hostPath": "kubernetes.io/host-path",
    "iscsi": "kubernetes.io/iscsi",
    "local": "kubernetes.io/local-volume",
    "nfs": "kubernetes.io/nfs",
    "projected": "kubernetes.io/projected",
    "secret": "kubernetes.io/secret",
}
_NOT_KNOWN = "<n/a>"

operations = Histogram(
    "storage_operation_duration_seconds",
    "Storage operation duration",
    ("migrated", "operation_name", "status", "volume_plugin"),
    _SECONDS,
)
driver_calls = Histogram(
    "csi_operations_seconds",
    "Container Storage Interface operation duration with gRPC error code status total",
    ("driver_name", "grpc_status_code", "method_name", "migrated"),
    _SECONDS,
)
stats_seconds = Histogram(
    "kubelet_volume_metric_collection_duration_seconds",
    "Duration in seconds to calculate volume stats",
    ("metric_source",),
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
orphans_cleaned = Gauge(
    "kubelet_orphan_pod_cleaned_volumes",
    "The total number of orphaned Pods whose volumes were cleaned in the last periodic sweep.",
)
orphans_left = Gauge(
    "kubelet_orphan_pod_cleaned_volumes_errors",
    "The number of orphaned Pods whose volumes failed to be cleaned in the last periodic sweep.",
)


def families() -> list[Family]:
    """All of this module."""
    return [operations, driver_calls, stats_seconds, orphans_cleaned, orphans_left]


def plugin_of(source: Obj) -> str:
    """What makes a volume ready, by a pod's volume or the spec of a persistent one; empty where that is not told."""
    if source.get("csi"):
        return f"kubernetes.io/csi:{source['csi'].get('driver', '')}"
    if source.get("flexVolume"):
        return str(source["flexVolume"].get("driver", ""))
    return next((name for kind, name in _PLUGINS.items() if source.get(kind) is not None), "")


@contextmanager
def operation(name: str, volume: str, plugins: Mapping[str, str]) -> Iterator[None]:
    """Observe how long something with a volume takes; its plugin may be known only when it is done."""
    began, status = time.perf_counter(), "fail-unknown"
    try:
        yield
        status = "success"
    finally:
        plugin = plugins.get(volume) or _NOT_KNOWN
        operations.observe(time.perf_counter() - began, "false", name, status, plugin)


def called(driver: str, method: str, code: str, seconds: float) -> None:
    """A driver has answered: `code` is gRPC's, as NOT_FOUND is written."""
    words = "OK" if code == "OK" else "".join(part.capitalize() for part in code.split("_"))
    driver_calls.observe(seconds, driver, words, f"/csi.v1.Node/{method}", "false")
