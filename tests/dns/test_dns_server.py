"""Questions over real sockets, with dnslib as the client."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from dnslib import EDNS0, QTYPE, RCODE, RR, A, DNSRecord
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinnace.dns.forward import read_resolv_conf
from pinnace.dns.server import DnsServer
from tests.support.ports import free_port

SVC = "default.svc.cluster.local"


class Upstream(asyncio.DatagramProtocol):
    """A name server that answers everything with 192.0.2.1, and what it is told otherwise."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.silent = False
        self.many = 1

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.address = self._tcp.sockets[0].getsockname()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=self.address)

    def stop(self) -> None:
        self._transport.close()
        self._tcp.close()

    def _answer(self, data: bytes, limit: int) -> bytes:
        query = DNSRecord.parse(data)
        self.asked.append(str(query.q.qname))
        reply = query.reply(aa=0)
        if str(query.q.qname) == "nosuch.example.":
            reply.header.rcode = RCODE.NXDOMAIN
        else:
            for number in range(self.many):
                reply.add_answer(RR(query.q.qname, QTYPE.A, rdata=A(f"192.0.2.{number + 1}"), ttl=60))
        packed = bytes(reply.pack())
        return packed if len(packed) <= limit else bytes(reply.truncate().pack())

    def datagram_received(self, data: bytes, peer: tuple) -> None:
        if not self.silent:
            self._transport.sendto(b"noise", peer)
            self._transport.sendto(b"\0\0" + self._answer(data, 512)[2:], peer)  # forged: the id is wrong
            self._transport.sendto(self._answer(data, 512), peer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size = int.from_bytes(await reader.readexactly(2), "big")
        reply = self._answer(await reader.readexactly(size), 65535)
        writer.write(len(reply).to_bytes(2, "big") + reply)
        writer.close()


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    await made.start()
    yield made
    made.stop()


@pytest.fixture
async def server(api, make, upstream: Upstream) -> AsyncIterator[DnsServer]:
    api.put(make.namespace("default"))
    api.put(make.service("web", "10.96.0.10"))
    api.put(make.service("out", type="ExternalName", externalName="www.example.com", clusterIP=""))
    made = DnsServer(api.client, listen=[("127.0.0.1", 0)], upstreams=[upstream.address])
    await made.start()
    yield made
    await made.stop()


async def udp(server: DnsServer, query: bytes | DNSRecord, timeout: float = 8) -> DNSRecord:
    """Ask and wait for the reply."""
    data = query if isinstance(query, bytes) else bytes(query.pack())
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.setblocking(False)
        asking.connect(server.addresses[0])
        await loop.sock_sendall(asking, data)
        return DNSRecord.parse(await asyncio.wait_for(loop.sock_recv(asking, 65535), timeout))


async def tcp(server: DnsServer, *queries: DNSRecord) -> list[DNSRecord]:
    """Ask all on one connection before reading any reply."""
    reader, writer = await asyncio.open_connection(*server.addresses[0])
    for query in queries:
        data = bytes(query.pack())
        writer.write(len(data).to_bytes(2, "big") + data)
    replies = []
    for _ in queries:
        size = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), 60), "big")
        replies.append(DNSRecord.parse(await reader.readexactly(size)))
    writer.close()
    return replies


def ask(name: str, kind: str = "A") -> DNSRecord:
    return DNSRecord.question(name, kind)


def data_of(reply: DNSRecord) -> list[str]:
    return [str(rr.rdata) for rr in reply.rr]


async def test_a_service_is_answered_with_authority(server: DnsServer) -> None:
    query = ask(f"Web.{SVC}")
    reply = await udp(server, query)
    assert reply.header.id == query.header.id
    assert (reply.header.qr, reply.header.aa, reply.header.ra, reply.header.rcode) == (1, 1, 1, RCODE.NOERROR)
    assert str(reply.q.qname) == f"Web.{SVC}."
    assert data_of(reply) == ["10.96.0.10"]
    assert reply.rr[0].ttl == 30
    again = await udp(server, ask(f"Web.{SVC}"))  # now from the cache
    assert data_of(again) == ["10.96.0.10"]


async def test_absence_comes_with_the_start_of_authority(server: DnsServer) -> None:
    for name, kind, rcode in ((f"nosuch.{SVC}", "A", RCODE.NXDOMAIN), (f"web.{SVC}", "AAAA", RCODE.NOERROR)):
        reply = await udp(server, ask(name, kind))
        assert (reply.header.rcode, reply.rr) == (rcode, [])
        assert QTYPE.get(reply.auth[0].rtype) == "SOA"
        assert reply.auth[0].rdata.times[4] == 30
    reply = await udp(server, ask("cluster.local", "SOA"))
    assert QTYPE.get(reply.rr[0].rtype) == "SOA"


async def test_changes_are_seen_at_once(server: DnsServer, api, make) -> None:
    assert (await udp(server, ask(f"new.{SVC}"))).header.rcode == RCODE.NXDOMAIN
    seen = asyncio.Event()
    server._informers.informer(server._watched[0].resource).add_handler(
        added=lambda obj: seen.set() if obj["metadata"]["name"] == "new" else None
    )
    api.put(make.service("new", "10.96.0.77"))
    await asyncio.wait_for(seen.wait(), 60)
    assert data_of(await udp(server, ask(f"new.{SVC}"))) == ["10.96.0.77"]


