"""The certificate that a server shows: the flags that name it, alike on all servers, and files that belong together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pinnace.cli.values import DIRECTORY, FILE, Decorator


def certificate_options(directory: str) -> Decorator:
    """The flags of the certificate to serve with; in `directory` one is made where none is given."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option(
                "--cert-dir",
                type=DIRECTORY,
                default=directory,
                show_default=True,
                help="Where a certificate is made when none is given.",
            ),
            click.option("--tls-private-key-file", type=FILE, help="Its key."),
            click.option(
                "--tls-cert-file", type=FILE, help="Certificate to serve with.  [default: one made in --cert-dir]"
            ),
        ):
            function = option(function)
        return function

    return decorate


def pair(flags: dict[str, Any], certificate: str, key: str) -> tuple[Path, Path] | None:
    """The files of two flags; None where neither is given. Raises BadParameter for one without the other."""
    found = flags[certificate], flags[key]
    if bool(found[0]) != bool(found[1]):
        hint = ", ".join(f"--{name.replace('_', '-')}" for name in (certificate, key))
        raise click.BadParameter("give both or none", param_hint=hint)
    return found if found[0] else None
