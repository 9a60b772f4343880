"""Which certificates a cluster has: who signs what, for whom, under which names.

The list is kubeadm's (https://kubernetes.io/docs/setup/best-practices/certificates/); `pki.py` makes the files.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pinnace.kubeadm.pki import Leaf, ensure_authority, ensure_leaf, ensure_signing_key

METRICS_SERVER_NAMES = ("metrics-server.kube-system.svc", "metrics-server.kube-system", "metrics-server")


@dataclass(frozen=True, slots=True)
class ClusterNames:
    """What the cluster's servers are called and where they are."""

    node_name: str
    node_ip: str
    service_cidr: str
    cluster_domain: str = "cluster.local"
    extra_names: tuple[str, ...] = ()  # further DNS names and addresses of the API server


def first_service_ip(service_cidr: str) -> str:
    """The address of the `kubernetes` Service: the first of the range."""
    return str(ipaddress.ip_network(service_cidr.split(",")[0])[1])


def apiserver_names(cluster: ClusterNames) -> tuple[str, ...]:
    """Everything a client may call the API server."""
    return (
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{cluster.cluster_domain}",
        "localhost",
        cluster.node_name,
        first_service_ip(cluster.service_cidr),
        "127.0.0.1",
        "::1",
        cluster.node_ip,
        *cluster.extra_names,
    )


def leaves(cluster: ClusterNames) -> list[Leaf]:
    """Every certificate signed by the cluster's CA."""
    return [
        Leaf("apiserver", "kube-apiserver", names=apiserver_names(cluster), server=True),
        Leaf("apiserver-kubelet-client", "kube-apiserver-kubelet-client", ("kubeadm:cluster-admins",), client=True),
        Leaf("admin", "kubernetes-super-admin", ("system:masters",), client=True),
        Leaf("controller-manager", "system:kube-controller-manager", client=True),
        Leaf("scheduler", "system:kube-scheduler", client=True),
        Leaf("proxy", "system:kube-proxy", client=True),
        Leaf("kubelet-client", f"system:node:{cluster.node_name}", ("system:nodes",), client=True),
        Leaf(
            "kubelet",
            f"system:node:{cluster.node_name}",
            ("system:nodes",),
            names=(cluster.node_name, cluster.node_ip, "127.0.0.1", "localhost"),
            server=True,
        ),
        Leaf("metrics-server", "system:metrics-server", names=METRICS_SERVER_NAMES, server=True, client=True),
    ]


def ensure_certificates(directory: Path, cluster: ClusterNames, now: datetime) -> None:
    """Make, keep or renew every file of the PKI in `directory`. Raises PkiError, having replaced nothing, when a CA
    is damaged."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = ensure_authority(directory, "ca", "kubernetes", now)
    front_proxy = ensure_authority(directory, "front-proxy-ca", "front-proxy-ca", now)
    for leaf in leaves(cluster):
        ensure_leaf(directory, authority, leaf, now)
    ensure_leaf(directory, front_proxy, Leaf("front-proxy-client", "front-proxy-client", client=True), now)
    ensure_signing_key(directory)
