"""`pinnace version`."""

from __future__ import annotations

import json
import platform

import click

from pinnace import __version__
from pinnace.cli.options import output_option


@click.command("version")
@output_option
def command(output: str) -> None:
    """Show the version of Pinnace and the Kubernetes versions it serves."""
    from pinnace.machinery.schema import Schemas

    minors = Schemas.minors()
    if output == "json":
        kubernetes = [f"v1.{minor}" for minor in minors]
        click.echo(
            json.dumps({"pinnaceVersion": __version__, "kubernetes": kubernetes, "python": platform.python_version()})
        )
    else:
        click.echo(f"pinnace {__version__} (Kubernetes v1.{min(minors)} to v1.{max(minors)})")
