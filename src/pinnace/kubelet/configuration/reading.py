"""Reads a KubeletConfiguration: its fields as `KubeletOptions` has them, and which of them nothing here heeds.

Pure. `configuration_shape` knows every field, `configuration_rules` what values may be. Fields are specified by https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pinnace.kubelet.configuration.rules import validate
from pinnace.kubelet.configuration.shape import SHAPE
from pinnace.kubelet.eviction.thresholds import DEFAULT_HARD
from pinnace.kubelet.resources.swap import BEHAVIORS, NO_SWAP
from pinnace.machinery import merge_patch
from pinnace.machinery.configuration import ConfigurationError as ShapeError
from pinnace.machinery.configuration import check_shape
from pinnace.machinery.duration import parse_duration
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity

_STRICT = "strict decoding error: "
_API_VERSION, _KIND = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"


class ConfigurationError(Exception):
    """The document is no KubeletConfiguration; the message names the field."""


def read(document: Any) -> tuple[dict[str, Any], list[str]]:
    """Values by the names of `KubeletOptions`' fields (and those that say which runtime), and the fields not heeded.

    Raises ConfigurationError.
    """
    if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (_API_VERSION, _KIND):
        raise ConfigurationError(f"is not a {_KIND} of {_API_VERSION}")
    found: dict[str, Any] = {}
    ignored = _unknown(document)
    wrong = validate(document)
    if wrong:
        text = wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]"
        raise ConfigurationError(f"failed to validate kubelet configuration, error: {text}")
    for path, value in _leaves(document):
        if path in ("apiVersion", "kind") or value is None:
            continue
        if path not in FIELDS:
            if path not in ignored:
                ignored.append(path)
            continue
        name, convert = FIELDS[path]
        try:
            found[name] = convert(value)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{path}: {error}") from None
    _finish(found)
    return found, ignored


def merge_drop_ins(document: Obj, drop_ins: Iterable[tuple[str, Any]]) -> Obj:
    """The configuration with those of a drop-in directory laid over it, given as (file name, document) in their order.

    Maps are merged, lists are replaced. Raises ConfigurationError.
    """
    merged: Obj = document or {"apiVersion": _API_VERSION, "kind": _KIND}
    for name, drop_in in drop_ins:
        if not isinstance(drop_in, dict) or (drop_in.get("apiVersion"), drop_in.get("kind")) != (_API_VERSION, _KIND):
            raise ConfigurationError(f"{name}: is not a {_KIND} of {_API_VERSION}")
        merged = merge_patch.apply(merged, drop_in)
    return merged


def _unknown(document: Obj) -> list[str]:
    """Fields that there are not, which a kubelet warns of. Raises ConfigurationError for a value of another type."""
    try:
        check_shape(document, SHAPE)
    except ShapeError as error:
        if not str(error).startswith(_STRICT):
            raise ConfigurationError(f"failed to decode: {error}") from None
        return [
            part.removeprefix('unknown field "').removesuffix('"') for part in str(error)[len(_STRICT) :].split(", ")
        ]
    return []


def _leaves(document: Obj, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every field with its path; what is in a known field, or in none, is not looked into."""
    for name, value in document.items():
        path = f"{above}{name}"
        if isinstance(value, dict) and path not in FIELDS and path in _OUTER:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _finish(found: dict[str, Any]) -> None:
    """What two fields say together."""
    if found.pop("serialize_image_pulls", False):
        found.setdefault("max_parallel_image_pulls", 1)
    if found.pop("merge_default_eviction", False):
        found["eviction_hard"] = {**DEFAULT_HARD, **found.get("eviction_hard", {})}
    url_header = found.get("manifest_url_header")
    if url_header:
        found["manifest_url_header"] = {name: values for name, values in url_header.items() if values}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value


def _path(value: Any) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError(f'"{value}" is not an absolute path')
    return path


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is not true or false")
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _pids(value: Any) -> int:
    return max(_integer(value), 0)  # -1 is no limit there, 0 is none here


def _seconds(value: Any) -> float:
    return parse_duration(_text(value))


def _bytes(value: Any) -> int:
    return Quantity.parse(value).value()


