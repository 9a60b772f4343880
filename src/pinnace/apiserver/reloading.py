"""Configuration files that are read again when they change, while the server runs.

inotify tells of changes beside a file, for editors and mounted ConfigMaps replace files rather than write them; a look
now and then catches what it does not see, as on NFS. Certificates are looked at when a client connects
(`pinnace.wire.tls`). A file that cannot be used is named in the log, and what it said before stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from pinnace.wire.inotify import DIRECTORY_CHANGES, Watcher

if TYPE_CHECKING:
    from pinnace.apiserver.api import Api
    from pinnace.apiserver.options import Options

log = structlog.get_logger()

SECONDS = 60.0  # between looks at a file that nobody told of
_UNTOLD_SECONDS = 10.0  # the same where the kernel has no inotify left to give


def _nothing() -> None: ...


async def follow(
    path: Path, reload: Callable[[], Awaitable[None]], seconds: float = SECONDS, done: Callable[[], None] = _nothing
) -> None:
    """Call `reload` after each change of the file, until cancelled, then `done`; OSError and ValueError are logged."""
    with _changes(path, seconds) as change:
        seen = stamp(path)
        while True:
            await change()
            now = stamp(path)
            if now == seen:
                continue
            seen = now
            try:
                await reload()
            except (OSError, ValueError) as error:
                log.error("the changed file cannot be used", file=str(path), error=str(error))
            else:
                log.info("read again", file=str(path))
                done()


@contextmanager
def _changes(path: Path, seconds: float) -> Iterator[Callable[[], Awaitable[object]]]:
    """What returns once something may have changed in the file's directory, after `seconds` at the latest."""
    with ExitStack() as stack:
        try:
            watcher = Watcher()
            stack.callback(watcher.close)
            watcher.add(path.parent, DIRECTORY_CHANGES)
        except OSError as error:
            log.warning("looked at now and then, for it cannot be watched", file=str(path), error=str(error))
            yield partial(asyncio.sleep, min(seconds, _UNTOLD_SECONDS))
        else:
            yield partial(watcher.wait, seconds)


def stamp(path: Path) -> tuple[int, int, int]:
    """What differs when a file was written or replaced; zeros where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0, 0
    return status.st_mtime_ns, status.st_ino, status.st_size


@dataclass(slots=True)
class Connections:
    """What closes those to servers that are asked who somebody is and what they may."""

    authentication: AsyncExitStack = field(default_factory=AsyncExitStack)
    authorization: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def close(self) -> None:
        await self.authentication.aclose()
        await self.authorization.aclose()


def chores(
    options: Options,
    api: Api,
    connections: Connections,
    seconds: float = SECONDS,
    done: Callable[[], None] = _nothing,
) -> list[Coroutine[Any, Any, None]]:
    """What follows the configuration files of authentication and authorization. Who is not asked any more is left."""

    async def authentication() -> None:
        from pinnace.apiserver.authentication.verifiers import more_verifiers

        verifiers, anonymous = more_verifiers(options, api.storage, opened := AsyncExitStack())
        api.authenticator.replace([api.tokens, *verifiers], anonymous)
        left, connections.authentication = connections.authentication, opened
        await left.aclose()

    async def authorization() -> None:
        from pinnace.apiserver.authorization.configuration import chain_of

        modes = chain_of(options, opened := AsyncExitStack())
        if {mode for mode in modes if isinstance(mode, str)} != {m for m in api.authorizer.modes if isinstance(m, str)}:
            raise ValueError("authorizers that are built in can neither be added nor removed while the server runs")
        api.authorizer.replace(modes)
        left, connections.authorization = connections.authorization, opened
        await left.aclose()

    found = []
    if options.authentication_config is not None:
        found.append(follow(options.authentication_config, authentication, seconds, done))
    if options.authorization_config is not None:
        found.append(follow(options.authorization_config, authorization, seconds, done))
    return found
