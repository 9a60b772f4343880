"""Flags of the cluster around the server: its Services, kubelets and registered servers, the versions it speaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.apiserver_flags.section import section
from pinnace.cli.values import FILE, NAMES, NETWORKS, of_each_family, switch
from pinnace.cli.versions import emulated_version_option, feature_gates_option, read_features, read_minor

if TYPE_CHECKING:
    from pinnace.apis.runtime_config import RuntimeConfig

options = section(
    click.option(
        "--service-cluster-ip-range",
        type=NETWORKS,
        default="10.96.0.0/12",
        show_default=True,
        help="Addresses of Services: a range, or one of each family, first that which Services have by default.",
    ),
    click.option(
        "--service-node-port-range", default="30000-32767", show_default=True, help="Ports of NodePort Services."
    ),
    click.option("--proxy-client-cert-file", type=FILE, help="Certificate to call registered API servers with."),
    click.option("--proxy-client-key-file", type=FILE, help="Its key."),
    click.option("--kubelet-client-certificate", type=FILE, help="Certificate to reach kubelets with."),
    click.option("--kubelet-client-key", type=FILE, help="Its key."),
    click.option(
        "--kubelet-preferred-address-types",
        type=NAMES,
        default="InternalIP,Hostname,InternalDNS,ExternalDNS,ExternalIP",
        show_default=True,
        help="By which of a node's addresses its kubelet is reached, the best first.",
    ),
    switch("--allow-privileged", default=True, show_default=True, help="Take pods with privileged containers."),
    click.option("--kubelet-certificate-authority", type=FILE, help="Who signs kubelets' certificates."),
    emulated_version_option,
    feature_gates_option,
    click.option(
        "--runtime-config",
        default="",
        help="Versions to serve or not: api/all=true, api/beta=true, GROUP/VERSION=false, GROUP/VERSION/RESOURCE.",
    ),
)

_AS_THEY_ARE = (
    "proxy_client_cert_file",
    "proxy_client_key_file",
    "kubelet_client_certificate",
    "kubelet_client_key",
    "kubelet_certificate_authority",
)


def read(flags: dict[str, Any]) -> dict[str, Any]:
    minor = read_minor(flags)
    return {
        **{name: flags[name] for name in _AS_THEY_ARE},
        "service_cluster_ip_range": ",".join(of_each_family(flags, "service_cluster_ip_range", needed=True)),
        "service_node_port_range": _ports(flags["service_node_port_range"]),
        "kubelet_preferred_address_types": tuple(flags["kubelet_preferred_address_types"]),
        "allow_privileged": flags["allow_privileged"],
        "minor": minor,
        "feature_gates": read_features(flags, minor).chosen,
        "runtime_config": _runtime_config(flags["runtime_config"]),
    }


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
