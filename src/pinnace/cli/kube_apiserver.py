"""`pinnace kube-apiserver`: the API server alone, with the original's flags (`pinnace.cli.apiserver_flags`)."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

from pinnace.cli.apiserver_flags import admission, audit, authentication, authorization, cluster, serving, storage
from pinnace.cli.serving import run, verbosity_option
from pinnace.cli.told import told_flags
from pinnace.cli.versions import version_option

if TYPE_CHECKING:
    from pinnace.apiserver.options import Options
    from pinnace.machinery.features import FeatureGates

_SECTIONS = (serving, storage, authentication, authorization, audit, admission, cluster)


@click.command("kube-apiserver")
@serving.options
@storage.options
@authentication.options
@authorization.options
@audit.options
@admission.options
@cluster.options
@version_option
@verbosity_option
def command(verbosity: int, **flags: Any) -> None:
    """Run the Kubernetes API server alone, in the foreground."""
    from pinnace.apiserver.options import Options

    location = storage.location(flags)
    options = Options(**read(flags), flags=told_flags())
    check(options)

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

    run("kube-apiserver", verbosity, start, _features(options))


def _features(options: Options) -> FeatureGates:
    from pinnace.apis.builtin import NEWEST
    from pinnace.machinery.features import FeatureGates

    return FeatureGates(options.minor or NEWEST, options.feature_gates)


def read(flags: dict[str, Any]) -> dict[str, Any]:
    """What the flags say, by the names of `Options`' fields."""
    told: dict[str, Any] = {}
    for section in _SECTIONS:
        told |= section.read(flags)
    return told


def check(options: Options) -> None:
    """End the program with one line where a file that a flag names cannot be used."""
    from pinnace.apiserver.authentication.configuration import authentication
    from pinnace.apiserver.authorization.abac import load_policies
    from pinnace.apiserver.authorization.configuration import load_authorization
    from pinnace.apiserver.configuration import ConfigurationError

    try:
        if options.authentication_config is not None or options.oidc is not None:
            authentication(options)
        if options.authorization_config is not None:
            load_authorization(options.authorization_config)
        if options.authorization_policy_file is not None:
            load_policies(options.authorization_policy_file)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None
