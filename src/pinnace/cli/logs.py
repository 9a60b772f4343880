"""`pinnace logs`."""

from __future__ import annotations

import subprocess

import click

from pinnace.cli.options import open_profile, profile_option, progress_for

SERVERS = ("supervisor", "control-plane", "node", "hollow", "monitor", "containerd")


@click.command("logs")
@profile_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("-n", "--length", type=int, default=60, show_default=True, help="Lines of each log.")
@click.argument("servers", nargs=-1, type=click.Choice(SERVERS))
def command(profile_name: str, follow: bool, length: int, servers: tuple[str, ...]) -> None:
    """Show the logs of a cluster's servers."""
    from pinnace.cluster.progress import reported

    progress = progress_for("text")
    profile = open_profile(profile_name, progress)
    with reported(progress):
        profile.load()
    files = [profile.logs_dir / f"{name}.log" for name in servers or SERVERS]
    present = [str(file) for file in files if file.exists()]
    if present:
        raise SystemExit(subprocess.call(["tail", f"-n{length}", *(["-F"] if follow else []), *present]))
