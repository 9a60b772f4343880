"""The node of a local cluster: kubelet, service proxy, cluster DNS, metrics server and the container engine in one
process, unless another container runtime was chosen.

They reach the API server over HTTPS as any node's agents do. Containers belong to the engine's monitor or to other
processes of their runtime, and run on when this one ends.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from pinnace import __version__
from pinnace.apis.resources import NODES, PODS, SERVICES
from pinnace.client.client import Client
from pinnace.client.https import HttpsTransport, tls_context
from pinnace.client.informer import InformerFactory
from pinnace.client.kubeconfig import Connection
from pinnace.cluster import process
from pinnace.cluster.addons import DNS_PORT, METRICS_PORT, cluster_dns_ip
from pinnace.cluster.profile import CONTAINERD, ENGINE, Profile, ProfileConfig, from_directory
from pinnace.cluster.runtime import open_runtime
from pinnace.dns.server import DnsServer
from pinnace.kubelet.kubelet import Kubelet
from pinnace.kubelet.options import KubeletOptions
from pinnace.machine.host import ensure_address
from pinnace.machinery.errors import ApiError
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import get_in
from pinnace.metrics_server.scraper import Scraper
from pinnace.metrics_server.server import MetricsServer, ServerOptions
from pinnace.proxy.nftables import RuleOptions, for_ipv6
from pinnace.proxy.proxier import Proxier, ProxyOptions

_log = structlog.get_logger()

COMPONENTS = ("kubelet", "kube-proxy")
"""Those of extra configuration that run here."""
NO_DISK_EVICTIONS = {"memory.available": "100Mi", "nodefs.available": "0%", "imagefs.available": "0%"}
"""A laptop's disk is mostly full, and the cluster's part of it small: as in minikube, only memory is watched."""


def kubelet_options(profile: Profile, config: ProfileConfig) -> KubeletOptions:
    """The profile's choices as the kubelet's options."""
    pki = profile.pki_dir
    return KubeletOptions(
        node_name=config.node_name,
        node_ips=list(config.machine_addresses),
        root_dir=profile.kubelet_dir,
        pod_logs_dir=profile.pod_logs_dir,
        manifest_dir=profile.manifests_dir,
        kubernetes_version=config.kubernetes_version,
        feature_gates=config.feature_gates,
        cluster_dns=[cluster_dns_ip(config.service_cidr)],
        cluster_domain=config.dns_domain,
        address=config.node_ip,
        tls_cert_file=pki / "kubelet.crt",
        tls_key_file=pki / "kubelet.key",
        client_ca_file=pki / "ca.crt",
        authentication_webhook=True,
        authorization_mode="Webhook",
        eviction_hard=NO_DISK_EVICTIONS,
        image_gc_high_threshold_percent=100,
        cgroup_root="" if config.container_runtime == ENGINE else profile.cgroup_root,  # the engine puts its own before
    )


def proxy_options(profile: Profile, config: ProfileConfig) -> ProxyOptions:
    """The profile's choices as the proxy's options: rules of its own, for its own pods and this host."""
    pods, *pods6 = config.pod_cidr.split(",")
    node_ip, *node_ips6 = config.machine_addresses
    ours = config.container_runtime in (ENGINE, CONTAINERD)  # the network of pods
    rules = RuleOptions(
        table=f"{profile.table_prefix}-proxy",
        bridge=profile.pod_bridge if ours else "",
        interfaces=(profile.pod_bridge, profile.machine_bridge) if ours else (),
        cluster_cidr=pods,
        node_ips=(node_ip,),
    )
    features = FeatureGates(config.minor, config.feature_gates)
    return ProxyOptions(
        rules=rules,
        rules6=for_ipv6(rules, pods6[0], tuple(node_ips6)) if pods6 else None,
        features=features,
        service_cidrs=config.service_cidr.split(","),
    )


def metrics_server(profile: Profile, config: ProfileConfig, client: Client) -> MetricsServer:
    """The metrics server of the profile; one certificate is what it shows kubelets, the API server and who asks it."""
    pki = profile.pki_dir
    options = ServerOptions(
        listen=(config.node_ip, METRICS_PORT),
        cert_file=pki / "metrics-server.crt",
        key_file=pki / "metrics-server.key",
        requestheader_client_ca_file=pki / "front-proxy-ca.crt",
    )
    scraper = Scraper(client, tls_context(as_user(profile, config, "metrics-server")))
    return MetricsServer(client, scraper, options)


def connect(profile: Profile, config: ProfileConfig, certificate: str, component: str) -> Client:
    """A client of the API server as the user of one of the profile's certificates; what it writes is `component`'s."""
    connection = as_user(profile, config, certificate)
    return Client(HttpsTransport(connection, user_agent=f"{component}/v{__version__} pinnace"))


def as_user(profile: Profile, config: ProfileConfig, certificate: str) -> Connection:
    """How to reach the API server as the user of one of the profile's certificates."""
    pki = profile.pki_dir
    return Connection(
        server=config.server_url,
        ca=(pki / "ca.crt").read_bytes(),
        certificate=(pki / f"{certificate}.crt").read_bytes(),
        key=(pki / f"{certificate}.key").read_bytes(),
    )