async def test_addresses_take_turns(server: DnsServer, make) -> None:
    server.zone.set_service(make.service("many"))
    server.zone.set_slice(make.slice("many", *(f"10.244.0.{n}" for n in range(1, 5))))
    firsts = {data_of(await udp(server, ask(f"many.{SVC}")))[0] for _ in range(4)}
    assert len(firsts) == 4


async def test_tcp_carries_what_udp_cuts(server: DnsServer, make) -> None:
    server.zone.set_service(make.service("big"))
    server.zone.set_slice(make.slice("big", *(f"10.244.1.{n}" for n in range(1, 101))))
    cut = await udp(server, ask(f"big.{SVC}"))
    assert cut.header.tc == 1
    assert 0 < len(cut.rr) < 100
    assert len(cut.pack()) <= 512
    larger = ask(f"big.{SVC}")
    larger.add_ar(EDNS0(udp_len=4096))
    whole = await udp(server, larger)
    assert (whole.header.tc, len(whole.rr)) == (0, 100)
    assert QTYPE.get(whole.ar[-1].rtype) == "OPT"
    one, two = await tcp(server, ask(f"big.{SVC}"), ask(f"web.{SVC}"))
    assert (one.header.tc, len(one.rr)) == (0, 100)
    assert data_of(two) == ["10.96.0.10"]


async def test_other_names_are_asked_of_the_upstream_and_remembered(server: DnsServer, upstream: Upstream) -> None:
    query = ask("www.example.com")
    reply = await udp(server, query)
    assert reply.header.id == query.header.id
    assert data_of(reply) == ["192.0.2.1"]
    count = len(upstream.asked)
    assert data_of(await udp(server, ask("www.example.com"))) == ["192.0.2.1"]
    assert len(upstream.asked) == count
    assert (await udp(server, ask("nosuch.example"))).header.rcode == RCODE.NXDOMAIN


async def test_a_large_upstream_reply_is_fetched_over_tcp(server: DnsServer, upstream: Upstream) -> None:
    upstream.many = 100
    assert (await udp(server, ask("big.example"))).header.tc == 1
    (reply,) = await tcp(server, ask("big.example"))
    assert len(reply.rr) == 100


async def test_an_external_name_is_followed(server: DnsServer) -> None:
    reply = await udp(server, ask(f"out.{SVC}"))
    assert data_of(reply) == ["www.example.com.", "192.0.2.1"]


async def test_a_silent_upstream_is_a_failure(api, upstream: Upstream) -> None:
    upstream.silent = True
    server = DnsServer(api.client, listen=[("127.0.0.1", 0)], upstreams=[upstream.address])
    server._forwarder._timeout = 0.05
    await server.start()
    try:
        assert (await udp(server, ask("www.example.com"))).header.rcode == RCODE.SERVFAIL
    finally:
        await server.stop()


async def test_the_next_upstream_is_asked_when_one_is_dead(api, upstream: Upstream) -> None:
    dead = ("127.0.0.1", free_port())
    server = DnsServer(api.client, listen=[("127.0.0.1", 0)], upstreams=[dead, upstream.address])
    await server.start()
    try:
        assert data_of(await udp(server, ask("www.example.com"))) == ["192.0.2.1"]
    finally:
        await server.stop()


async def test_without_upstreams_the_rest_of_the_world_fails(api) -> None:
    server = DnsServer(api.client, listen=[("127.0.0.1", 0)], upstreams=[])
    assert not server.healthy
    await server.start()
    try:
        assert server.healthy
        assert (await udp(server, ask("www.example.com"))).header.rcode == RCODE.SERVFAIL
    finally:
        await server.stop()
    assert not server.healthy


async def test_what_cannot_be_answered_is_said_so(server: DnsServer) -> None:
    update = bytearray(ask("x.example").pack())
    update[2] |= 5 << 3
    assert (await udp(server, bytes(update))).header.rcode == RCODE.NOTIMP
    chaos = ask("version.bind", "TXT")
    chaos.q.qclass = 3
    assert (await udp(server, chaos)).header.rcode == RCODE.REFUSED
    assert (await udp(server, bytes(ask("a.b").pack())[:-3])).header.rcode == RCODE.FORMERR


async def test_running_ends_with_cancellation(api) -> None:
    server = DnsServer(api.client, listen=[("127.0.0.1", 0)], upstreams=[])
    task = asyncio.create_task(server.run())
    await server._watched[0].wait_synced()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.addresses == []


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80), st.booleans())
def test_no_packet_breaks_the_server(api, data: bytes, prefixed: bool) -> None:
    async def body() -> None:
        server = DnsServer(api.client, upstreams=[])
        head = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" if prefixed else b""
        server._guarded(head + data, tcp=False)

    asyncio.run(body())


def test_resolv_conf_gives_the_others(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("# comment\nsearch a b\nnameserver 10.0.0.1\nnameserver 192.0.2.7\nnameserver 10.0.0.1\n")
    assert read_resolv_conf(path, {"192.0.2.7"}) == [("10.0.0.1", 53)]
    assert read_resolv_conf(tmp_path / "nosuch", ()) == []
