"""Calls to an etcd cluster: one member at a time, the next one where it does not answer.

Every call is one that may be made again: reads, and writes that compare first. The services and their errors are
https://etcd.io/docs/latest/learning/api/; what is retried is what etcd's own client retries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from pinnace.store import etcd_messages as messages
from pinnace.store.contract import StoreError

ATTEMPT_SECONDS = 5.0  # until a member is taken to be lost
CALL_SECONDS = 15.0  # until a call fails, over all members
BACKOFF = 0.05  # seconds before every member is asked again
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # as large as what etcd was let store
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 10_000),  # a member behind a dead link is noticed
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # in fact how long a member may take to greet
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),
)
_HAS_LEADER = (("hasleader", "true"),)  # end the stream when the member is cut off from the others
_METHODS = {
    "Range": ("/etcdserverpb.KV/Range", messages.RangeResponse),
    "Put": ("/etcdserverpb.KV/Put", messages.PutResponse),
    "Txn": ("/etcdserverpb.KV/Txn", messages.TxnResponse),
    "Compact": ("/etcdserverpb.KV/Compact", messages.CompactionResponse),
}


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files; the client's own certificate and key are given together or not at all."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def credentials(self) -> Any:
        """Raises StoreError for a file that cannot be read."""
        try:
            ca, key, cert = (
                None if file is None else file.read_bytes() for file in (self.ca_file, self.key_file, self.cert_file)
            )
        except OSError as error:
            raise StoreError(f"{error.filename}: {error.strerror}") from error
        return grpc.ssl_channel_credentials(ca, key, cert)


class _Member:
    """One endpoint: its channel and the calls on it."""

    def __init__(self, endpoint: str, tls: TlsFiles) -> None:
        scheme, _, target = endpoint.rpartition("://")
        self.endpoint = endpoint
        if scheme == "https":
            self._channel = grpc.aio.secure_channel(target, tls.credentials(), options=_OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(target, options=_OPTIONS)
        self.calls = {
            name: self._channel.unary_unary(
                path,
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=response.FromString,
            )
            for name, (path, response) in _METHODS.items()
        }
        self.watch = self._channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.WatchResponse.FromString,
        )

    async def close(self) -> None:
        await self._channel.close()


class EtcdClient:
    """The members at `endpoints` (`http://host:port` or `https://host:port`). Made in the loop that uses it."""

    def __init__(self, endpoints: Sequence[str], tls: TlsFiles) -> None:
        self._members = [_Member(endpoint, tls) for endpoint in endpoints]
        self._current = 0

    @property
    def endpoint(self) -> str:
        """Who is asked now."""
        return self._members[self._current].endpoint

    def next_member(self, instead_of: str) -> None:
        """Ask another from now on, unless somebody has turned away from `instead_of` already."""
        if self.endpoint == instead_of:
            self._current = (self._current + 1) % len(self._members)

    async def call(self, method: str, request: Any) -> tuple[Any, bool]:
        """The response, and whether an earlier attempt may have been carried out too.

        Raises StoreError with etcd's own words when it refuses, or when no member answers.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + CALL_SECONDS
        tried = 0
        while True:
            member = self._members[self._current]
            try:
                timeout = min(ATTEMPT_SECONDS, max(end - loop.time(), 0.1))
                return await member.calls[method](request, timeout=timeout), tried > 0
            except grpc.aio.AioRpcError as error:
                tried += 1
                if error.code() not in _AGAIN or loop.time() >= end:
                    raise StoreError(f"{member.endpoint}: {error.details()}") from error
            self.next_member(member.endpoint)
            if tried % len(self._members) == 0:
                await asyncio.sleep(BACKOFF)

    def watch(self) -> Any:
        """A new watch stream to the current member."""
        return self._members[self._current].watch(metadata=_HAS_LEADER)

    async def close(self) -> None:
        for member in self._members:
            await member.close()
