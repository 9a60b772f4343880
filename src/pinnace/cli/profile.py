"""`pinnace profile`."""

from __future__ import annotations

import json

import click

from pinnace.cli.options import output_option


@click.group("profile")
def command() -> None:
    """List clusters."""


@command.command("list")
@output_option
def list_command(output: str) -> None:
    """List every cluster of this home and how it is."""
    from pinnace.cluster import control
    from pinnace.cluster.profile import Profile, list_profiles
    from pinnace.cluster.reasons import ClusterError

    valid, invalid = [], []
    for name in list_profiles():
        profile = Profile(name)
        try:
            config = profile.load()
        except ClusterError:
            invalid.append({"Name": name})
            continue
        state = "Running" if control.snapshot(profile) else "Stopped"
        valid.append(
            {
                "Name": name,
                "Status": state,
                "Version": config.kubernetes_version,
                "IP": config.node_ip,
                "Runtime": config.container_runtime,
            }
        )
    if output == "json":
        click.echo(json.dumps({"invalid": invalid, "valid": valid}))
        return
    for entry in valid:
        click.echo(
            f"{entry['Name']:<20} {entry['Status']:<8} {entry['Version']:<10} {entry['IP']:<15} {entry['Runtime']}"
        )
    for entry in invalid:
        click.echo(f"{entry['Name']:<20} corrupt", err=True)
