"""A runtime at an endpoint, as a busy machine shows it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from pinnace.cri.api import CriError
from pinnace.cri.remote import RemoteRuntimeService
from pinnace.cri.v1.messages import RUNTIME_SERVICE, message_class
from pinnace.wire import grpc_calls


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


async def test_pods_are_told_of_while_one_of_them_is_just_coming(tmp_path: Path) -> None:
    """A containerd of 1.6 refuses to tell of all together then."""

    async def unable(_: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.UNKNOWN, 'failed to decode metrics of sandbox "coming"')

    async def listed(*_: Any) -> Any:
        boxes = [message_class("PodSandbox")(id=name, state=state) for name, state in STATES.items()]
        return message_class("ListPodSandboxResponse")(items=boxes)

    async def one(request: Any, context: Any) -> Any:
        if request.pod_sandbox_id != "there":
            await context.abort(grpc.StatusCode.UNKNOWN, "no metrics yet")
        stats = message_class("PodSandboxStats")(attributes=message_class("PodSandboxAttributes")(id="there"))
        return message_class("PodSandboxStatsResponse")(stats=stats)

    methods = {"ListPodSandboxStats": unable, "ListPodSandbox": listed, "PodSandboxStats": one}
    served = {name: (message_class(f"{name}Request"), handle) for name, handle in methods.items()}
    server = await grpc_calls.serve(tmp_path / "s", RUNTIME_SERVICE, served)
    runtime = RemoteRuntimeService(f"unix://{tmp_path}/s")
    try:
        assert [stats.id for stats in await runtime.list_pod_sandbox_stats()] == ["there"]
    finally:
        await runtime.close()
        await server.stop(None)


STATES = {"there": 0, "coming": 0, "gone": 1}  # ready and not, in CRI's numbers
