"""A socket at which a gRPC server is made only when somebody comes: most nodes have no plugin, and need no gRPC.

The gate listens where clients look for the server. The first connection has the server made, at a socket beside; bytes
of every connection are carried between the two. Without `grpcio` connections are closed, and the log says why.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import structlog

from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()


class Server(Protocol):
    """As much of `grpc.aio.Server` as the gate needs."""

    async def stop(self, grace: float | None) -> None: ...


Make = Callable[[Path], Awaitable[Server]]
"""Starts the server at a socket."""


class Gate:
    """One such socket."""

    def __init__(self, path: Path, make: Make) -> None:
        self._path = path
        self._inner = path.with_name(f".{path.name}")
        self._make = make
        self._listener: asyncio.Server | None = None
        self._server: asyncio.Task[Server] | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen; what a predecessor left at the path goes."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._path.unlink(missing_ok=True)
        self._listener = await asyncio.start_unix_server(self._accept, self._path)
        self._path.chmod(0o660)

    async def close(self) -> None:
        if self._listener is not None:
            self._listener.close()
        await end_tasks(self._sessions)
        if self._server is not None:
            with contextlib.suppress(ImportError, OSError, RuntimeError):  # it may not have come about
                await (await self._server).stop(None)
        for path in (self._path, self._inner):
            path.unlink(missing_ok=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = asyncio.ensure_future(self._carry(reader, writer))
        self._sessions.add(session)
        session.add_done_callback(self._sessions.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await asyncio.shield(self._served())
            inner_reader, inner_writer = await asyncio.open_unix_connection(self._inner)
            try:
                await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
            finally:
                inner_writer.close()
        except ImportError:
            _log.warning('gRPC is not installed: pip install "pinnace[cri]"', socket=str(self._path))
        except (OSError, RuntimeError) as error:  # RuntimeError: gRPC's for a socket that it cannot listen on
            _log.warning("connection is lost", socket=str(self._path), error=str(error))
        finally:
            writer.close()

    def _served(self) -> asyncio.Task[Server]:
        """The server, made by whoever comes first, and again where it could not be made."""
        if self._server is None or (self._server.done() and self._server.exception() is not None):
            self._inner.unlink(missing_ok=True)
            self._server = asyncio.ensure_future(self._start())
        return self._server

    async def _start(self) -> Server:
        return await self._make(self._inner)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
