"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from pinnace.cluster.profile import DEFAULT_PROFILE, Profile
from pinnace.cluster.progress import JsonProgress, Progress, TerminalProgress, reported

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

profile_option: Decorator = click.option(
    "-p",
    "--profile",
    "profile_name",
    default=DEFAULT_PROFILE,
    envvar="PINNACE_PROFILE",
    show_default=True,
    help="The cluster to work with.",
)

output_option: Decorator = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="For people, or one JSON document a line for machines.",
)


def progress_for(output: str, total_steps: int = 1) -> Progress:
    return JsonProgress(total_steps) if output == "json" else TerminalProgress()


def open_profile(name: str, progress: Progress) -> Profile:
    """The named profile, whether it exists or not; ends the program for a name that cannot be one."""
    with reported(progress):
        return Profile(name)
