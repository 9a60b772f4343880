"""Flags of nodes: when one is lost, how fast it is drained, and which addresses it gets."""

from __future__ import annotations

from typing import Any

import click

from pinnace.cli.apiserver_flags.section import section
from pinnace.cli.values import DURATION, NETWORKS, of_each_family, switch

options = section(
    click.option("--cluster-cidr", type=NETWORKS, default="", help="Addresses of pods: a range, or one a family."),
    click.option(
        "--service-cluster-ip-range", type=NETWORKS, default="", help="Addresses of Services, of which nodes get none."
    ),
    switch("--allocate-node-cidrs", default=False, show_default=True, help="Give every node a part of --cluster-cidr."),
    click.option("--node-cidr-mask-size", type=click.IntRange(1, 128), help="Size of that part of a single range."),
    click.option("--node-cidr-mask-size-ipv4", type=click.IntRange(1, 32), help="The same of IPv4.  [default: 24]"),
    click.option("--node-cidr-mask-size-ipv6", type=click.IntRange(1, 128), help="The same of IPv6.  [default: 64]"),
    click.option(
        "--node-monitor-grace-period", type=DURATION, default="50s", show_default=True,
        help="A node silent for so long is taken for lost.",
    ),
    click.option(
        "--node-startup-grace-period", type=DURATION, default="1m0s", show_default=True,
        help="The same of a node that has never reported.",
    ),
    click.option(
        "--node-eviction-rate", type=float, default=0.1, show_default=True,
        help="Lost nodes a second, of one zone, from which pods are evicted.",
    ),
    click.option(
        "--secondary-node-eviction-rate", type=float, default=0.01, show_default=True,
        help="The same where much of the zone is lost; none at all where the zone is small.",
    ),
    click.option(
        "--unhealthy-zone-threshold", type=click.FloatRange(0, 1), default=0.55, show_default=True,
        help="Part of a zone's nodes that, being lost, is much.",
    ),
    click.option(
        "--large-cluster-size-threshold", type=int, default=50, show_default=True,
        help="A zone with no more nodes is small.",
    ),
)  # fmt: skip


def read(flags: dict[str, Any]) -> dict[str, Any]:
    from pinnace.controllers.node_zones import Pace

    cidrs = of_each_family(flags, "cluster_cidr")
    if flags["allocate_node_cidrs"] and not cidrs:
        raise click.BadParameter("needs --cluster-cidr", param_hint="--allocate-node-cidrs")
    masks = {4: flags["node_cidr_mask_size_ipv4"], 6: flags["node_cidr_mask_size_ipv6"]}
    if flags["node_cidr_mask_size"] is not None:
        if len(cidrs) > 1 or any(masks.values()):
            why = "cannot be given with ranges of both families, nor beside the sizes of each"
            raise click.BadParameter(why, param_hint="--node-cidr-mask-size")
        masks = dict.fromkeys(masks, flags["node_cidr_mask_size"])
    for cidr in cidrs:
        whole, part = int(cidr.partition("/")[2]), masks[6 if ":" in cidr else 4]
        if part is not None and part < whole:
            raise click.BadParameter(f"/{part} is no part of {cidr}", param_hint="--node-cidr-mask-size")
    return {
        "cluster_cidrs": cidrs,
        "service_cidrs": of_each_family(flags, "service_cluster_ip_range"),
        "allocate_node_cidrs": flags["allocate_node_cidrs"],
        "node_mask_sizes": {family: size for family, size in masks.items() if size is not None},
        "node_monitor_grace_seconds": flags["node_monitor_grace_period"],
        "node_startup_grace_seconds": flags["node_startup_grace_period"],
        "eviction_pace": Pace(
            rate=flags["node_eviction_rate"],
            secondary_rate=flags["secondary_node_eviction_rate"],
            unhealthy_zone_threshold=flags["unhealthy_zone_threshold"],
            large_cluster_size=flags["large_cluster_size_threshold"],
        ),
    }
