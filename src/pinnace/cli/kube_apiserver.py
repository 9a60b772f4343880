"""`pinnace kube-apiserver`: the API server alone, with the original's flags (`pinnace.cli.apiserver_flags`)."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.apiserver_flags import admission, audit, authentication, authorization, cluster, serving, storage
from pinnace.cli.serving import run, verbosity_option

if TYPE_CHECKING:
    from pinnace.apiserver.options import Options

_SECTIONS = (serving, storage, authentication, authorization, audit, admission, cluster)


@click.command("kube-apiserver")
@serving.options
@storage.options
@authentication.options
@authorization.options
@audit.options
@admission.options
@cluster.options
@verbosity_option
def command(verbosity: int, **flags: Any) -> None:
    """Run the Kubernetes API server alone, in the foreground."""
    location = storage.location(flags)
    options = _options(flags)

    async def start() -> Coroutine[Any, Any, None]:
        import asyncio

        from pinnace.apiserver.server import ApiServer
        from pinnace.store.contract import StoreError

        try:
            store = await location.open()
        except StoreError as error:
            raise click.ClickException(f"kube-apiserver cannot start: {error}") from None
        server = ApiServer(options, store)
        await server.start()

        async def serve() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await server.stop()
                await store.close()

        return serve()

    run("kube-apiserver", verbosity, start)


def _options(flags: dict[str, Any]) -> Options:
    from pinnace.apiserver.options import Options

    told: dict[str, Any] = {}
    for section in _SECTIONS:
        told |= section.read(flags)
    return Options(**told)
