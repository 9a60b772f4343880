"""`pinnace kube-apiserver`: the API server alone, with the original's flags."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.serving import own_certificate, run, verbosity_option
from pinnace.cli.values import DURATION, FILE, NAMES, switch

if TYPE_CHECKING:
    from pinnace.apis.runtime_config import RuntimeConfig
    from pinnace.apiserver.options import Options
    from pinnace.store.location import Location


@click.command("kube-apiserver")
@click.option("--bind-address", default="0.0.0.0", show_default=True, help="Address to listen on.")
@click.option("--secure-port", type=int, default=6443, show_default=True, help="Port to serve HTTPS on.")
@click.option("--advertise-address", default="", help="Address that the Service kubernetes leads to.")
@click.option(
    "--etcd-servers",
    "storage",
    default="sqlite:///var/lib/pinnace/state.db",
    show_default=True,
    help="Where the state is: the path of a SQLite file, or the URLs of an etcd cluster, separated by commas.",
)
@click.option("--etcd-prefix", default="/registry", show_default=True, help="What keys in etcd begin with.")
@click.option("--etcd-cafile", type=FILE, help="Who signs etcd's certificates.")
@click.option("--etcd-certfile", type=FILE, help="Certificate to reach etcd with.")
@click.option("--etcd-keyfile", type=FILE, help="Its key.")
@click.option(
    "--etcd-compaction-interval", type=DURATION, default="5m", show_default=True,
    help="How long history is kept at least; 0 keeps it for ever.",
)  # fmt: skip
@click.option("--storage-backend", default="", help="sqlite or etcd3.  [default: what --etcd-servers says]")
@click.option("--tls-cert-file", type=FILE, help="Certificate to serve with.  [default: one made in --cert-dir]")
@click.option("--tls-private-key-file", type=FILE, help="Its key.")
@click.option(
    "--cert-dir", type=click.Path(file_okay=False, path_type=Path), default=Path("/var/run/kubernetes"),
    show_default=True, help="Where a certificate is made when none is given.",
)  # fmt: skip
@click.option("--client-ca-file", type=FILE, help="Who signs client certificates.")
@click.option("--token-auth-file", type=FILE, help='Bearer tokens: token,user,uid,"group1,group2" a line.')
@switch("--anonymous-auth", default=True, show_default=True, help="Serve health to anybody.")
@click.option(
    "--authorization-mode",
    default="AlwaysAllow",
    show_default=True,
    help="Who decides who may do what, in order: AlwaysAllow, AlwaysDeny, Node, RBAC.",
)
@click.option("--enable-admission-plugins", default="", help="Admission plugins to run besides those on by default.")
@click.option("--disable-admission-plugins", default="", help="Admission plugins not to run.")
@click.option("--service-account-signing-key-file", type=FILE, help="Key that signs service account tokens.")
@click.option("--service-account-key-file", "key_files", type=FILE, multiple=True, help="Keys that verify them.")
@click.option("--service-account-issuer", default="", help="The tokens' issuer, a URL.")
@click.option("--api-audiences", default="", help="Audiences a token may be for, separated by commas.")
@click.option("--service-cluster-ip-range", default="10.96.0.0/12", show_default=True, help="Addresses of Services.")
@click.option("--service-node-port-range", default="30000-32767", show_default=True, help="Ports of NodePort Services.")
@click.option("--event-ttl", type=DURATION, default="1h", show_default=True, help="How long events are kept.")
@click.option("--proxy-client-cert-file", type=FILE, help="Certificate to call registered API servers with.")
@click.option("--proxy-client-key-file", type=FILE, help="Its key.")
@click.option("--requestheader-client-ca-file", type=FILE, help="Who signs certificates of proxies to be believed.")
@click.option(
    "--requestheader-allowed-names", type=NAMES, default="", help="Common names of such proxies.  [default: any]"
)
@click.option("--kubelet-client-certificate", type=FILE, help="Certificate to reach kubelets with.")
@click.option("--kubelet-client-key", type=FILE, help="Its key.")
@click.option("--kubelet-certificate-authority", type=FILE, help="Who signs kubelets' certificates.")
@switch("--disable-http2-serving", default=False, show_default=True, help="Speak HTTP/1.1 alone.")
@click.option(
    "--http2-max-streams-per-connection", type=click.IntRange(min=0), default=0,
    help="Requests that an HTTP/2 connection may have open at a time.  [default: 250]",
)  # fmt: skip
@click.option(
    "--goaway-chance", type=click.FloatRange(0, 0.02), default=0,
    help="Chance that an HTTP/2 connection is asked to go away at a request, so that load spreads over servers.",
)  # fmt: skip
@click.option("--cors-allowed-origins", default="", help="Origins of web pages that may ask, regular expressions.")
@click.option("--emulated-version", default="", help="Kubernetes version to be, such as 1.36.  [default: the newest]")
@click.option(
    "--runtime-config",
    default="",
    help="Versions to serve or not: api/all=true, api/beta=true, GROUP/VERSION=false, GROUP/VERSION/RESOURCE.",
)
@verbosity_option
def command(verbosity: int, **flags: Any) -> None:
    """Run the Kubernetes API server alone, in the foreground."""
    storage = _location(flags)
    options = _options(flags)

    async def start() -> Coroutine[Any, Any, None]:
        import asyncio

        from pinnace.apiserver.server import ApiServer
        from pinnace.store.contract import StoreError

        try:
            store = await storage.open()
        except StoreError as error:
            raise click.ClickException(f"kube-apiserver cannot start: {error}") from None
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


def _modes(text: str) -> tuple[str, ...]:
    from pinnace.apiserver.authz import MODES

    modes = tuple(text.split(","))
    for mode in modes:
        if mode not in MODES:
            why = f'"{mode}" is not one of {", ".join(MODES)}'
            raise click.BadParameter(why, param_hint="--authorization-mode")
        if modes.count(mode) > 1:
            raise click.BadParameter(f'"{mode}" is given twice', param_hint="--authorization-mode")
    return modes


def _plugins(flag: str, text: str) -> tuple[str, ...]:
    from pinnace.apiserver.admission.plugins import NAMES

    names = tuple(filter(None, text.split(",")))
    for name in names:
        if name not in NAMES:
            raise click.BadParameter(f'{flag} plugin "{name}" is unknown', param_hint=f"--{flag}")
    return names


def _location(flags: dict[str, Any]) -> Location:
    from pinnace.store.location import BACKENDS, parse_location

    files = (flags["etcd_cafile"], flags["etcd_certfile"], flags["etcd_keyfile"])
    try:
        location = parse_location(flags["storage"], flags["etcd_prefix"], *files)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--etcd-servers") from None
    backend = flags["storage_backend"]
    if backend and backend not in BACKENDS:
        why = f'"{backend}" is not one of {", ".join(BACKENDS)}'
        raise click.BadParameter(why, param_hint="--storage-backend")
    if backend and backend != location.backend:
        why = f'"{backend}" is not what --etcd-servers={location} leads to'
        raise click.BadParameter(why, param_hint="--storage-backend")
    return location


def _options(flags: dict[str, Any]) -> Options:
    from pinnace.apiserver.options import Options

    cert_file, key_file = flags["tls_cert_file"], flags["tls_private_key_file"]
    if bool(cert_file) != bool(key_file):
        raise click.BadParameter("give both or none", param_hint="--tls-cert-file, --tls-private-key-file")
    if not cert_file:
        names = (flags["bind_address"], flags["advertise_address"])
        cert_file, key_file = own_certificate(flags["cert_dir"], "apiserver", *names)
    first, last = _ports(flags["service_node_port_range"])
    options = Options(
        bind=[(flags["bind_address"], flags["secure_port"])],
        cert_file=cert_file,
        key_file=key_file,
        client_ca_file=flags["client_ca_file"],
        token_auth_file=flags["token_auth_file"],
        anonymous_auth=flags["anonymous_auth"],
        compaction_interval=flags["etcd_compaction_interval"],
        authorization_modes=_modes(flags["authorization_mode"]),
        enable_admission_plugins=_plugins("enable-admission-plugins", flags["enable_admission_plugins"]),
        disable_admission_plugins=_plugins("disable-admission-plugins", flags["disable_admission_plugins"]),
        service_account_signing_key_file=flags["service_account_signing_key_file"],
        service_account_key_files=flags["key_files"],
        api_audiences=tuple(filter(None, flags["api_audiences"].split(","))),
        service_cluster_ip_range=flags["service_cluster_ip_range"],
        service_node_port_range=(first, last),
        advertise_address=flags["advertise_address"],
        event_ttl=flags["event_ttl"],
        proxy_client_cert_file=flags["proxy_client_cert_file"],
        proxy_client_key_file=flags["proxy_client_key_file"],
        requestheader_client_ca_file=flags["requestheader_client_ca_file"],
        requestheader_allowed_names=tuple(flags["requestheader_allowed_names"]),
        kubelet_client_certificate=flags["kubelet_client_certificate"],
        kubelet_client_key=flags["kubelet_client_key"],
        kubelet_certificate_authority=flags["kubelet_certificate_authority"],
        http2=not flags["disable_http2_serving"],
        http2_max_streams=flags["http2_max_streams_per_connection"] or 250,
        goaway_chance=flags["goaway_chance"],
        cors_allowed_origins=_origins(flags["cors_allowed_origins"]),
        minor=_minor(flags["emulated_version"]),
        runtime_config=_runtime_config(flags["runtime_config"]),
    )
    if flags["service_account_issuer"]:
        options.service_account_issuer = flags["service_account_issuer"]
    return options


def _origins(text: str) -> tuple[str, ...]:
    from pinnace.apiserver.cors import check_pattern

    patterns = tuple(filter(None, text.split(",")))
    for pattern in patterns:
        why = check_pattern(pattern)
        if why:
            raise click.BadParameter(why, param_hint="--cors-allowed-origins")
    return patterns


def _ports(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last) <= 65535):
        raise click.BadParameter(f'"{text}" is not FIRST-LAST', param_hint="--service-node-port-range")
    return int(first), int(last)


def _runtime_config(text: str) -> RuntimeConfig:
    from pinnace.apis.builtin import GROUPS
    from pinnace.apis.runtime_config import RuntimeConfigError, parse_runtime_config

    try:
        return parse_runtime_config(text, GROUPS)
    except RuntimeConfigError as error:
        raise click.BadParameter(str(error), param_hint="--runtime-config") from None


def _minor(version: str) -> int | None:
    """36 of `1.36` and `v1.36.2`; None for the newest."""
    if not version:
        return None
    from pinnace.machinery.schema import Schemas

    minors = Schemas.minors()
    parts = version.lstrip("v").split(".")
    if len(parts) < 2 or parts[0] != "1" or not parts[1].isdigit() or int(parts[1]) not in minors:
        served = f"1.{min(minors)} to 1.{max(minors)}"
        raise click.BadParameter(f'"{version}" is not one of {served}', param_hint="--emulated-version")
    return int(parts[1])