def _cgroup_driver(value: Any) -> str:
    if value not in ("cgroupfs", "systemd"):
        raise ValueError(f"{value!r} is neither cgroupfs nor systemd")
    return str(value)


def _list(convert: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def read_list(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise TypeError(f"{value!r} is not a list")
        return [convert(one) for one in value]

    return read_list


def _switches(value: Any) -> dict[str, bool]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not a map")
    return {name: _boolean(on) for name, on in value.items()}


def _amounts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not a map")
    return {name: str(Quantity.parse(amount)) for name, amount in value.items()}


def _texts(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not a map")
    return {name: _text(one) for name, one in value.items()}


def _headers(value: Any) -> dict[str, list[str]]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not a map")
    return {name: _list(_text)(values) for name, values in value.items()}


def _priority_grace(value: Any) -> tuple[int, int]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not a priority with its time")
    return _integer(value.get("priority", 0)), _integer(value.get("shutdownGracePeriodSeconds", 0))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _swap_behavior(value: Any) -> str:
    if value not in ("", *BEHAVIORS):
        raise ValueError(f'memorySwap.swapBehavior "{value}" must be one of: "", "LimitedSwap" or "NoSwap"')
    return value or NO_SWAP


def _object(value: Any) -> Obj:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not an object")
    return value


def _taint(value: Any) -> Obj:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not a taint")
    return value


FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "address": ("address", _text),
    "allowedUnsafeSysctls": ("allowed_unsafe_sysctls", _list(_text)),
    "authentication.anonymous.enabled": ("anonymous_auth", _boolean),
    "authentication.webhook.cacheTTL": ("authentication_cache_ttl", _seconds),
    "authentication.webhook.enabled": ("authentication_webhook", _boolean),
    "authentication.x509.clientCAFile": ("client_ca_file", _path),
    "authorization.mode": ("authorization_mode", _text),
    "authorization.webhook.cacheAuthorizedTTL": ("authorized_cache_ttl", _seconds),
    "authorization.webhook.cacheUnauthorizedTTL": ("unauthorized_cache_ttl", _seconds),
    "cgroupDriver": ("cgroup_driver", _cgroup_driver),
    "cgroupRoot": ("cgroup_root", _text),
    "clusterDNS": ("cluster_dns", _list(_text)),
    "clusterDomain": ("cluster_domain", _text),
    "containerLogMaxFiles": ("container_log_max_files", _integer),
    "containerLogMaxSize": ("container_log_max_size", _bytes),
    "containerRuntimeEndpoint": ("container_runtime_endpoint", _text),
    "cpuCFSQuota": ("cpu_cfs_quota", _boolean),
    "cpuManagerPolicy": ("cpu_manager_policy", _text),
    "cpuManagerPolicyOptions": ("cpu_manager_policy_options", _texts),
    "crashLoopBackOff.maxContainerRestartPeriod": ("max_container_restart_period", _seconds),
    "enableDebugFlagsHandler": ("debug_flags", _boolean),
    "enableDebuggingHandlers": ("enable_debugging_handlers", _boolean),
    "enableProfilingHandler": ("profiling", _boolean),
    "enableServer": ("enable_server", _boolean),
    "enableSystemLogHandler": ("enable_system_log_handler", _boolean),
    "enableSystemLogQuery": ("enable_system_log_query", _boolean),
    "enforceNodeAllocatable": ("enforce_node_allocatable", _list(_text)),
    "evictionHard": ("eviction_hard", _texts),
    "evictionMaxPodGracePeriod": ("eviction_max_pod_grace_period", _integer),
    "evictionMinimumReclaim": ("eviction_minimum_reclaim", _texts),
    "evictionPressureTransitionPeriod": ("eviction_pressure_transition_period", _seconds),
    "evictionSoft": ("eviction_soft", _texts),
    "evictionSoftGracePeriod": ("eviction_soft_grace_period", _texts),
    "failSwapOn": ("fail_swap_on", _boolean),
    "featureGates": ("feature_gates", _switches),
    "fileCheckFrequency": ("file_check_frequency", _seconds),
    "healthzBindAddress": ("healthz_bind_address", _text),
    "healthzPort": ("healthz_port", _integer),
    "httpCheckFrequency": ("http_check_frequency", _seconds),
    "imageGCHighThresholdPercent": ("image_gc_high_threshold_percent", _integer),
    "imageGCLowThresholdPercent": ("image_gc_low_threshold_percent", _integer),
    "imageMaximumGCAge": ("image_maximum_gc_age", _seconds),
    "imageMinimumGCAge": ("image_minimum_gc_age", _seconds),
    "imagePullCredentialsVerificationPolicy": ("image_verification_policy", _text),
    "imageServiceEndpoint": ("image_service_endpoint", _text),
    "kernelMemcgNotification": ("kernel_memcg_notification", _boolean),
    "kubeReserved": ("kube_reserved", _amounts),
    "kubeReservedCgroup": ("kube_reserved_cgroup", _text),
    "maxParallelImagePulls": ("max_parallel_image_pulls", _integer),
    "maxPods": ("max_pods", _integer),
    "mergeDefaultEvictionSettings": ("merge_default_eviction", _boolean),
    "memoryManagerPolicy": ("memory_manager_policy", _text),
    "memoryReservationPolicy": ("memory_reservation_policy", _text),
    "memoryThrottlingFactor": ("memory_throttling_factor", _number),
    "memorySwap.swapBehavior": ("swap_behavior", _swap_behavior),
    "nodeLeaseDurationSeconds": ("node_lease_duration", _integer),
    "nodeStatusMaxImages": ("node_status_max_images", _integer),
    "nodeStatusReportFrequency": ("status_report_frequency", _seconds),
    "nodeStatusUpdateFrequency": ("status_update_frequency", _seconds),
    "preloadedImagesVerificationAllowlist": ("image_verification_allowlist", _list(_text)),
    "podCIDR": ("pod_cidr", _text),
    "podLogsDir": ("pod_logs_dir", _path),
    "podPidsLimit": ("pods_pids_limit", _pids),
    "podsPerCore": ("pods_per_core", _integer),
    "port": ("port", _integer),
    "providerID": ("provider_id", _text),
    "readOnlyPort": ("read_only_port", _integer),
    "registerNode": ("register_node", _boolean),
    "registerWithTaints": ("taints", _list(_taint)),
    "reservedMemory": ("reserved_memory", _list(_object)),
    "reservedSystemCPUs": ("reserved_system_cpus", _text),
    "resolvConf": ("resolv_conf", _path),
    "rotateCertificates": ("rotate_certificates", _boolean),
    "runtimeRequestTimeout": ("runtime_request_timeout", _seconds),
    "seccompDefault": ("seccomp_default", _boolean),
    "serializeImagePulls": ("serialize_image_pulls", _boolean),
    "serverTLSBootstrap": ("server_tls_bootstrap", _boolean),
    "shutdownGracePeriod": ("shutdown_grace_period", _seconds),
    "shutdownGracePeriodByPodPriority": ("shutdown_grace_period_by_pod_priority", _list(_priority_grace)),
    "shutdownGracePeriodCriticalPods": ("shutdown_grace_period_critical_pods", _seconds),
    "singleProcessOOMKill": ("single_process_oom_kill", _boolean),
    "staticPodPath": ("manifest_dir", _path),
    "staticPodURL": ("manifest_url", _text),
    "staticPodURLHeader": ("manifest_url_header", _headers),
    "syncFrequency": ("sync_frequency", _seconds),
    "systemReserved": ("system_reserved", _amounts),
    "systemReservedCgroup": ("system_reserved_cgroup", _text),
    "tlsCertFile": ("tls_cert_file", _path),
    "topologyManagerPolicy": ("topology_manager_policy", _text),
    "topologyManagerPolicyOptions": ("topology_manager_policy_options", _texts),
    "topologyManagerScope": ("topology_manager_scope", _text),
    "volumePluginDir": ("volume_plugin_dir", _path),
    "volumeStatsAggPeriod": ("volume_stats_period", _seconds),
    "tlsPrivateKeyFile": ("tls_key_file", _path),
}
_OUTER = {path for path, shape in SHAPE.items() if isinstance(shape, dict)} | {
    f"authentication.{name}" for name in SHAPE["authentication"]
}
_OUTER.add("authorization.webhook")
HEEDED = tuple(FIELDS)
