"""`pinnace start`."""

from __future__ import annotations

from dataclasses import replace

import click

from pinnace.cli.extra_config import extra_config_option
from pinnace.cli.options import as_root_to_start, open_profile, output_option, profile_option, progress_for
from pinnace.cli.values import NETWORKS
from pinnace.cli.versions import feature_gates_option, merged


@click.command("start")
@profile_option
@output_option
@click.option("--kubernetes-version", default="", help="For example v1.37.0, 1.36 or latest.  [default: the newest]")
@feature_gates_option
@extra_config_option
@click.option("--apiserver-port", type=int, default=None, help="Port of the API server.  [default: 8443 or a free one]")
@click.option("--dns-domain", default="cluster.local", show_default=True, help="The domain of the cluster's DNS.")
@click.option(
    "--ip-family",
    type=click.Choice(["ipv4", "dual"]),
    default=None,
    help="Addresses that pods, Services and nodes have: of IPv4, or of IPv6 as well.  [default: ipv4]",
)
@click.option(
    "--service-cluster-ip-range",
    type=NETWORKS,
    default="",
    help="Addresses of Services: of IPv4, or A,B of IPv4 and IPv6.  [default: 10.96.0.0/16 or a free one]",
)
@click.option(
    "--container-runtime",
    default="",
    metavar="NAME",
    help="What runs the pods: engine, containerd (one of the cluster's own), crio, or unix:///PATH of a CRI socket."
    "  [default: engine]",
)
@click.option("--wait-timeout", type=float, default=120.0, show_default=True, help="Seconds to wait for a Ready node.")
@click.option("--keep-context", is_flag=True, help="Leave kubectl's current context as it is.")
@click.option("-v", "--verbosity", type=int, default=0, help="Log level of the servers, as in klog.")
def command(
    profile_name: str,
    output: str,
    kubernetes_version: str,
    feature_gates: tuple[dict[str, bool], ...],
    extra_config: tuple[str, ...] | None,
    apiserver_port: int | None,
    dns_domain: str,
    ip_family: str | None,
    service_cluster_ip_range: list[str],
    container_runtime: str,
    wait_timeout: float,
    keep_context: bool,
    verbosity: int,
) -> None:
    """Start a cluster, or create it first.

    Ends when the node is Ready. What runs already is left alone.
    """
    from pinnace.cli.extra_config import check
    from pinnace.cluster.start import TOTAL_STEPS, StartOptions, start

    progress = progress_for(output, TOTAL_STEPS)
    profile = open_profile(profile_name, progress)
    options = StartOptions(
        kubernetes_version=kubernetes_version,
        feature_gates=merged(feature_gates),
        extra_config=extra_config,
        check=check,
        api_server_port=apiserver_port,
        dns_domain=dns_domain,
        service_cidr=_service_cidr(service_cluster_ip_range, ip_family),
        dual_stack=ip_family == "dual",
        container_runtime=container_runtime,
        wait_timeout=wait_timeout,
        keep_context=keep_context,
        verbosity=verbosity,
    )
    as_root_to_start(
        profile,
        progress,
        apiserver_port,
        verbosity,
        lambda port: start(profile, replace(options, api_server_port=port), progress),
    )


def _service_cidr(ranges: list[str], family: str | None) -> str:
    """The ranges as a cluster has them: that of IPv4, and after it that of IPv6 where there are both."""
    if not ranges:
        return ""
    versions = [6 if ":" in cidr else 4 for cidr in ranges]
    wanted = {"ipv4": [[4]], "dual": [[4, 6]], None: [[4], [4, 6]]}[family]
    if versions not in wanted:
        why = "must be a range of IPv4, or with --ip-family=dual one of IPv4 and one of IPv6"
        raise click.BadParameter(why, param_hint="--service-cluster-ip-range")
    return ",".join(ranges)
