"""`pinnace status`."""

from __future__ import annotations

import json

import click

from pinnace.cli.options import open_profile, output_option, profile_option, progress_for


@click.command("status")
@profile_option
@output_option
def command(profile_name: str, output: str) -> None:
    """Show how a cluster is.

    The exit code is 0 when all of it runs; else 1 is added for the host, 2 for the API server, 4 for the node agent.
    """
    from pinnace.cluster.progress import reported
    from pinnace.cluster.status import status

    progress = progress_for(output)
    profile = open_profile(profile_name, progress)
    with reported(progress):
        found = status(profile)
    if output == "json":
        click.echo(json.dumps(found.to_json()))
    else:
        click.echo(
            f"{found.name}\ntype: Control Plane\nhost: {found.host}\nkubelet: {found.kubelet}\n"
            f"apiserver: {found.api_server}\nkubeconfig: {found.kubeconfig}\n"
        )
    raise SystemExit(found.exit_code)
