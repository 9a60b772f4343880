"""`pinnace kube-scheduler`: the scheduler alone, with the original's flags."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

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


@click.command("kube-scheduler")
@kubeconfig_option
@election_options("kube-scheduler")
@verbosity_option
def command(verbosity: int, **flags: Any) -> None:
    """Run the scheduler alone, in the foreground."""
    api = connection(flags["kubeconfig"])
    lease = election(flags)

    async def start() -> Coroutine[Any, Any, None]:
        from pinnace.client.leader_election import run_elected
        from pinnace.scheduler.scheduler import Scheduler

        client = connect(api, "kube-scheduler")

        async def serve() -> None:
            scheduler = Scheduler(client)
            try:
                if lease is None:
                    await scheduler.run()
                else:
                    await run_elected(client, lease, scheduler.run)
            finally:
                await client.transport.close()

        return serve()

    run("kube-scheduler", verbosity, start)
