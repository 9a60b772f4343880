"""Kinds of values that the servers' flags take, written as the originals write them.

Each fails with one line that names the value and what it should be; the command line adds the flag.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)


def switch(*names: str, default: bool | None, help: str, **more: Any) -> Decorator:  # noqa: A002 - click's own word
    """A boolean flag: `--name`, `--name=true` or `--name=false`."""
    return click.option(
        *names, type=bool, is_flag=False, flag_value=True, default=default, metavar="[=BOOLEAN]", help=help, **more
    )


class Text(click.ParamType):  # type: ignore[type-arg] # not generic in older versions of click
    """A value that `parse` makes of a text; its ValueError is the user's message."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f'"{text}" is not an IP address') from None


def _network(text: str) -> str:
    try:
        if "/" not in text:
            raise ValueError
        return str(ip_network(text))
    except ValueError:
        raise ValueError(f'"{text}" is not a range of addresses such as 10.244.0.0/16') from None


def _duration(text: str) -> float:
    from pinnace.machinery.duration import parse_duration

    return parse_duration(text)


def _labels(text: str) -> dict[str, str]:
    from pinnace.machinery.names import label_errors

    found = {}
    for part in _parts(text):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f'"{part}" is not KEY=VALUE')
        found[key] = value
    for cause in label_errors(found, "labels"):
        raise ValueError(cause.message)
    return found


def _amount(text: str) -> str:
    from pinnace.machinery.quantity import Quantity

    try:
        return str(Quantity.parse(text))
    except ValueError:
        raise ValueError(f'"{text}" is not an amount such as 500m or 2Gi') from None


def _amounts(text: str) -> dict[str, str]:
    found = {}
    for part in _parts(text):
        name, equals, amount = part.partition("=")
        if not equals:
            raise ValueError(f'"{part}" is not NAME=AMOUNT')
        found[name] = _amount(amount)
    return found


def _taints(text: str) -> list[dict[str, str]]:
    from pinnace.apis.core.node import validate_taints

    found = []
    for part in _parts(text):
        front, colon, effect = part.rpartition(":")
        if not colon:
            raise ValueError(f'"{part}" is not KEY=VALUE:EFFECT')
        key, _, value = front.partition("=")
        found.append({"key": key, "effect": effect, **({"value": value} if value else {})})
    for cause in validate_taints(found, "taints"):
        raise ValueError(f"{cause.field}: {cause.message}")
    return found


def _listen(text: str) -> tuple[str, int] | None:
    if not text:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(f'"{text}" is not ADDRESS:PORT')
    return _address(host.strip("[]")), int(port)


DURATION = Text("duration", _duration)
NAMES = Text("names", _parts)
ADDRESS = Text("address", _address)
ADDRESSES = Text("addresses", lambda text: [_address(part) for part in _parts(text)])
NETWORKS = Text("cidrs", lambda text: [_network(part) for part in _parts(text)])
LABELS = Text("labels", _labels)
TAINTS = Text("taints", _taints)
AMOUNT = Text("amount", _amount)
AMOUNTS = Text("amounts", _amounts)
LISTEN = Text("address:port", _listen)


def of_each_family(flags: dict[str, Any], name: str, *, needed: bool = False) -> list[str]:
    """The ranges that a flag gives, no more than one of each address family."""
    found: list[str] = flags[name]
    hint = f"--{name.replace('_', '-')}"
    if needed and not found:
        raise click.BadParameter("must contain at least one valid cidr", param_hint=hint)
    if len(found) > 2:
        raise click.BadParameter("must not contain more than two entries", param_hint=hint)
    if len({":" in cidr for cidr in found}) < len(found):
        raise click.BadParameter("must be of different IP family", param_hint=hint)
    return found
