"""Options that several commands share."""

from __future__ import annotations

import os
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


def as_root(profile: Profile, progress: Progress, work: Callable[[], None]) -> None:
    """Do a command's work with root's powers: those that we have, or those in namespaces of an ordinary user's own."""
    from pinnace.cluster import preflight

    with reported(progress):
        if os.geteuid() == 0:
            preflight.require_owner(profile)
            work()
            return
        from pinnace.cluster.rootless import entering

        entering.inside(profile, lambda: _reporting(progress, work))


def as_root_to_start(
    profile: Profile, progress: Progress, port: int | None, verbosity: int, work: Callable[[int | None], object]
) -> None:
    """The same for `start`; `work` gets the API server's port, which for an ordinary user is chosen outside."""
    from pinnace.cluster import preflight

    with reported(progress):
        if os.geteuid() == 0:
            preflight.require_owner(profile)
            work(port)
            return
        from pinnace.cluster.rootless import entering

        entering.inside_to_start(
            profile, port, verbosity, lambda chosen: _reporting(progress, lambda: work(chosen or port))
        )


def _reporting(progress: Progress, work: Callable[[], object]) -> None:
    with reported(progress):
        work()


def open_profile(name: str, progress: Progress) -> Profile:
    """The named profile, whether it exists or not; ends the program for a name that cannot be one."""
    with reported(progress):
        return Profile(name)
