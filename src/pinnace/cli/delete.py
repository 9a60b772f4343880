"""`pinnace delete`."""

from __future__ import annotations

import click

from pinnace.cli.options import open_profile, output_option, profile_option, progress_for


@click.command("delete")
@profile_option
@output_option
@click.option("--all", "every", is_flag=True, help="Delete every cluster of this home.")
def command(profile_name: str, output: str, every: bool) -> None:
    """Delete a cluster and everything it left on this machine."""
    from pinnace.cluster.delete import delete
    from pinnace.cluster.profile import list_profiles
    from pinnace.cluster.progress import reported

    names = list_profiles() if every else [profile_name]
    progress = progress_for(output, len(names))
    for name in names:
        profile = open_profile(name, progress)
        with reported(progress):
            delete(profile, progress)
