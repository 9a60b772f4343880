"""`pinnace kube-scheduler`: the scheduler alone, with the original's flags."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pinnace.cli import scheduler_config
from pinnace.cli.observing import observed, observing_options
from pinnace.cli.serving import (
    client_options,
    connect,
    connection,
    election,
    election_options,
    kubeconfig_option,
    run,
    verbosity_option,
)
from pinnace.cli.told import told_flags
from pinnace.cli.values import DURATION, FILE
from pinnace.cli.versions import (
    emulated_version_option,
    feature_gates_option,
    read_features,
    read_minor,
    version_option,
)


@click.command("kube-scheduler")
@kubeconfig_option
@click.option("--config", type=FILE, help="A KubeSchedulerConfiguration; flags that are given go before it.")
@click.option("--master", default="", help="The API server's address; goes before the kubeconfig's.")
@click.option(
    "--pod-max-in-unschedulable-pods-duration",
    "longest_aside",
    type=DURATION,
    default="5m",
    show_default=True,
    help="A pod that found no node is tried again after so long, whatever happened.",
)
@emulated_version_option
@feature_gates_option
@client_options(50, 100)
@click.option(
    "--write-config-to", type=click.Path(path_type=Path), help="Write the configuration that holds there, and end."
)
@election_options("kube-scheduler")
@observing_options(10259)
@version_option
@verbosity_option
def command(verbosity: int, **flags: Any) -> None:
    """Run the scheduler alone, in the foreground."""
    configuration = scheduler_config.read(flags["config"])
    flags = scheduler_config.with_file(flags, configuration)
    features = read_features(flags, read_minor(flags))
    document = scheduler_config.complete(flags, configuration, features)
    if flags["write_config_to"]:
        scheduler_config.write(flags["write_config_to"], document)
        return
    from pinnace.wire.zpages import ZPages, in_go_names

    pages = ZPages(
        component="kube-scheduler",
        features=features,
        flags=told_flags(),
        configuration=("componentconfig", lambda: in_go_names(document)),
    )
    api = connection(flags["kubeconfig"])
    if flags["master"]:
        api = replace(api, server=flags["master"])
    lease = election(flags)

    async def start() -> Coroutine[Any, Any, None]:
        from pinnace.client.leader_election import run_elected
        from pinnace.scheduler.scheduler import Scheduler

        client = connect(api, "kube-scheduler", flags)

        async def serve() -> None:
            scheduler = Scheduler(
                client, configuration=configuration, features=features, longest_aside_seconds=flags["longest_aside"]
            )
            try:
                async with observed(pages, client, flags, scheduler.metrics.families):
                    if lease is None:
                        await scheduler.run()
                    else:
                        await run_elected(client, lease, scheduler.run)
            finally:
                await client.transport.close()

        return serve()

    run("kube-scheduler", verbosity, start, features)
