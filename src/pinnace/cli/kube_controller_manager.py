"""`pinnace kube-controller-manager`: the controllers alone, with the original's flags."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.controller_flags import autoscaling, document, nodes, signing, workers
from pinnace.cli.observing import observed, observing_options
from pinnace.cli.serving import (
    client_options,
    connect,
    connect_accounts,
    connection,
    election,
    election_options,
    kubeconfig_option,
    run,
    verbosity_option,
)
from pinnace.cli.told import told_flags
from pinnace.cli.values import DURATION, FILE, NAMES, switch
from pinnace.cli.versions import (
    emulated_version_option,
    feature_gates_option,
    read_features,
    read_minor,
    version_option,
)

if TYPE_CHECKING:
    from pinnace.controllers.manager import Options
    from pinnace.machinery.features import FeatureGates


@click.command("kube-controller-manager")
@kubeconfig_option
@click.option(
    "--controllers",
    type=NAMES,
    default="*",
    show_default=True,
    help=(
        "Controllers to run, separated by commas: * is all but bootstrap-signer-controller, "
        "selinux-warning-controller and token-cleaner-controller, NAME is that one, -NAME leaves it out."
    ),
)
@click.option("--root-ca-file", type=FILE, help="Certificate authority to publish to every namespace.")
@nodes.options
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
@click.option(
    "--legacy-service-account-token-clean-up-period",
    type=DURATION,
    default="8760h0m0s",
    show_default=True,
    help="How long a generated token in a Secret must not be used before it is retired.",
)
@switch("--enable-dynamic-provisioning", default=True, show_default=True, help="Ask provisioners for volumes.")
@switch(
    "--enable-hostpath-provisioner",
    default=False,
    show_default=True,
    help="Make volumes in /tmp/hostpath_pv for classes of kubernetes.io/host-path: for tests, on one machine.",
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
@switch(
    "--use-service-account-credentials",
    default=False,
    show_default=True,
    help="Have each controller act as a ServiceAccount of its own in kube-system.",
)
@click.option("--cluster-name", default="kubernetes", show_default=True, help="What clouds are to call the cluster.")
@click.option(
    "--max-endpoints-per-slice",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="Endpoints of an EndpointSlice at most.",
)
@client_options(20, 30)
@emulated_version_option
@feature_gates_option
@election_options("kube-controller-manager")
@observing_options(10257)
@version_option
@verbosity_option
def command(verbosity: int, **flags: Any) -> None:
    """Run the controllers alone, in the foreground."""
    features = read_features(flags, read_minor(flags))
    from pinnace.wire.zpages import ZPages

    pages = ZPages(
        component="kube-controller-manager",
        features=features,
        flags=told_flags(),
        configuration=(document.KEY, lambda: document.configuration(flags)),
    )
    api = connection(flags["kubeconfig"])
    options = read(flags, features)

    async def start() -> Coroutine[Any, Any, None]:
        from pinnace.controllers.manager import ControllerManager

        client = connect(api, "kube-controller-manager", flags)
        accounts = None
        if flags["use_service_account_credentials"]:
            accounts = connect_accounts(client, api, "kube-controller-manager", flags)

        async def serve() -> None:
            try:
                async with observed(pages, client, flags):
                    await ControllerManager(client, options, accounts.client if accounts else None).run()
            finally:
                if accounts:
                    await accounts.close()
                await client.transport.close()

        return serve()

    run("kube-controller-manager", verbosity, start, features)


def read(flags: dict[str, Any], features: FeatureGates) -> Options:
    """What the flags say. Ends the program for what cannot be."""
    from pinnace.controllers.host_path_volumes import IN_TREE
    from pinnace.controllers.manager import Options, known_names
    from pinnace.controllers.selection import canonical

    known = known_names()
    for name in flags["controllers"]:
        if name != "*" and canonical(name).removeprefix("-") not in known:
            raise click.BadParameter(f'"{name}" is not one of: {", ".join(known)}', param_hint="--controllers")
    return Options(
        controllers=flags["controllers"],
        root_ca=flags["root_ca_file"].read_text() if flags["root_ca_file"] else "",
        terminated_pod_gc_threshold=flags["terminated_pod_gc_threshold"],
        endpoints_per_slice=flags["max_endpoints_per_slice"],
        legacy_token_clean_up_period=timedelta(seconds=flags["legacy_service_account_token_clean_up_period"]),
        mirrored_endpoints=flags["mirroring_max_endpoints_per_subset"],
        provisioning=flags["enable_dynamic_provisioning"],
        host_path_provisioner=IN_TREE if flags["enable_hostpath_provisioner"] else None,
        force_detach=not flags["disable_force_detach_on_timeout"],
        election=election(flags),
        kubernetes_minor=features.minor,
        feature_gates=features.chosen,
        **nodes.read(flags),
        **autoscaling.read(flags),
        **signing.read(flags),
        **workers.read(flags),
    )
