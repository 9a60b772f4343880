"""A socket whose server is made when somebody comes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from pinnace.kubelet.devices.gate import Gate


class Echo:
    """A server that answers with what it is sent."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server

    async def stop(self, _grace: float | None) -> None:
        self._server.close()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read())
    writer.close()


async def _ask(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"hello")
    writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_a_server_that_could_not_be_made_is_made_for_the_next_who_comes(tmp_path: Path) -> None:
    failures: list[Exception] = [RuntimeError("Failed to bind to address"), OSError("No space left on device")]

    async def make(socket: Path) -> Echo:
        if failures:
            raise failures.pop()
        return Echo(await asyncio.start_unix_server(_echo, socket))

    gate = Gate(tmp_path / "a.sock", make)
    await gate.open()
    try:
        async with asyncio.timeout(60):
            assert [await _ask(tmp_path / "a.sock") for _ in range(3)] == [b"", b"", b"hello"]
    finally:
        await gate.close()
