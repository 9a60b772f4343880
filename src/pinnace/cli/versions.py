"""Which Kubernetes a server is: `--emulated-version` and `--feature-gates`.

https://kubernetes.io/docs/reference/command-line-tools-reference/feature-gates/.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.values import Text

if TYPE_CHECKING:
    from pinnace.machinery.features import FeatureGates

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _gates(text: str) -> dict[str, bool]:
    from pinnace.machinery.features import parse_feature_gates

    return parse_feature_gates(text)


emulated_version_option: Decorator = click.option(
    "--emulated-version", default="", help="Kubernetes version to be, such as 1.36.  [default: the newest]"
)

feature_gates_option: Decorator = click.option(
    "--feature-gates",
    type=Text("NAME=true|false,...", _gates),
    multiple=True,
    help="Features to turn on or off; AllAlpha and AllBeta stand for all of them.",
)


def _tell_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from pinnace.apis.builtin import NEWEST

        click.echo(f"Kubernetes v1.{NEWEST}.0")
        context.exit()


version_option: Decorator = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    callback=_tell_version,
    expose_value=False,
    help="Tell the version, and end.",
)


def read_minor(flags: dict[str, Any]) -> int:
    """36 of `1.36`, `v1.36.2` and `kube=1.36`; the newest where no version is given."""
    from pinnace.machinery.schema import Schemas

    version, minors = flags["emulated_version"], Schemas.minors()
    if not version:
        return max(minors)
    parts = version.removeprefix("kube=").lstrip("v").split(".")
    if len(parts) < 2 or parts[0] != "1" or not parts[1].isdigit() or int(parts[1]) not in minors:
        served = f"1.{min(minors)} to 1.{max(minors)}"
        raise click.BadParameter(f'"{version}" is not one of {served}', param_hint="--emulated-version")
    return int(parts[1])


def read_features(flags: dict[str, Any], minor: int, configured: dict[str, bool] | None = None) -> FeatureGates:
    """The gates that the flag sets, over those of a configuration file. Ends the program for what cannot be."""
    from pinnace.machinery.features import FeatureGateError, FeatureGates

    try:
        return FeatureGates(minor, {**(configured or {}), **(merged(flags["feature_gates"]) or {})})
    except FeatureGateError as error:
        raise click.BadParameter(str(error), param_hint="--feature-gates") from None


def merged(given: Iterable[dict[str, bool]]) -> dict[str, bool] | None:
    """What all of a command line's `--feature-gates` say together, the last word winning; None where there is none."""
    found: dict[str, bool] | None = None
    for each in given:
        found = {**(found or {}), **each}
    return found
