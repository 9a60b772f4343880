"""`pinnace kube-controller-manager`: the controllers alone, with the original's flags."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

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
    help="Controllers to run, separated by commas: * is all, -NAME leaves one out.",
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
    "--horizontal-pod-autoscaler-sync-period",
    type=DURATION,
    default="15s",
    show_default=True,
    help="How often autoscalers look at their metrics.",
)
@click.option(
    "--horizontal-pod-autoscaler-downscale-stabilization",
    type=DURATION,
    default="5m0s",
    show_default=True,
    help="A higher recommendation of so long ago holds back a scale-down.",
)
@click.option(
    "--horizontal-pod-autoscaler-tolerance",
    type=float,
    default=0.1,
    show_default=True,
    help="How far from its target, as a part of it, a metric may be without consequence.",
)
@click.option(
    "--horizontal-pod-autoscaler-cpu-initialization-period",
    type=DURATION,
    default="5m0s",
    show_default=True,
    help="After its start a pod's use of CPU counts only once it is ready for as long as was measured.",
)
@click.option(
    "--horizontal-pod-autoscaler-initial-readiness-delay",
    type=DURATION,
    default="30s",
    show_default=True,
    help="A pod that turned unready so soon after its start counts as never having been ready.",
)
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
    from pinnace.controllers.hpa_replicas import Settings as AutoscalerSettings
    from pinnace.controllers.manager import CONTROLLERS, Options

    for name in flags["controllers"]:
        if name != "*" and name.removeprefix("-") not in CONTROLLERS:
            raise click.BadParameter(
                f'"{name}" is not one of: {", ".join(sorted(CONTROLLERS))}', param_hint="--controllers"
            )
    if flags["allocate_node_cidrs"] and not flags["cluster_cidr"]:
        raise click.BadParameter("needs --cluster-cidr", param_hint="--allocate-node-cidrs")
    return Options(
        controllers=flags["controllers"],
        root_ca=flags["root_ca_file"].read_text() if flags["root_ca_file"] else "",
        cluster_cidrs=flags["cluster_cidr"],
        allocate_node_cidrs=flags["allocate_node_cidrs"],
        node_monitor_grace_seconds=flags["node_monitor_grace_period"],
        terminated_pod_gc_threshold=flags["terminated_pod_gc_threshold"],
        autoscaling=AutoscalerSettings(
            sync_period=flags["horizontal_pod_autoscaler_sync_period"],
            downscale_stabilization=flags["horizontal_pod_autoscaler_downscale_stabilization"],
            tolerance=flags["horizontal_pod_autoscaler_tolerance"],
            cpu_initialization_period=flags["horizontal_pod_autoscaler_cpu_initialization_period"],
            initial_readiness_delay=flags["horizontal_pod_autoscaler_initial_readiness_delay"],
        ),
        election=election(flags),
    )
