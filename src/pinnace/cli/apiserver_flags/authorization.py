"""Flags of who may do what."""

from __future__ import annotations

from typing import Any

import click

from pinnace.cli.apiserver_flags.section import section

options = section(
    click.option(
        "--authorization-mode",
        default="AlwaysAllow",
        show_default=True,
        help="Who decides who may do what, in order: AlwaysAllow, AlwaysDeny, Node, RBAC.",
    ),
)


def read(flags: dict[str, Any]) -> dict[str, Any]:
    return {"authorization_modes": _modes(flags["authorization_mode"])}


def _modes(text: str) -> tuple[str, ...]:
    from pinnace.apiserver.authz import MODES

    modes = tuple(text.split(","))
    for mode in modes:
        if mode not in MODES:
            why = f'"{mode}" is not one of {", ".join(MODES)}'
            raise click.BadParameter(why, param_hint="--authorization-mode")
        if modes.count(mode) > 1:
            raise click.BadParameter(f'"{mode}" is given twice', param_hint="--authorization-mode")
    return modes
