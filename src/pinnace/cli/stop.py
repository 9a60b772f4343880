"""`pinnace stop`."""

from __future__ import annotations

import click

from pinnace.cli.options import as_root, open_profile, output_option, profile_option, progress_for


@click.command("stop")
@profile_option
@output_option
def command(profile_name: str, output: str) -> None:
    """Stop a cluster and keep its data: its servers and its containers end."""
    from pinnace.cluster.stop import TOTAL_STEPS, stop

    progress = progress_for(output, TOTAL_STEPS)
    profile = open_profile(profile_name, progress)
    as_root(profile, progress, lambda: stop(profile, progress))
