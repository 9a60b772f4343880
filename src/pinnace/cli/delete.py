"""`pinnace delete`."""

from __future__ import annotations

import click

from pinnace.cli.options import as_root, open_profile, output_option, profile_option, progress_for
from pinnace.cluster.profile import Profile
from pinnace.cluster.progress import Progress


@click.command("delete")
@profile_option
@output_option
@click.option("--all", "every", is_flag=True, help="Delete every cluster of this home.")
def command(profile_name: str, output: str, every: bool) -> None:
    """Delete a cluster and everything it left on this machine."""
    from pinnace.cluster.profile import list_profiles

    names = list_profiles() if every else [profile_name]
    progress = progress_for(output, len(names))
    for name in names:
        _delete(open_profile(name, progress), progress)


def _delete(profile: Profile, progress: Progress) -> None:
    from pinnace.cluster.delete import delete

    as_root(profile, progress, lambda: delete(profile, progress))
