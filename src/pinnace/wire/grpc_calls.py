"""Calls to gRPC services and handlers of their methods, for messages that `machinery.message_table` made.

Needs `grpcio`, which is optional: import this where something is to be called.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

Handle = Callable[[Any, Any], Awaitable[Any]]
"""A request and its context to an answer."""


def serialize(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def unary(channel: grpc.aio.Channel, path: str, answer: Any) -> Any:
    """A method (`/package.Service/Method`) that answers once, with a message of the class `answer`."""
    return channel.unary_unary(path, request_serializer=serialize, response_deserializer=answer.FromString)


def stream(channel: grpc.aio.Channel, path: str, answer: Any) -> Any:
    """A method that goes on answering."""
    return channel.unary_stream(path, request_serializer=serialize, response_deserializer=answer.FromString)


async def serve(socket: Path, service: str, methods: Mapping[str, tuple[Any, Handle]]) -> grpc.aio.Server:
    """Serve one service at a Unix socket; `methods` by name: the class of the request, and who answers it."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(handle, request.FromString, serialize)
        for name, (request, handle) in methods.items()
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"unix://{socket}")
    await server.start()
    return server
