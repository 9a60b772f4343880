"""Configuration files that are read again when they change, while the server runs.

One look at a file every few seconds is enough for what administrators change by hand; certificates are looked at when a
client connects (`pinnace.wire.tls`). A file that cannot be used is named in the log, and what it said before stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from pinnace.apiserver.api import Api
    from pinnace.apiserver.options import Options

log = structlog.get_logger()

SECONDS = 10.0


def _nothing() -> None: ...


async def follow(
    path: Path, reload: Callable[[], None], seconds: float = SECONDS, done: Callable[[], None] = _nothing
) -> None:
    """Call `reload` after each change of the file, until cancelled, then `done`; OSError and ValueError are logged."""
    seen = stamp(path)
    while True:
        await asyncio.sleep(seconds)
        now = stamp(path)
        if now == seen:
            continue
        seen = now
        try:
            reload()
        except (OSError, ValueError) as error:
            log.error("the changed file cannot be used", file=str(path), error=str(error))
        else:
            log.info("read again", file=str(path))
            done()


def stamp(path: Path) -> tuple[int, int, int]:
    """What differs when a file was written or replaced; zeros where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_ino, status.st_size


def chores(
    options: Options,
    api: Api,
    closing: AsyncExitStack,
    seconds: float = SECONDS,
    done: Callable[[], None] = _nothing,
) -> list[Coroutine[Any, Any, None]]:
    """What follows the configuration files of authentication and authorization."""

    def authentication() -> None:
        from pinnace.apiserver.authentication.verifiers import more_verifiers

        verifiers, anonymous = more_verifiers(options, api.storage, closing)
        api.authenticator.replace([api.tokens, *verifiers], anonymous)

    def authorization() -> None:
        from pinnace.apiserver.authorization.configuration import chain_of

        modes = chain_of(options, closing)
        if {mode for mode in modes if isinstance(mode, str)} != {m for m in api.authorizer.modes if isinstance(m, str)}:
            raise ValueError("authorizers that are built in can neither be added nor removed while the server runs")
        api.authorizer.replace(modes)

    found = []
    if options.authentication_config is not None:
        found.append(follow(options.authentication_config, authentication, seconds, done))
    if options.authorization_config is not None:
        found.append(follow(options.authorization_config, authorization, seconds, done))
    return found
