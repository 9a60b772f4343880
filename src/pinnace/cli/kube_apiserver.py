"""`pinnace kube-apiserver`: the API server alone, with the original's flags."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.serving import run, verbosity_option

if TYPE_CHECKING:
    from pinnace.apiserver.options import Options

_File = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("kube-apiserver")
@click.option("--bind-address", default="0.0.0.0", show_default=True, help="Address to listen on.")
@click.option("--secure-port", type=int, default=6443, show_default=True, help="Port to serve HTTPS on.")
@click.option("--advertise-address", default="", help="Address that the Service kubernetes leads to.")
@click.option(
    "--etcd-servers",
    "storage",
    default="sqlite:///var/lib/pinnace/state.db",
    show_default=True,
    help="Where the state is: the path of a SQLite file.",
)
@click.option("--tls-cert-file", type=_File, help="Certificate to serve with.  [default: one made in --cert-dir]")
@click.option("--tls-private-key-file", type=_File, help="Its key.")
@click.option(
    "--cert-dir", type=click.Path(file_okay=False, path_type=Path), default=Path("/var/run/kubernetes"),
    show_default=True, help="Where a certificate is made when none is given.",
)  # fmt: skip
@click.option("--client-ca-file", type=_File, help="Who signs client certificates.")
@click.option("--token-auth-file", type=_File, help='Bearer tokens: token,user,uid,"group1,group2" a line.')
@click.option("--anonymous-auth", type=bool, default=True, show_default=True, help="Serve health to anybody.")
@click.option("--authorization-mode", default="AlwaysAllow", show_default=True, help="Who may do what.")
@click.option("--service-account-signing-key-file", type=_File, help="Key that signs service account tokens.")
@click.option("--service-account-key-file", "key_files", type=_File, multiple=True, help="Keys that verify them.")
@click.option("--service-account-issuer", default="", help="The tokens' issuer, a URL.")
@click.option("--api-audiences", default="", help="Audiences a token may be for, separated by commas.")
@click.option("--service-cluster-ip-range", default="10.96.0.0/12", show_default=True, help="Addresses of Services.")
@click.option("--service-node-port-range", default="30000-32767", show_default=True, help="Ports of NodePort Services.")
@click.option("--kubelet-client-certificate", type=_File, help="Certificate to reach kubelets with.")
@click.option("--kubelet-client-key", type=_File, help="Its key.")
@click.option("--kubelet-certificate-authority", type=_File, help="Who signs kubelets' certificates.")
@click.option("--emulated-version", default="", help="Kubernetes version to be, such as 1.36.  [default: the newest]")
@verbosity_option
def command(verbosity: int, **flags: Any) -> None:
    """Run the Kubernetes API server alone, in the foreground."""
    if flags["authorization_mode"] != "AlwaysAllow":
        raise click.BadParameter("only AlwaysAllow is offered so far", param_hint="--authorization-mode")
    storage = _sqlite_path(flags["storage"])
    options = _options(flags)

    async def start() -> Coroutine[Any, Any, None]:
        from pinnace.apiserver.server import ApiServer
        from pinnace.store.sqlite import SqliteStore

        storage.parent.mkdir(parents=True, exist_ok=True)
        store = SqliteStore.open(storage)
        server = ApiServer(options, store)
        await server.start()

        async def serve() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await server.stop()
                await store.close()

        return serve()

    run("kube-apiserver", verbosity, start)


def _sqlite_path(storage: str) -> Path:
    scheme, _, path = storage.partition("://")
    if scheme != "sqlite" or not path:
        raise click.BadParameter(f'"{storage}" is not sqlite:///path/of/a/file', param_hint="--etcd-servers")
    return Path(path)


def _options(flags: dict[str, Any]) -> Options:
    from pinnace.apiserver.options import Options

    cert_file, key_file = flags["tls_cert_file"], flags["tls_private_key_file"]
    if bool(cert_file) != bool(key_file):
        raise click.BadParameter("give both or none", param_hint="--tls-cert-file, --tls-private-key-file")
    if not cert_file:
        cert_file, key_file = _own_certificate(flags["cert_dir"], flags["bind_address"], flags["advertise_address"])
    first, _, last = flags["service_node_port_range"].partition("-")
    options = Options(
        bind=[(flags["bind_address"], flags["secure_port"])],
        cert_file=cert_file,
        key_file=key_file,
        client_ca_file=flags["client_ca_file"],
        token_auth_file=flags["token_auth_file"],
        anonymous_auth=flags["anonymous_auth"],
        service_account_signing_key_file=flags["service_account_signing_key_file"],
        service_account_key_files=flags["key_files"],
        api_audiences=tuple(filter(None, flags["api_audiences"].split(","))),
        service_cluster_ip_range=flags["service_cluster_ip_range"],
        service_node_port_range=(int(first), int(last)),
        advertise_address=flags["advertise_address"],
        kubelet_client_certificate=flags["kubelet_client_certificate"],
        kubelet_client_key=flags["kubelet_client_key"],
        kubelet_certificate_authority=flags["kubelet_certificate_authority"],
        minor=int(flags["emulated_version"].lstrip("v").split(".")[1]) if flags["emulated_version"] else None,
    )
    if flags["service_account_issuer"]:
        options.service_account_issuer = flags["service_account_issuer"]
    return options


def _own_certificate(directory: Path, *addresses: str) -> tuple[Path, Path]:
    """A certificate of our own, as the original makes one when it is given none."""
    from pinnace.kubeadm.pki import Leaf, ensure_authority, ensure_leaf
    from pinnace.machinery.meta import utc_now

    now = utc_now()
    names = tuple(name for name in ("127.0.0.1", "localhost", *addresses) if name and name != "0.0.0.0")
    authority = ensure_authority(directory, "apiserver-ca", "apiserver-ca", now)
    cert_file = ensure_leaf(directory, authority, Leaf("apiserver", "apiserver", names=names, server=True), now)
    return cert_file, cert_file.with_suffix(".key")
