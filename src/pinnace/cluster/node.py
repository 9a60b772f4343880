"""The node of a local cluster: kubelet, service proxy, cluster DNS and the container engine in one process.

They reach the API server over HTTPS as any node's agents do. Containers belong to the engine's monitor, a process of its
own, and run on when this one ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.client.client import Client
from pinnace.client.https import HttpsTransport
from pinnace.client.kubeconfig import Connection
from pinnace.cluster import guard, process
from pinnace.cluster.addons import DNS_PORT, cluster_dns_ip
from pinnace.cluster.profile import Profile, ProfileConfig, from_directory
from pinnace.cri.engine.engine import Engine, EngineOptions

if TYPE_CHECKING:
    from pinnace.kubelet.options import KubeletOptions


def engine_options(profile: Profile, config: ProfileConfig | None) -> EngineOptions:
    """Where the engine keeps its things; without a configuration only good for taking it apart."""
    return EngineOptions(
        root=profile.engine_dir,
        state=profile.run_dir / "engine",
        bridge=profile.pod_bridge,
        table=f"{profile.table_prefix}-engine",
        cgroup_root=profile.cgroup_root,
        cluster_cidr=config.pod_cidr if config else "",
        monitor_log=profile.logs_dir / "monitor.log",
    )


def kubelet_options(profile: Profile, config: ProfileConfig) -> KubeletOptions:
    """The profile's choices as the kubelet's options."""
    from pinnace.kubelet.options import KubeletOptions

    pki = profile.pki_dir
    return KubeletOptions(
        node_name=config.node_name,
        node_ips=[config.node_ip],
        root_dir=profile.kubelet_dir,
        pod_logs_dir=profile.pod_logs_dir,
        manifest_dir=profile.manifests_dir,
        kubernetes_version=config.kubernetes_version,
        cluster_dns=[cluster_dns_ip(config.service_cidr)],
        cluster_domain=config.dns_domain,
        address=config.node_ip,
        tls_cert_file=pki / "kubelet.crt",
        tls_key_file=pki / "kubelet.key",
        client_ca_file=pki / "ca.crt",
        node_labels={
            "node-role.kubernetes.io/control-plane": "",
            "node.kubernetes.io/exclude-from-external-load-balancers": "",
        },
        cgroup_root=profile.cgroup_root,
    )


def connect(profile: Profile, config: ProfileConfig, certificate: str) -> Client:
    """A client of the API server as the user of one of the profile's certificates."""
    pki = profile.pki_dir
    connection = Connection(
        server=config.server_url,
        ca=(pki / "ca.crt").read_bytes(),
        certificate=(pki / f"{certificate}.crt").read_bytes(),
        key=(pki / f"{certificate}.key").read_bytes(),
    )
    return Client(HttpsTransport(connection, user_agent=f"pinnace/{certificate}"))
