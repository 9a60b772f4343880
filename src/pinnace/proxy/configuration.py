"""Reads a KubeProxyConfiguration: what kube-proxy is told by a file instead of flags, as kubeadm's cluster does it.

Pure. Fields are specified by https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinnace.machinery.configuration import parse_configuration
from pinnace.machinery.meta import Obj

API_VERSION, KIND = "kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"

_SHAPE: Mapping[str, Any] = {
    "bindAddress": str,
    "bindAddressHardFail": bool,
    "clientConnection": {"kubeconfig": str, "acceptContentTypes": str, "contentType": str, "qps": Any, "burst": int},
    "clusterCIDR": str,
    "configSyncPeriod": str,
    "conntrack": {
        "maxPerCore": int, "min": int, "tcpBeLiberal": bool, "tcpCloseWaitTimeout": str, "tcpEstablishedTimeout": str,
        "udpStreamTimeout": str, "udpTimeout": str,
    },
    "detectLocal": {"bridgeInterface": str, "interfaceNamePrefix": str, "clusterCIDRs": [str]},
    "detectLocalMode": str,
    "enableProfiling": bool,
    "featureGates": Any,
    "healthzBindAddress": str,
    "hostnameOverride": str,
    "iptables": {
        "localhostNodePorts": bool, "masqueradeAll": bool, "masqueradeBit": int, "minSyncPeriod": str,
        "syncPeriod": str,
    },
    "ipvs": {
        "excludeCIDRs": [str], "minSyncPeriod": str, "scheduler": str, "strictARP": bool, "syncPeriod": str,
        "tcpFinTimeout": str, "tcpTimeout": str, "udpTimeout": str,
    },
    "logging": Any,
    "metricsBindAddress": str,
    "mode": str,
    "nftables": {"masqueradeAll": bool, "masqueradeBit": int, "minSyncPeriod": str, "syncPeriod": str},
    "nodePortAddresses": [str],
    "oomScoreAdj": int,
    "portRange": str,
    "showHiddenMetricsForVersion": str,
    "udpIdleTimeout": str,
    "winkernel": Any,
    "windowsRunAsService": bool,
}  # fmt: skip
_FLAGS = {  # fields, and the flags that they stand for
    "clientConnection.kubeconfig": "kubeconfig",
    "clusterCIDR": "cluster_cidr",
    "detectLocal.bridgeInterface": "pod_bridge_interface",
    "enableProfiling": "profiling",
    "healthzBindAddress": "healthz_bind_address",
    "hostnameOverride": "hostname_override",
    "metricsBindAddress": "metrics_bind_address",
    "mode": "proxy_mode",
    "nodePortAddresses": "nodeport_addresses",
}


def read_configuration(text: str) -> tuple[dict[str, Any], dict[str, bool]]:
    """Values by the names of flags, as they would be written there, and feature gates. An empty text says nothing.

    Raises ConfigurationError.
    """
    document = parse_configuration(text, {(API_VERSION, KIND): _SHAPE})
    found = {}
    for path, flag in _FLAGS.items():
        value = _at(document, path)
        if value not in (None, "", []):
            found[flag] = ",".join(value) if isinstance(value, list) else value
    return found, document.get("featureGates") or {}


def _at(document: Obj, path: str) -> Any:
    value: Any = document
    for name in path.split("."):
        value = (value or {}).get(name)
    return value
