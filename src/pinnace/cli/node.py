"""`pinnace node`."""

from __future__ import annotations

from typing import Any

import click

from pinnace.cli.image import ProfileGroup
from pinnace.cli.options import as_root, open_profile, output_option, profile_option, progress_for
from pinnace.cli.values import AMOUNT, AMOUNTS, DURATION, LABELS, TAINTS


@click.group("node", cls=ProfileGroup)
def command() -> None:
    """List the nodes of a cluster; add and delete hollow ones, which need no machine."""


@command.command("list")
@profile_option
def list_command(profile_name: str) -> None:
    """Show name and address of each node."""
    from pinnace.cluster import nodes
    from pinnace.cluster.progress import reported

    progress = progress_for("text")
    profile = open_profile(profile_name, progress)
    with reported(progress):
        for name, address, is_hollow in nodes.list_nodes(profile):
            click.echo(f"{name}\t{address}" + ("\thollow" if is_hollow else ""))


@command.command("add")
@profile_option
@output_option
@click.option("--hollow", "count", type=click.IntRange(1, 10_000), required=True, help="How many hollow nodes to add.")
@click.option("--name", default="hollow", show_default=True, help="What their names begin with.")
@click.option("--capacity", type=AMOUNTS, default="", help="What each has.  [default: cpu=8,memory=16Gi,pods=110]")
@click.option("--labels", type=LABELS, default="", help="Labels of each: KEY=VALUE,...")
@click.option("--taints", type=TAINTS, default="", help="Taints of each: KEY=VALUE:EFFECT,...")
@click.option("--start", type=DURATION, default="0s", show_default=True, help="From a pod's binding to its start.")
@click.option("--ready", type=DURATION, default="0s", show_default=True, help="From its start to its readiness.")
@click.option("--run", type=DURATION, default="1s", show_default=True, help="How long pods that end run.")
@click.option("--stop", type=DURATION, default="0s", show_default=True, help="From a pod's deletion to its end.")
@click.option(
    "--failure-rate", type=click.FloatRange(0, 1), default=0, show_default=True, help="Share of them that fail."
)
@click.option("--cpu", type=AMOUNT, default="10m", show_default=True, help="What each container uses.")
@click.option("--memory", type=AMOUNT, default="20Mi", show_default=True, help="What each container uses.")
@click.option("--wait-timeout", type=DURATION, default="2m", show_default=True, help="How long to wait for them.")
def add_command(
    profile_name: str,
    output: str,
    count: int,
    name: str,
    capacity: dict[str, str],
    labels: dict[str, str],
    taints: list[dict[str, str]],
    wait_timeout: float,
    **behaviour: Any,
) -> None:
    """Add nodes without machines, on which pods run in name: to see how controllers and schedulers fare at size.

    A pod's annotations hollow.pinnace.dev/start-seconds, ready-seconds, run-seconds, stop-seconds, exit-code, cpu and
    memory come before what is said here.
    """
    from pinnace.cluster import nodes
    from pinnace.cluster.hollow import HollowGroup
    from pinnace.kubelet.hollow.behaviour import Behaviour

    progress = progress_for(output, nodes.TOTAL_STEPS)
    profile = open_profile(profile_name, progress)
    group = HollowGroup(name, count, capacity, labels, taints, Behaviour(**behaviour))
    as_root(profile, progress, lambda: nodes.add_hollow(profile, group, progress, wait_timeout))


@command.command("delete")
@profile_option
@output_option
@click.argument("name")
def delete_command(profile_name: str, output: str, name: str) -> None:
    """Delete the hollow nodes that were added as NAME."""
    from pinnace.cluster import nodes

    progress = progress_for(output, nodes.TOTAL_STEPS)
    profile = open_profile(profile_name, progress)
    as_root(profile, progress, lambda: nodes.delete_hollow(profile, name, progress))
