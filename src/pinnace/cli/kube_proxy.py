"""`pinnace kube-proxy`: the service proxy alone, with the original's flags. Names of Services are not its business:
cluster DNS is a server of its own, which a cluster that `pinnace start` made has on its node.
"""

from __future__ import annotations

from collections.abc import Coroutine
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pinnace.apis.builtin import NEWEST
from pinnace.cli.serving import (
    connect,
    connection,
    host_name,
    kubeconfig_option,
    primary_address,
    require_root,
    run,
    verbosity_option,
)
from pinnace.cli.told import told_flags
from pinnace.cli.values import FILE, LISTEN, NAMES, NETWORKS, of_each_family, switch
from pinnace.cli.versions import feature_gates_option, read_features, version_option

if TYPE_CHECKING:
    from pinnace.machinery.features import FeatureGates
    from pinnace.proxy.proxier import ProxyOptions


_IPV6 = Path("/proc/net/if_inet6")  # every IPv6 address; not there where the kernel has none


def has_ipv6() -> bool:
    """Whether the kernel has IPv6."""
    return _IPV6.exists()


@click.command("kube-proxy")
@kubeconfig_option
@click.option("--config", type=FILE, help="A KubeProxyConfiguration; flags that are given go before it.")
@click.option("--hostname-override", default="", help="This node's name.  [default: the host name]")
@click.option("--cluster-cidr", type=NETWORKS, default="", help="Addresses of pods, of one family or both.")
@click.option("--proxy-mode", default="nftables", show_default=True, help="How traffic is led; only nftables.")
@click.option(
    "--nodeport-addresses",
    type=NAMES,
    default="",
    help='Serve NodePorts on addresses in these ranges, or "primary".  [default: all of this host]',
)
@click.option(
    "--pod-bridge-interface",
    default="pinnace0",
    show_default=True,
    help="The bridge that pods of this node are on.",
)
@click.option(
    "--healthz-bind-address",
    type=LISTEN,
    default="0.0.0.0:10256",
    show_default=True,
    help="Where /healthz is served; empty: nowhere.",
)
@click.option(
    "--metrics-bind-address",
    type=LISTEN,
    default="127.0.0.1:10249",
    show_default=True,
    help="Where /metrics and /proxyMode are served; empty: nowhere.",
)
@switch("--cleanup", default=False, show_default=True, help="Take all rules away, and end.")
@feature_gates_option
@switch("--profiling", default=False, show_default=True, help="Tell at /debug/pprof/ what the proxy is doing.")
@version_option
@verbosity_option
def command(verbosity: int, **flags: Any) -> None:
    """Run the service proxy alone, in the foreground."""
    require_root("kube-proxy")
    flags, gates = with_file(flags)
    if flags["proxy_mode"] not in ("", "nftables"):
        raise click.BadParameter(f'"{flags["proxy_mode"]}" is not offered: only nftables is', param_hint="--proxy-mode")
    if flags["cleanup"]:
        _clean_up()
        return
    features = read_features(flags, NEWEST, gates)
    api = connection(flags["kubeconfig"])
    options = _options(flags, features)
    name = flags["hostname_override"] or host_name()

    async def start() -> Coroutine[Any, Any, None]:
        from pinnace.proxy.proxier import Proxier

        client = connect(api, "kube-proxy")

        async def serve() -> None:
            try:
                await Proxier(client, name, options).run()
            finally:
                await client.transport.close()

        return serve()

    run("kube-proxy", verbosity, start, features)


def with_file(flags: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bool]]:
    """The flags, with the word of --config for those that are not given; and its feature gates."""
    if flags["config"] is None:
        return flags, {}
    from click.core import ParameterSource

    from pinnace.machinery.configuration import ConfigurationError
    from pinnace.proxy.configuration import read_configuration

    context = click.get_current_context()
    options = {parameter.name: parameter for parameter in context.command.params}
    try:
        told, gates = read_configuration(flags["config"].read_text())
    except (ConfigurationError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{flags['config']}: {error}", param_hint="--config") from None
    given = {flag for flag in told if context.get_parameter_source(flag) is ParameterSource.COMMANDLINE}
    return flags | {
        flag: options[flag].type_cast_value(context, value) for flag, value in told.items() if flag not in given
    }, gates


def _options(flags: dict[str, Any], features: FeatureGates) -> ProxyOptions:
    from pinnace.proxy.nftables import RuleOptions, for_ipv6
    from pinnace.proxy.proxier import ProxyOptions

    wanted = flags["nodeport_addresses"]
    chosen = _node_port_addresses(wanted)
    pods = {":" in cidr: cidr for cidr in of_each_family(flags, "cluster_cidr")}
    rules = RuleOptions(
        bridge=flags["pod_bridge_interface"],
        cluster_cidr=pods.get(False, ""),
        node_ips=tuple(one for one in chosen if ":" not in one and not ip_address(one).is_loopback),
        localhost_node_ports=not wanted or "127.0.0.1" in chosen,
    )
    sixes = tuple(one for one in chosen if ":" in one)
    return ProxyOptions(
        rules=rules,
        rules6=for_ipv6(rules, pods.get(True, ""), sixes) if has_ipv6() else None,
        features=features,
        profiling=flags["profiling"],
        flags=told_flags(),
        healthz=flags["healthz_bind_address"],
        metrics=flags["metrics_bind_address"],
    )


def _node_port_addresses(wanted: list[str]) -> list[str]:
    """This host's addresses that `--nodeport-addresses` means; none where it was not given."""
    if not wanted:
        return []
    if wanted == ["primary"]:
        return [primary_address()]
    ranges = [ip_network(cidr) for cidr in NETWORKS.convert(",".join(wanted), None, None)]
    found = [one for one in _local_addresses() if any(ip_address(one) in cidr for cidr in ranges)]
    if not found:
        raise click.BadParameter(f"this host has no address in {', '.join(wanted)}", param_hint="--nodeport-addresses")
    return found


def _local_addresses() -> list[str]:
    """Every address of this host, from the kernel's table of what it delivers to itself, and from that of IPv6."""
    found, address = set(), ""
    for line in Path("/proc/net/fib_trie").read_text().splitlines():
        if "|-- " in line:
            address = line.split()[-1]  # what is known of it follows, a line each
        elif "/32 host LOCAL" in line:
            found.add(address)
    sixes = [line.split()[0] for line in _IPV6.read_text().splitlines()] if has_ipv6() else []
    found |= {str(address) for address in map(IPv6Address, map(bytes.fromhex, sixes)) if not address.is_link_local}
    return sorted(found)


def _clean_up() -> None:
    import asyncio

    from pinnace.proxy.nftables import RuleOptions, for_ipv6
    from pinnace.proxy.proxier import ApplyError, ProxyOptions, remove_rules

    rules = RuleOptions()
    options = ProxyOptions(rules=rules, rules6=for_ipv6(rules, "") if has_ipv6() else None)
    try:
        asyncio.run(remove_rules(options))
    except ApplyError as error:
        raise click.ClickException(str(error)) from None
