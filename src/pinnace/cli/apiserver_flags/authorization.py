"""Flags of who may do what."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from pinnace.cli.apiserver_flags.section import section
from pinnace.cli.values import DURATION, FILE

options = section(
    click.option(
        "--authorization-mode",
        default="AlwaysAllow",
        show_default=True,
        help="Who decides who may do what, in order: AlwaysAllow, AlwaysDeny, ABAC, Webhook, RBAC, Node.",
    ),
    click.option("--authorization-config", type=FILE, help="An AuthorizationConfiguration, instead of modes."),
    click.option("--authorization-policy-file", type=FILE, help="Policies of ABAC, one JSON object a line."),
    click.option("--authorization-webhook-config-file", type=FILE, help="Kubeconfig of a server that decides."),
    click.option(
        "--authorization-webhook-cache-authorized-ttl",
        type=DURATION,
        default="5m",
        show_default=True,
        help="How long its consent counts.",
    ),
    click.option(
        "--authorization-webhook-cache-unauthorized-ttl",
        type=DURATION,
        default="30s",
        show_default=True,
        help="How long its refusal counts.",
    ),
    click.option(
        "--authorization-webhook-version",
        type=click.Choice(("v1", "v1beta1")),
        default="v1beta1",
        show_default=True,
        help="Of the SubjectAccessReviews it is sent.",
    ),
)

_AS_THEY_ARE = (
    "authorization_config",
    "authorization_policy_file",
    "authorization_webhook_config_file",
    "authorization_webhook_cache_authorized_ttl",
    "authorization_webhook_cache_unauthorized_ttl",
    "authorization_webhook_version",
)


def read(flags: dict[str, Any]) -> dict[str, Any]:
    modes = _modes(flags["authorization_mode"])
    if flags["authorization_config"] is not None:
        _check_alone(flags)
    else:
        _check_files(modes, flags)
    return {"authorization_modes": modes} | {name: flags[name] for name in _AS_THEY_ARE}


def _check_alone(flags: dict[str, Any]) -> None:
    """A configuration file says all of it."""
    context = click.get_current_context()
    others = [name for name in flags if name.startswith(("authorization_mode", "authorization_webhook_"))]
    if any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in others):
        why = "can not be specified when --authorization-mode or --authorization-webhook-* flags are specified"
        raise click.BadParameter(why, param_hint="--authorization-config")


def _check_files(modes: tuple[str, ...], flags: dict[str, Any]) -> None:
    """Modes that need a file have it, and no file is without its mode."""
    for mode, flag, what in (
        ("ABAC", "authorization_policy_file", "authorization policy file"),
        ("Webhook", "authorization_webhook_config_file", "authorization config file"),
    ):
        hint = "--" + flag.replace("_", "-")
        if mode in modes and flags[flag] is None:
            raise click.BadParameter(f"authorization-mode {mode}'s {what} not passed", param_hint=hint)
        if mode not in modes and flags[flag] is not None:
            raise click.BadParameter(f"cannot specify {hint} without mode {mode}", param_hint=hint)


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
