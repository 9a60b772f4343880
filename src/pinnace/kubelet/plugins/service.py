"""One gRPC service behind the socket of a plugin. Imported when there is one, as gRPC is optional."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import grpc
import grpc.aio

from pinnace.cri.api import CriError
from pinnace.wire import grpc_calls

_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),  # a plugin that restarts is not to be waited for by minutes
)


class PluginService:
    """Calls raise CriError with the code and the words of the plugin."""

    def __init__(self, socket: Path | str, service: str) -> None:
        self._service = service
        self._channel = grpc.aio.insecure_channel(f"unix://{socket}", options=_OPTIONS)

    async def ready(self, seconds: float) -> None:
        """Return once somebody listens. Raises TimeoutError."""
        async with asyncio.timeout(seconds):
            await self._channel.channel_ready()

    async def call(self, method: str, request: Any, answer: Any, timeout: float | None = None) -> Any:
        """One call, answered with a message of the class `answer`; `timeout` in seconds, None without end."""
        try:
            return await grpc_calls.unary(self._channel, self._path(method), answer)(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise _told(error) from None

    async def follow(self, method: str, request: Any, answer: Any) -> AsyncIterator[Any]:
        """What a method answers, for as long as it does."""
        try:
            async for message in grpc_calls.stream(self._channel, self._path(method), answer)(request):
                yield message
        except grpc.aio.AioRpcError as error:
            raise _told(error) from None

    async def close(self) -> None:
        await self._channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _path(self, method: str) -> str:
        return f"/{self._service}/{method}"


def _told(error: grpc.aio.AioRpcError) -> CriError:
    return CriError(error.code().name, error.details() or "")
