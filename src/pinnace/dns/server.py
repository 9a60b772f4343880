"""The DNS server of a cluster: UDP and TCP on the given addresses, records from informers.

Answers about the cluster are made once and kept as bytes by the question's bytes until any object changes; questions
about the rest of the world go to `forward`. RFC 1035 and RFC 7766 specify the transports.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import structlog
from dnslib import RCODE, RR, DNSRecord

from pinnace.apis.resources import ENDPOINT_SLICES, NAMESPACES, SERVICES
from pinnace.client.client import Client
from pinnace.client.informer import Informer, InformerFactory
from pinnace.dns.forward import Forwarder, read_resolv_conf
from pinnace.dns.messages import (
    FormatError,
    Question,
    build,
    error_message,
    has_question,
    is_truncated,
    read_question,
    soa,
    to_rr,
)
from pinnace.dns.records import Answer, Zone
from pinnace.machinery.meta import Obj
from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()

_HEADER = 12  # bytes
_CACHE_SIZE = 20_000
_ROTATIONS = 8  # orders in which several addresses are given out
_MAX_CONNECTIONS = 500
_MAX_QUESTIONS = 2000  # that wait for others; what comes on top is dropped, as a full socket would do
_IDLE = 10.0  # seconds after which a silent TCP connection is closed

Address = tuple[str, int]


class _Kept:
    """Ready answers to one question, given out in turn."""

    __slots__ = ("_next", "_replies")

    def __init__(self, replies: list[bytes]) -> None:
        self._replies = replies  # without the id
        self._next = 0

    def take(self) -> bytes:
        reply = self._replies[self._next]
        self._next = (self._next + 1) % len(self._replies)
        return reply


class DnsServer:
    """Cluster DNS for one zone."""

    def __init__(
        self,
        client: Client,
        zone: str = "cluster.local",
        listen: Sequence[Address] = (("127.0.0.1", 53),),
        upstreams: Sequence[Address] | None = None,
        informers: InformerFactory | None = None,
        resolv_conf: Path = Path("/etc/resolv.conf"),
    ) -> None:
        self.zone = Zone(zone.rstrip(".").lower())
        self.addresses: list[Address] = []  # where it listens, real ports, once `start` has returned
        self._listen = list(listen)
        if upstreams is None:
            upstreams = read_resolv_conf(resolv_conf, {host for host, _ in listen})
        self._forwarder = Forwarder(upstreams)
        self._own_informers = informers is None
        self._informers = informers or InformerFactory(client)
        self._watched: list[Informer] = []
        self._cache: dict[bytes, _Kept] = {}
        self._serial = int(time.time())
        self._transports: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()
        self._questions: set[asyncio.Task[None]] = set()
        self._watch()

    # Life.

    def _watch(self) -> None:
        """Records follow the API's objects; any change makes the kept answers void."""
        for resource, put, remove in (
            (SERVICES, self.zone.set_service, self.zone.remove_service),
            (ENDPOINT_SLICES, self.zone.set_slice, self.zone.remove_slice),
            (NAMESPACES, self.zone.set_namespace, self.zone.remove_namespace),
        ):
            informer = self._informers.informer(resource)
            added = self._then_forget(put)
            informer.add_handler(added, self._second(added), self._then_forget(remove))
            self._watched.append(informer)

    def _then_forget(self, change: Callable[[Obj], None]) -> Callable[[Obj], None]:
        def changed(obj: Obj) -> None:
            change(obj)
            self._cache.clear()
            self._serial = int(time.time())

        return changed

    @staticmethod
    def _second(changed: Callable[[Obj], None]) -> Callable[[Obj, Obj], None]:
        return lambda _, new: changed(new)

    @property
    def healthy(self) -> bool:
        """Whether it listens and knows the cluster."""
        return bool(self.addresses) and all(informer.synced for informer in self._watched)

    async def start(self) -> None:
        """Listen, once the records are known; OSError where an address is taken."""
        if self._own_informers:
            self._informers.start()
        for informer in self._watched:
            await informer.wait_synced()
        try:
            for host, port in self._listen:
                await self._open(host, port)
        except OSError:
            await self.stop()
            raise
        _log.info("dns listening", addresses=[f"{host}:{port}" for host, port in self.addresses])

    async def _open(self, host: str, port: int) -> None:
        server = await asyncio.start_server(self._serve_tcp, host, port, backlog=128)
        self._servers.append(server)
        port = server.sockets[0].getsockname()[1]
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(host, port))
        self._transports.append(transport)
        self.addresses.append((host, port))

    async def stop(self) -> None:
        for transport in self._transports:
            transport.close()
        for server in self._servers:
            server.close()
        await end_tasks([*self._connections, *self._questions])
        self._transports, self._servers, self.addresses = [], [], []
        if self._own_informers:
            await self._informers.stop()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            await self.start()
            await asyncio.Event().wait()
        finally:
            await self.stop()

    # Questions.

    def answer_now(self, data: bytes, *, tcp: bool) -> bytes | Question | None:
        """The reply to a query that needs nobody else, the question where others must be asked, None for noise."""
        if len(data) < _HEADER or data[2] & 0x80:  # too short, or itself a reply
            return None
        key = data[2:] + (b"t" if tcp else b"u")
        kept = self._cache.get(key)
        if kept is not None:
            return data[:2] + kept.take()
        try:
            question = read_question(data)
        except FormatError as error:
            return error_message(data, error.rcode)
        answer = self.zone.lookup(question.name, question.kind)
        if answer is None or answer.alias:
            return question
        kept = _Kept([reply[2:] for reply in self._replies(question, answer, tcp)])
        if len(self._cache) >= _CACHE_SIZE:
            self._cache.clear()
        self._cache[key] = kept
        return data[:2] + kept.take()

    def _replies(self, question: Question, answer: Answer, tcp: bool) -> list[bytes]:
        """The reply, once for each order in which its addresses are given out."""
        if not answer.records:
            return [self._nothing(question, answer.exists, tcp)]
        first = next((n for n, record in enumerate(answer.records) if record.type in ("A", "AAAA")), 0)
        head, tail = answer.records[:first], answer.records[first:]
        turns = min(len(tail), _ROTATIONS) if tail[0].type in ("A", "AAAA") else 1
        additional = to_rr(answer.additional)
        return [
            build(question, answer=to_rr((*head, *tail[turn:], *tail[:turn])), additional=additional, tcp=tcp)
            for turn in range(turns)
        ]

    def _nothing(self, question: Question, exists: bool, tcp: bool) -> bytes:
        authority = soa(self.zone.domain, self._serial)
        answers = [authority] if question.kind == "SOA" and question.name == self.zone.domain else []
        return build(
            question,
            rcode=RCODE.NOERROR if exists else RCODE.NXDOMAIN,
            answer=answers,
            authority=[] if answers else [authority],
            tcp=tcp,
        )

    async def answer(self, data: bytes, question: Question, *, tcp: bool) -> bytes:
        """The reply to a question for which others must be asked; SERVFAIL where nobody answers."""
        known = self.zone.lookup(question.name, question.kind)
        if known is not None and known.alias:
            return await self._answer_alias(question, known, tcp)
        reply = await self._forwarder.ask(data, tcp=tcp)
        if reply is None:
            return build(question, rcode=RCODE.SERVFAIL, authoritative=False, tcp=tcp)
        if not tcp and (len(reply) > question.size or (is_truncated(reply) and not has_question(reply))):
            cut = bytearray(build(question, authoritative=False))
            cut[2] |= 0x02  # truncated: come again over TCP
            return bytes(cut)
        return reply

    async def _answer_alias(self, question: Question, known: Answer, tcp: bool) -> bytes:
        """A Service that is a name elsewhere: the alias, and what its target says."""
        target = DNSRecord.question(known.alias, question.kind)
        reply = await self._forwarder.ask(bytes(target.pack()), tcp=True)
        found: list[RR] = []
        rcode = RCODE.SERVFAIL
        if reply is not None:
            parsed = DNSRecord.parse(reply)
            found, rcode = list(parsed.rr), parsed.header.rcode
        return build(question, rcode=rcode, answer=[*to_rr(known.records), *found], authoritative=False, tcp=tcp)

    # Transports.

    def take_datagram(self, transport: asyncio.DatagramTransport, data: bytes, peer: Address) -> None:
        answer = self._guarded(data, tcp=False)
        if isinstance(answer, bytes):
            transport.sendto(answer, peer)
        elif answer is not None and len(self._questions) < _MAX_QUESTIONS:
            task = asyncio.create_task(self._reply_later(transport, data, answer, peer))
            self._questions.add(task)
            task.add_done_callback(self._questions.discard)

    def _guarded(self, data: bytes, *, tcp: bool) -> bytes | Question | None:
        """No packet may end the server."""
        try:
            return self.answer_now(data, tcp=tcp)
        except Exception:
            _log.exception("cannot answer a question")
            return error_message(data, RCODE.SERVFAIL)

    async def _reply_later(
        self, transport: asyncio.DatagramTransport, data: bytes, question: Question, peer: Address
    ) -> None:
        try:
            reply = await self.answer(data, question, tcp=False)
        except Exception:
            _log.exception("cannot answer a question", name=question.name)
            reply = error_message(data, RCODE.SERVFAIL)
        if not transport.is_closing():
            transport.sendto(reply, peer)

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= _MAX_CONNECTIONS:
            writer.close()
            return
        self._connections.add(task)
        try:
            while True:
                async with asyncio.timeout(_IDLE):
                    size = int.from_bytes(await reader.readexactly(2), "big")
                    data = await reader.readexactly(size)
                answer = self._guarded(data, tcp=True)
                if isinstance(answer, Question):
                    answer = await self.answer(data, answer, tcp=True)
                if answer is None:
                    return
                writer.write(len(answer).to_bytes(2, "big") + answer)
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return
        finally:
            self._connections.discard(task)
            writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # in 3.11 it is one by its methods alone

    def datagram_received(self, data: bytes, peer: Address) -> None:
        assert self._transport is not None
        self._server.take_datagram(self._transport, data, peer)
