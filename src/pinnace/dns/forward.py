"""Questions about the rest of the world: asked of the host's name servers, answers kept for a while.

Each question goes out from a socket, and with an id, of its own, so that forged replies have 32 bits to guess
(RFC 5452); a truncated reply is asked for again over TCP where the client can take it.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import structlog

from pinnace.dns.messages import answers_same_question, is_truncated, shelf_life

_log = structlog.get_logger()

_CACHED_SECONDS = 30
_CACHE_SIZE = 10_000
_MAX_PENDING = 1000  # questions under way at a time

Address = tuple[str, int]


def read_resolv_conf(path: Path, ourselves: Collection[str]) -> list[Address]:
    """The name servers of a resolv.conf without those that are this server itself."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]
    return [(address, 53) for address in dict.fromkeys(found) if address not in ourselves]


class _Reply(asyncio.DatagramProtocol):
    def __init__(self, query: bytes) -> None:
        self._query = query
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, _: Address) -> None:
        if not self.received.done() and answers_same_question(self._query, data):
            self.received.set_result(data)

    def error_received(self, error: Exception) -> None:
        if not self.received.done():
            self.received.set_exception(error)


class Forwarder:
    """Asks `upstreams` in order, each for `timeout` seconds."""

    def __init__(self, upstreams: Sequence[Address], timeout: float = 2.0) -> None:
        self.upstreams = list(upstreams)
        self._timeout = timeout
        self._slots = asyncio.Semaphore(_MAX_PENDING)
        self._cache: dict[bytes, tuple[float, bytes]] = {}

    async def ask(self, query: bytes, *, tcp: bool) -> bytes | None:
        """The reply to a query, with the query's id; None where no name server gives one."""
        key = query[2:] + (b"t" if tcp else b"u")
        kept = self._cache.get(key)
        if kept is not None:
            if kept[0] > time.monotonic():
                return query[:2] + kept[1]
            del self._cache[key]
        sent = secrets.token_bytes(2) + query[2:]
        async with self._slots:
            for upstream in self.upstreams:
                reply = await self._ask_one(upstream, sent, tcp)
                if reply is not None:
                    self._keep(key, reply)
                    return query[:2] + reply[2:]
        return None

    async def _ask_one(self, upstream: Address, query: bytes, tcp: bool) -> bytes | None:
        try:
            async with asyncio.timeout(self._timeout):
                reply = await self._ask_udp(upstream, query)
                if is_truncated(reply) and tcp:
                    reply = await self._ask_tcp(upstream, query)
                return reply
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            _log.debug("name server does not answer", upstream=upstream[0], error=str(error) or "timeout")
            return None

    async def _ask_udp(self, upstream: Address, query: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(lambda: _Reply(query), remote_addr=upstream)
        try:
            transport.sendto(query)
            return await protocol.received
        finally:
            transport.close()

    async def _ask_tcp(self, upstream: Address, query: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*upstream)
        try:
            writer.write(len(query).to_bytes(2, "big") + query)
            size = int.from_bytes(await reader.readexactly(2), "big")
            reply = await reader.readexactly(size)
        finally:
            writer.close()
        if not answers_same_question(query, reply):
            raise ValueError("reply to another question")
        return reply

    def _keep(self, key: bytes, reply: bytes) -> None:
        seconds = shelf_life(reply, _CACHED_SECONDS)
        if seconds:
            if len(self._cache) >= _CACHE_SIZE:
                self._cache.clear()
            self._cache[key] = (time.monotonic() + seconds, reply[2:])
