"""The control plane of a local cluster: API server, controllers and scheduler in one process.

The controllers and the scheduler are clients like any other; their calls go to the API server without a wire between.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from pinnace.apiserver.options import Options
from pinnace.apiserver.server import ApiServer
from pinnace.client.client import Client
from pinnace.client.transport import LoopbackTransport
from pinnace.cluster import process
from pinnace.cluster.addons import LOCAL_PROVISIONER, ensure_addons
from pinnace.cluster.marking import keep_marked
from pinnace.cluster.profile import Profile, ProfileConfig, from_directory
from pinnace.controllers.host_path_volumes import Provisioner
from pinnace.controllers.manager import ControllerManager
from pinnace.controllers.manager import Options as ControllerOptions
from pinnace.scheduler.scheduler import Scheduler
from pinnace.store.sqlite import SqliteStore

COMPONENTS = ("apiserver", "controller-manager", "scheduler")
"""Those of extra configuration that run here."""


def api_server_options(profile: Profile, config: ProfileConfig) -> Options:
    """The profile's choices as kube-apiserver's options."""
    pki = profile.pki_dir
    return Options(
        bind=[],
        sockets=process.inherited_sockets(),
        cert_file=pki / "apiserver.crt",
        key_file=pki / "apiserver.key",
        client_ca_file=pki / "ca.crt",
        enable_bootstrap_token_auth=True,  # as kubeadm has it: a Secret of that type is what makes somebody of a token
        authorization_modes=("Node", "RBAC"),
        service_account_signing_key_file=pki / "sa.key",
        service_account_issuer=f"https://kubernetes.default.svc.{config.dns_domain}",
        service_cluster_ip_range=config.service_cidr,
        advertise_address=config.node_ip,
        advertise_port=config.api_server_port,
        proxy_client_cert_file=pki / "front-proxy-client.crt",
        proxy_client_key_file=pki / "front-proxy-client.key",
        requestheader_client_ca_file=pki / "front-proxy-ca.crt",
        requestheader_allowed_names=("front-proxy-client",),
        kubelet_client_certificate=pki / "apiserver-kubelet-client.crt",
        kubelet_client_key=pki / "apiserver-kubelet-client.key",
        kubelet_certificate_authority=pki / "ca.crt",
        minor=config.minor,
        feature_gates=config.feature_gates,
    )


def controller_options(profile: Profile, config: ProfileConfig) -> ControllerOptions:
    """The profile's choices as kube-controller-manager's options."""
    return ControllerOptions.with_keys_of(
        profile.pki_dir,
        controllers=("*", "bootstrap-signer-controller", "token-cleaner-controller"),
        cluster_cidrs=config.pod_cidr.split(","),
        host_path_provisioner=Provisioner(LOCAL_PROVISIONER, profile.volumes_dir),
        kubernetes_minor=config.minor,
        feature_gates=config.feature_gates,
    )


async def run(profile: Profile, config: ProfileConfig, changes: process.Changes) -> None:
    def changed(component: str) -> dict[str, Any]:
        return dict(changes.get(component, {}))

    store = SqliteStore.open(profile.store_file)
    server = ApiServer(replace(api_server_options(profile, config), **changed("apiserver")), store)
    await server.start()
    try:
        controllers = ControllerManager(
            Client(LoopbackTransport(server, "system:kube-controller-manager")),
            replace(controller_options(profile, config), **changed("controller-manager")),
        )
        features = server.api.registry.features
        scheduler = Scheduler(
            Client(LoopbackTransport(server, "system:kube-scheduler")), features=features, **changed("scheduler")
        )
        admin = Client(LoopbackTransport(server, "kubernetes-admin"))
        await ensure_addons(admin, config, (profile.pki_dir / "ca.crt").read_bytes())
        process.calm_collector()
        process.notify("READY=1")
        marking = keep_marked(admin, config.node_name)
        await process.run_together({"controllers": controllers.run(), "scheduler": scheduler.run(), "marking": marking})
    finally:
        await server.stop()
        await store.close()


def main(changes: process.Changes | None = None) -> None:
    process.die_with_parent()
    process.configure_logging(int(os.environ.get(process.VERBOSITY, "0")))
    profile = from_directory(Path(sys.argv[1]))
    asyncio.run(run(profile, profile.load(), changes or {}))


if __name__ == "__main__":
    main()
