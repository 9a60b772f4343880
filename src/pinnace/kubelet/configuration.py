"""Reads a KubeletConfiguration: its fields as `KubeletOptions` has them, and which of them nothing here heeds.

Pure. Fields are specified by https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pinnace.machinery.duration import parse_duration
from pinnace.machinery.meta import Obj
from pinnace.machinery.quantity import Quantity

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
    ignored: list[str] = []
    for path, value in _leaves(document):
        if path in ("apiVersion", "kind") or value is None:
            continue
        if path not in _FIELDS:
            ignored.append(path)
            continue
        name, convert = _FIELDS[path]
        try:
            found[name] = convert(value)
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{path}: {error}") from None
    _finish(found)
    return found, ignored


def _leaves(document: Obj, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every field with its path; what is in a known field, or in none, is not looked into."""
    for name, value in document.items():
        path = f"{above}{name}"
        if isinstance(value, dict) and path not in _FIELDS and path in _OUTER:
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _finish(found: dict[str, Any]) -> None:
    """What two fields say together."""
    reserved: dict[str, Quantity] = {}
    for part in (found.pop("kube_reserved", {}), found.pop("system_reserved", {})):
        for resource, amount in part.items():
            reserved[resource] = reserved[resource] + amount if resource in reserved else amount
    if reserved:
        found["reserved"] = {resource: str(amount) for resource, amount in reserved.items()}
    if found.pop("serialize_image_pulls", False):
        found.setdefault("max_parallel_image_pulls", 1)


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


def _amounts(value: Any) -> dict[str, Quantity]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not a map")
    return {name: Quantity.parse(amount) for name, amount in value.items()}


def _taint(value: Any) -> Obj:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not a taint")
    return value


_FIELDS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "address": ("address", _text),
    "allowedUnsafeSysctls": ("allowed_unsafe_sysctls", _list(_text)),
    "authentication.x509.clientCAFile": ("client_ca_file", _path),
    "cgroupDriver": ("cgroup_driver", _cgroup_driver),
    "cgroupRoot": ("cgroup_root", _text),
    "clusterDNS": ("cluster_dns", _list(_text)),
    "clusterDomain": ("cluster_domain", _text),
    "containerLogMaxFiles": ("container_log_max_files", _integer),
    "containerLogMaxSize": ("container_log_max_size", _bytes),
    "containerRuntimeEndpoint": ("container_runtime_endpoint", _text),
    "crashLoopBackOff.maxContainerRestartPeriod": ("max_container_restart_period", _seconds),
    "featureGates": ("feature_gates", _switches),
    "fileCheckFrequency": ("file_check_frequency", _seconds),
    "imageServiceEndpoint": ("image_service_endpoint", _text),
    "kubeReserved": ("kube_reserved", _amounts),
    "maxParallelImagePulls": ("max_parallel_image_pulls", _integer),
    "maxPods": ("max_pods", _integer),
    "nodeLeaseDurationSeconds": ("node_lease_duration", _integer),
    "nodeStatusReportFrequency": ("status_report_frequency", _seconds),
    "nodeStatusUpdateFrequency": ("status_update_frequency", _seconds),
    "podCIDR": ("pod_cidr", _text),
    "podLogsDir": ("pod_logs_dir", _path),
    "podPidsLimit": ("pods_pids_limit", _pids),
    "port": ("port", _integer),
    "providerID": ("provider_id", _text),
    "registerNode": ("register_node", _boolean),
    "registerWithTaints": ("taints", _list(_taint)),
    "resolvConf": ("resolv_conf", _path),
    "runtimeRequestTimeout": ("runtime_request_timeout", _seconds),
    "serializeImagePulls": ("serialize_image_pulls", _boolean),
    "staticPodPath": ("manifest_dir", _path),
    "syncFrequency": ("sync_frequency", _seconds),
    "systemReserved": ("system_reserved", _amounts),
    "tlsCertFile": ("tls_cert_file", _path),
    "tlsPrivateKeyFile": ("tls_key_file", _path),
}
_OUTER = {path.rsplit(".", depth)[0] for path in _FIELDS for depth in range(1, path.count(".") + 1)} | {
    "authentication.anonymous",
    "authentication.webhook",
    "authorization",
}
HEEDED = tuple(_FIELDS)
