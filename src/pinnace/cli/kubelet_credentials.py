"""How the kubelet comes to its certificates: by a bootstrap kubeconfig when it has none, and anew before they end.

Files are where the original has them: `kubelet-client-current.pem` and `kubelet-server-current.pem` in --cert-dir, and
a kubeconfig that names the first.
"""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.serving import connect, connection

if TYPE_CHECKING:
    from pinnace.client.client import Client
    from pinnace.client.kubeconfig import Connection
    from pinnace.kubelet.certificates.rotation import Rotation
    from pinnace.kubelet.options import KubeletOptions

CLIENT, SERVER = "kubelet-client", "kubelet-server"


def needs_bootstrap(kubeconfig: Path | None) -> bool:
    """Whether there is no kubeconfig, or one whose client certificate holds no more."""
    from pinnace.client.kubeconfig import KubeconfigError, load
    from pinnace.kubelet.certificates.rotation import still_holds
    from pinnace.machinery.meta import utc_now

    if kubeconfig is None or not kubeconfig.exists():
        return True
    try:
        found = load(kubeconfig)
    except (KubeconfigError, OSError):
        return True
    if found.certificate is None:
        return not (found.token or found.token_file)
    return not still_holds(found.certificate, utc_now())


async def bootstrap(flags: dict[str, Any], node_name: str) -> Connection:
    """Ask for a client certificate with the bootstrap kubeconfig, wait for it, and write the kubeconfig."""
    from pinnace.client.kubeconfig import Kubeconfig, read
    from pinnace.kubelet.certificates.requests import client_certificate
    from pinnace.kubelet.certificates.rotation import Rotation
    from pinnace.kubelet.certificates.store import CertificateStore

    first: Path = flags["bootstrap_kubeconfig"]
    client = connect(connection(first), "kubelet")
    store = CertificateStore(flags["cert_dir"].absolute(), CLIENT)
    try:
        await Rotation(client, store, client_certificate(node_name)).renew()
    finally:
        await client.transport.close()
    source = read(first).with_absolute_paths(first.absolute().parent)
    context = source.context(source.current_context) or {}
    made = Kubeconfig({})
    made.set_cluster("default-cluster", dict(source.cluster(context.get("cluster", "")) or {}))
    made.set_user("default-auth", {"client-certificate": str(store.path), "client-key": str(store.path)})
    made.set_context("default-context", cluster="default-cluster", user="default-auth", namespace="default")
    made.use_context("default-context")
    made.write(flags["kubeconfig"])
    return connection(flags["kubeconfig"])


def is_needed(flags: dict[str, Any]) -> bool:
    """Whether credentials must be asked for; ends the program where it does not know where to write them."""
    if not flags["bootstrap_kubeconfig"]:
        return False
    if not flags["kubeconfig"]:
        raise click.BadParameter("must say where to write the credentials", param_hint="--kubeconfig")
    return needs_bootstrap(flags["kubeconfig"])


def serving_file(cert_dir: Path, made: tuple[Path, Path]) -> Path:
    """The file of the serving certificate that is asked for; until it is there, it holds the one that was made."""
    from pinnace.kubelet.certificates.store import CertificateStore, Pair
    from pinnace.machinery.meta import utc_now

    store = CertificateStore(cert_dir.absolute(), SERVER)
    if store.current() is None:
        store.update(Pair(made[0].read_bytes(), made[1].read_bytes()), utc_now())
    return store.path


def rotations(client: Client, api: Connection, options: KubeletOptions, cert_dir: Path) -> list[Rotation]:
    """What keeps the kubelet's certificates from ending, as far as it is asked to."""
    if not options.rotate_certificates and not options.server_tls_bootstrap:
        return []
    from pinnace.client.https import HttpsTransport
    from pinnace.kubelet.certificates import requests
    from pinnace.kubelet.certificates.rotation import Rotation
    from pinnace.kubelet.certificates.store import CertificateStore, Pair
    from pinnace.machinery.meta import utc_now

    found = []
    directory = cert_dir.absolute()
    if options.rotate_certificates and api.certificate and api.key:
        transport = client.transport
        assert isinstance(transport, HttpsTransport)
        store = CertificateStore(directory, CLIENT)
        pair = store.current()
        if pair is None:
            store.update(Pair(api.certificate, api.key), utc_now())
        elif pair != (api.certificate, api.key):
            transport.show(*pair)
        wanted = requests.client_certificate(options.node_name)
        found.append(Rotation(client, store, wanted, lambda pair: transport.show(*pair)))
    if options.server_tls_bootstrap:
        store = CertificateStore(directory, SERVER)
        wanted = requests.serving_certificate(options.node_name, (options.hostname, *options.node_ips))
        stopgap = (directory / "kubelet.crt").read_bytes()
        found.append(Rotation(client, store, wanted, stopgap=stopgap))
    return found


async def with_rotations(work: Coroutine[Any, Any, None], found: list[Rotation]) -> None:
    """Run the kubelet, and beside it what renews its certificates."""
    import asyncio

    from pinnace.wire.tasks import end_tasks

    tasks = [asyncio.create_task(one.run(), name="certificate") for one in found]
    try:
        await work
    finally:
        await end_tasks(tasks)
