"""`pinnace kube-controller-manager`: the controllers alone, with the original's flags."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.controller_flags import autoscaling, signing, workers
from pinnace.cli.serving import (
    connect,
    connection,
    election,
    election_options,
    kubeconfig_option,
    run,
    verbosity_option,
)
from pinnace.cli.values import DURATION, FILE, NAMES, NETWORKS, switch

if TYPE_CHECKING:
    from pinnace.controllers.manager import Options


@click.command("kube-controller-manager")
@kubeconfig_option
@click.option(
    "--controllers",
    type=NAMES,
    default="*",
    show_default=True,
    help=(
        "Controllers to run, separated by commas: * is all but bootstrap-signer-controller and "
        "token-cleaner-controller, NAME is that one, -NAME leaves it out."
    ),
)
@click.option("--cluster-cidr", type=NETWORKS, default="", help="Addresses of pods: a range, or one of each family.")
@switch("--allocate-node-cidrs", default=False, show_default=True, help="Give every node a part of --cluster-cidr.")
@click.option("--root-ca-file", type=FILE, help="Certificate authority to publish to every namespace.")
@click.option(
    "--node-monitor-grace-period",
    type=DURATION,
    default="50s",
    show_default=True,
    help="A node silent for so long is taken for lost.",
)
@click.option(
    "--terminated-pod-gc-threshold",
    type=int,
    default=12500,
    show_default=True,
    help="Finished pods kept before the oldest are deleted; 0 keeps all.",
)
@click.option(
    "--mirroring-max-endpoints-per-subset",
    type=click.IntRange(1, 1000),
    default=1000,
    show_default=True,
    help="Addresses that are mirrored of each subset of Endpoints.",
)
@switch(
    "--disable-force-detach-on-timeout",
    default=False,
    show_default=True,
    help="Leave volumes attached to a lost node that has not unmounted them.",
)
@autoscaling.options
@signing.options
@workers.options
@election_options("kube-controller-manager")
@verbosity_option
def command(verbosity: int, **flags: Any) -> None:
    """Run the controllers alone, in the foreground."""
    api = connection(flags["kubeconfig"])
    options = _options(flags)

    async def start() -> Coroutine[Any, Any, None]:
        from pinnace.controllers.manager import ControllerManager

        client = connect(api, "kube-controller-manager")

        async def serve() -> None:
            try:
                await ControllerManager(client, options).run()
            finally:
                await client.transport.close()

        return serve()

    run("kube-controller-manager", verbosity, start)


def _options(flags: dict[str, Any]) -> Options:
    from pinnace.controllers.manager import Options, known_names
    from pinnace.controllers.selection import canonical

    known = known_names()
    for name in flags["controllers"]:
        if name != "*" and canonical(name).removeprefix("-") not in known:
            raise click.BadParameter(f'"{name}" is not one of: {", ".join(known)}', param_hint="--controllers")
    if flags["allocate_node_cidrs"] and not flags["cluster_cidr"]:
        raise click.BadParameter("needs --cluster-cidr", param_hint="--allocate-node-cidrs")
    return Options(
        controllers=flags["controllers"],
        root_ca=flags["root_ca_file"].read_text() if flags["root_ca_file"] else "",
        cluster_cidrs=flags["cluster_cidr"],
        allocate_node_cidrs=flags["allocate_node_cidrs"],
        node_monitor_grace_seconds=flags["node_monitor_grace_period"],
        terminated_pod_gc_threshold=flags["terminated_pod_gc_threshold"],
        mirrored_endpoints=flags["mirroring_max_endpoints_per_subset"],
        force_detach=not flags["disable_force_detach_on_timeout"],
        election=election(flags),
        **autoscaling.read(flags),
        **signing.read(flags),
        **workers.read(flags),
    )
