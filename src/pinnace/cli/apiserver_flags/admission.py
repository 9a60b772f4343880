"""Flags of admission plugins."""

from __future__ import annotations

from typing import Any

import click

from pinnace.cli.apiserver_flags.section import section

options = section(
    click.option(
        "--enable-admission-plugins", default="", help="Admission plugins to run besides those on by default."
    ),
    click.option("--disable-admission-plugins", default="", help="Admission plugins not to run."),
)


def read(flags: dict[str, Any]) -> dict[str, Any]:
    names = ("enable_admission_plugins", "disable_admission_plugins")
    return {name: _plugins(name.replace("_", "-"), flags[name]) for name in names}


def _plugins(flag: str, text: str) -> tuple[str, ...]:
    from pinnace.apiserver.admission.plugins import NAMES

    names = tuple(filter(None, text.split(",")))
    for name in names:
        if name not in NAMES:
            raise click.BadParameter(f'{flag} plugin "{name}" is unknown', param_hint=f"--{flag}")
    return names
