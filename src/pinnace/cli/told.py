"""The flags of a server as they are: what was given, else the default. /flagz tells them.

Values are written as Go's pflag writes them: lists in brackets, durations such as 1m30s.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from pinnace.cli.values import DURATION


def told_flags() -> dict[str, str]:
    """Those of the command that runs, by the names they have on the command line."""
    context = click.get_current_context()
    found = {}
    for parameter in context.command.params:
        if isinstance(parameter, click.Option) and parameter.expose_value:
            name = max(parameter.opts, key=len).lstrip("-")
            found[name] = _written(parameter, context.params.get(parameter.name or ""))
    return found


def _written(option: click.Option, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if option.type is DURATION:
        from pinnace.machinery.duration import go_duration

        return go_duration(value)
    if option.multiple:
        value = {name: on for each in value for name, on in each.items()} if _maps(value) else list(value)
    if isinstance(value, Mapping):
        return ",".join(f"{name}={_plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return f"[{','.join(str(each) for each in value)}]"
    return str(value)


def _maps(values: Any) -> bool:
    return all(isinstance(each, Mapping) for each in values)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