async def tell_when_ready(client: Client, node_name: str) -> None:
    """Notify the supervisor once the API shows the node as Ready; then wait for the end."""
    version = "0"
    while True:
        try:
            watch = client.watch(NODES, field_selector=f"metadata.name={node_name}", resource_version=version)
            async for event in watch:
                if event["type"] in ("ADDED", "MODIFIED") and is_ready(event["object"]):
                    process.calm_collector()
                    process.notify("READY=1")
                    await asyncio.Event().wait()
        except ApiError as error:
            _log.info("waiting for the API server", error=error.message)
            await asyncio.sleep(0.1)


def is_ready(node: dict[str, object]) -> bool:
    """Whether the Node's condition Ready is True."""
    conditions = get_in(node, "status", "conditions", default=[])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


async def run(profile: Profile, config: ProfileConfig, changes: process.Changes) -> None:
    opened = await open_runtime(profile, config)
    kubelet_client = connect(profile, config, "kubelet-client", "kubelet")
    proxy_client = connect(profile, config, "proxy", "kube-proxy")
    metrics_client = connect(profile, config, "metrics-server", "metrics-server")
    options = replace(kubelet_options(profile, config), **changes.get("kubelet", {}))
    kubelet = Kubelet(kubelet_client, opened.runtime, opened.images, options, opened.cgroups)
    kubelet.share_mounts()
    services = InformerFactory(proxy_client)  # proxy and DNS look at the same Services and EndpointSlices
    proxying = replace(proxy_options(profile, config), **changes.get("kube-proxy", {}))
    proxier = Proxier(proxy_client, config.node_name, proxying, services)
    dns = DnsServer(proxy_client, zone=config.dns_domain, listen=[(config.node_ip, DNS_PORT)], informers=services)
    pods = InformerFactory(kubelet_client)
    ports = _published_ports(profile, config, services, pods) if config.rootless else {}
    services.start()
    pods.start()
    try:
        await process.run_together(
            {
                **ports,
                "proxy": proxier.run(),
                "dns": dns.run(),
                "metrics": metrics_server(profile, config, metrics_client).run(),
                "kubelet": kubelet.run(),
                "readiness": tell_when_ready(kubelet_client, config.node_name),
            }
        )
    finally:
        await services.stop()
        await pods.stop()
        await opened.close()
        for client in (kubelet_client, proxy_client, metrics_client):
            await client.transport.close()


def _published_ports(
    profile: Profile, config: ProfileConfig, services: InformerFactory, pods: InformerFactory
) -> dict[str, Coroutine[Any, Any, None]]:
    """What an ordinary user's cluster needs beside, for the machine is another one than the node."""
    from pinnace.cluster.rootless.ports import PublishedPorts

    own = pods.informer(PODS, field_selector=f"spec.nodeName={config.node_name}")
    return {"ports": PublishedPorts(profile, config.node_ip, services.informer(SERVICES), own).run()}


def main(changes: process.Changes | None = None) -> None:
    process.die_with_parent()
    process.configure_logging(int(os.environ.get(process.VERBOSITY, "0")))
    profile = from_directory(Path(sys.argv[1]))
    config = profile.load()
    # Before there is an event loop: netlink's synchronous calls run one of their own.
    for address, prefix_length in config.machine_addresses.items():
        ensure_address(profile.machine_bridge, address, prefix_length)
    asyncio.run(run(profile, config, changes or {}))


if __name__ == "__main__":
    main()
