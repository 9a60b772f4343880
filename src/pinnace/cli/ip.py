"""`pinnace ip`."""

from __future__ import annotations

import click

from pinnace.cli.options import open_profile, profile_option, progress_for


@click.command("ip")
@profile_option
def command(profile_name: str) -> None:
    """Show the address of a cluster's node: where its NodePorts are."""
    from pinnace.cluster.progress import reported

    progress = progress_for("text")
    profile = open_profile(profile_name, progress)
    with reported(progress):
        click.echo(profile.load().node_ip)
