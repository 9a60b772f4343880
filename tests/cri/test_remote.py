"""A runtime at an endpoint, as a busy machine shows it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pinnace.cri.api import CriError
from pinnace.cri.remote import RemoteRuntimeService


async def test_a_runtime_that_is_slow_to_greet_is_not_taken_to_be_away(tmp_path: Path) -> None:
    came = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_unix_server(say_nothing, tmp_path / "s"):
        runtime = RemoteRuntimeService(f"unix://{tmp_path}/s")
        asking = asyncio.ensure_future(runtime.version())
        await came.wait()
        await asyncio.wait([asking], timeout=0.5)
        assert not asking.done()
        await runtime.close()
        with pytest.raises((CriError, asyncio.CancelledError)):
            await asking


async def test_where_nobody_listens_calls_fail_at_once(tmp_path: Path) -> None:
    runtime = RemoteRuntimeService(f"unix://{tmp_path}/s")
    with pytest.raises(CriError, match=r"dial unix .*/s: connect: no such file or directory"):
        await runtime.version()
    await runtime.close()
