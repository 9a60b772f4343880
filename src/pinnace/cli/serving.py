"""What the commands that run one server in the foreground share: logging, the connection, the end by signal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pinnace.client.client import Client

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

verbosity_option: Decorator = click.option(
    "-v", "--v", "verbosity", type=int, default=0, help="Log level: 2 and above log what helps to debug."
)

kubeconfig_option: Decorator = click.option(
    "--kubeconfig", type=click.Path(dir_okay=False, path_type=Path), help="How to reach the API server, and as whom."
)

leader_elect_option: Decorator = click.option(
    "--leader-elect/--no-leader-elect",
    default=True,
    show_default=True,
    help="Act only while holding the lease: several may run, one acts.",
)


def connect(kubeconfig: Path | None, component: str) -> Client:
    """A client by kubeconfig, or, in a pod, by its service account; ends the program when neither is there."""
    from pinnace.client.client import Client
    from pinnace.client.https import HttpsTransport
    from pinnace.client.kubeconfig import KubeconfigError, in_cluster, load

    try:
        connection = load(kubeconfig) if kubeconfig else in_cluster()
    except KubeconfigError as error:
        raise click.ClickException(str(error)) from None
    return Client(HttpsTransport(connection, user_agent=f"pinnace/{component}"))


def run(name: str, verbosity: int, start: Callable[[], Awaitable[Coroutine[Any, Any, None]]]) -> None:
    """Run one server until SIGTERM or SIGINT; `start` makes it, in the event loop, and returns what runs it."""
    from pinnace.cluster import process

    process.configure_logging(verbosity)

    async def serve() -> None:
        await process.run_together({name: await start()})

    asyncio.run(serve())
