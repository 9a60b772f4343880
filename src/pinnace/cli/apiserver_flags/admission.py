"""Flags of admission plugins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pinnace.cli.apiserver_flags.section import section

options = section(
    click.option(
        "--enable-admission-plugins", default="", help="Admission plugins to run besides those on by default."
    ),
    click.option("--disable-admission-plugins", default="", help="Admission plugins not to run."),
    click.option(
        "--admission-control-config-file",
        type=click.Path(path_type=Path),
        help="Configurations of admission plugins (AdmissionConfiguration).",
    ),
)


def read(flags: dict[str, Any]) -> dict[str, Any]:
    names = ("enable_admission_plugins", "disable_admission_plugins")
    told: dict[str, Any] = {name: _plugins(name.replace("_", "-"), flags[name]) for name in names}
    told["admission_control_config_file"] = flags["admission_control_config_file"]
    _check(**told)
    return told


def _check(
    enable_admission_plugins: tuple[str, ...],
    disable_admission_plugins: tuple[str, ...],
    admission_control_config_file: Path | None,
) -> None:
    """End the program with one line where a plugin cannot be made of its configuration."""
    if not enable_admission_plugins and admission_control_config_file is None:
        return
    from pinnace.apiserver.admission.configuration import read_admission_configuration
    from pinnace.apiserver.admission.dynamic import dynamic_plugins
    from pinnace.apiserver.admission.plugins import NAMES, build
    from pinnace.apiserver.configuration import ConfigurationError

    try:
        configurations = read_admission_configuration(admission_control_config_file, NAMES)
        dynamic = dynamic_plugins(configurations)
        build(enable_admission_plugins, disable_admission_plugins, dynamic, configurations)
    except ConfigurationError as error:
        raise click.ClickException(f"failed to initialize admission: {error}") from None


def _plugins(flag: str, text: str) -> tuple[str, ...]:
    from pinnace.apiserver.admission.plugins import NAMES

    names = tuple(filter(None, text.split(",")))
    for name in names:
        if name not in NAMES:
            raise click.BadParameter(f'{flag} plugin "{name}" is unknown', param_hint=f"--{flag}")
    return names
