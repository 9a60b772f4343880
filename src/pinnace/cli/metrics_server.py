"""`pinnace metrics-server`: the metrics API alone, with the original's flags."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.certificate import certificate_options, pair
from pinnace.cli.serving import connect, connection, kubeconfig_option, own_certificate, run, verbosity_option
from pinnace.cli.values import ADDRESS, DURATION, FILE, NAMES, switch

if TYPE_CHECKING:
    import ssl

    from pinnace.client.kubeconfig import Connection
    from pinnace.metrics_server.server import ServerOptions

_SHORTEST = 10.0  # seconds of --metric-resolution, as in the original


@click.command("metrics-server")
@kubeconfig_option
@click.option("--bind-address", type=ADDRESS, default="0.0.0.0", show_default=True, help="Address to serve on.")
@click.option(
    "--secure-port", type=click.IntRange(1, 65535), default=443, show_default=True, help="Port to serve HTTPS on."
)
@certificate_options("apiserver.local.config/certificates")
@click.option(
    "--requestheader-client-ca-file",
    type=FILE,
    required=True,
    help="Who signs the certificate of the API server's front proxy; nobody else is served.",
)
@click.option(
    "--requestheader-allowed-names", type=NAMES, default="", help="Common names of such certificates.  [default: any]"
)
@click.option(
    "--metric-resolution",
    type=DURATION,
    default="60s",
    show_default=True,
    help="Kubelets are asked once in so long; at least 10s.",
)
@click.option(
    "--kubelet-preferred-address-types",
    type=NAMES,
    default="InternalIP,ExternalIP,Hostname",
    show_default=True,
    help="Which address of a Node its kubelet is asked at: the first type that the Node has.",
)
@click.option(
    "--kubelet-certificate-authority", type=FILE, help="Who signs kubelets' certificates.  [default: --kubeconfig's]"
)
@click.option("--kubelet-client-certificate", type=FILE, help="Shown to kubelets.  [default: --kubeconfig's]")
@click.option("--kubelet-client-key", type=FILE, help="Its key.")
@switch("--kubelet-insecure-tls", default=False, show_default=True, help="Believe any certificate of kubelets.")
@verbosity_option
def command(verbosity: int, **flags: Any) -> None:
    """Run the metrics server alone, in the foreground."""
    if flags["metric_resolution"] < _SHORTEST:
        raise click.BadParameter("must be at least 10s", param_hint="--metric-resolution")
    api = connection(flags["kubeconfig"])
    tls = _kubelet_tls(flags, api)
    options = _options(flags)

    async def start() -> Coroutine[Any, Any, None]:
        from pinnace.metrics_server.scraper import Scraper
        from pinnace.metrics_server.server import MetricsServer

        client = connect(api, "metrics-server")
        scraper = Scraper(
            client,
            tls,
            resolution=flags["metric_resolution"],
            address_types=flags["kubelet_preferred_address_types"],
            token=api.bearer_token,
        )

        async def serve() -> None:
            try:
                await MetricsServer(client, scraper, options).run()
            finally:
                await client.transport.close()

        return serve()

    run("metrics-server", verbosity, start)


def _options(flags: dict[str, Any]) -> ServerOptions:
    from pinnace.metrics_server.server import ServerOptions

    files = pair(flags, "tls_cert_file", "tls_private_key_file")
    cert_file, key_file = files or own_certificate(flags["cert_dir"], "metrics-server", flags["bind_address"])
    return ServerOptions(
        listen=(flags["bind_address"], flags["secure_port"]),
        cert_file=cert_file,
        key_file=key_file,
        requestheader_client_ca_file=flags["requestheader_client_ca_file"],
        requestheader_allowed_names=flags["requestheader_allowed_names"],
    )


def _kubelet_tls(flags: dict[str, Any], api: Connection) -> ssl.SSLContext:
    """How kubelets are spoken to: as the API server is, but for what the flags say."""
    from pinnace.client.https import tls_context

    authority: Path | None = flags["kubelet_certificate_authority"]
    files = pair(flags, "kubelet_client_certificate", "kubelet_client_key")
    if authority is not None:
        api = replace(api, ca=authority.read_bytes())
    if files is not None:
        api = replace(api, certificate=files[0].read_bytes(), key=files[1].read_bytes())
    try:
        return tls_context(replace(api, verify=not flags["kubelet_insecure_tls"]))
    except ValueError as error:
        raise click.ClickException(f"the certificates for kubelets cannot be used: {error}") from None
