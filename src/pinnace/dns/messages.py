"""DNS messages: from an `Answer` to bytes within the size that the asker takes, and the little that must be read.

Pure. RFC 1035 specifies the messages, RFC 2308 negative answers, RFC 6891 EDNS.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import dnslib
from dnslib import AAAA, CNAME, NS, PTR, QTYPE, RCODE, RR, SOA, SRV, TXT, A, DNSHeader, DNSLabel, DNSRecord

from pinnace.dns.records import PRIORITY, WEIGHT, Record

TTL = 30  # seconds, as kubeadm's CoreDNS answers
_MIN_SIZE = 512  # bytes that every asker takes over UDP
_MAX_SIZE = 4096  # bytes sent over UDP at most, whatever the asker says
_MAX_TCP = 65535
_HEADER = 12


@dataclass(slots=True)
class Question:
    """The one question of a query."""

    record: DNSRecord
    name: str  # lower case, without the last dot
    kind: str  # A, AAAA, …; TYPE65 and the like for those without a name
    size: int  # bytes that the asker takes over UDP


class FormatError(Exception):
    """A message that cannot be answered as a question; `rcode` is what to say."""

    def __init__(self, rcode: int) -> None:
        super().__init__(RCODE.get(rcode))
        self.rcode = rcode


def read_question(data: bytes) -> Question:
    """FormatError for anything but one question of class IN."""
    if data[2] & 0x78:  # the opcode
        raise FormatError(RCODE.NOTIMP)
    try:
        record = DNSRecord.parse(data)
    except Exception as error:  # dnslib lets other exceptions than its own out on hostile input
        raise FormatError(RCODE.FORMERR) from error
    if len(record.questions) != 1:
        raise FormatError(RCODE.FORMERR)
    if record.q.qclass != dnslib.CLASS.IN:
        raise FormatError(RCODE.REFUSED)
    size = next((rr.edns_len for rr in record.ar if rr.rtype == QTYPE.OPT), _MIN_SIZE)
    kind = QTYPE.get(record.q.qtype)
    name = b".".join(record.q.qname.label).decode("latin-1").lower()
    return Question(record, name, str(kind), min(max(size, _MIN_SIZE), _MAX_SIZE))


def error_message(data: bytes, rcode: int) -> bytes:
    """An answer to a message of which only the header can be trusted."""
    header = DNSHeader(id=int.from_bytes(data[:2], "big"), q=0, qr=1, ra=1, rd=data[2] & 1, rcode=rcode)
    header.opcode = data[2] >> 3 & 15
    return bytes(DNSRecord(header).pack())


def _rdata(record: Record) -> Any:
    if isinstance(record.data, tuple):
        port, target = record.data
        return SRV(PRIORITY, WEIGHT, port, _label(target))
    if record.type in ("A", "AAAA"):
        return (A if record.type == "A" else AAAA)(record.data)
    if record.type == "TXT":
        return TXT(record.data)
    return {"CNAME": CNAME, "PTR": PTR, "NS": NS}[record.type](_label(record.data))


def _label(name: str) -> DNSLabel:
    return DNSLabel(name.encode("latin-1"))


def to_rr(records: Iterable[Record]) -> list[RR]:
    return [RR(_label(record.name), getattr(QTYPE, record.type), rdata=_rdata(record), ttl=TTL) for record in records]


def soa(domain: str, serial: int) -> RR:
    """The zone's start of authority: how long its absence of a name may be remembered."""
    times = (serial, 7200, 1800, 86400, TTL)
    return RR(_label(domain), QTYPE.SOA, rdata=SOA(f"ns.dns.{domain}", f"hostmaster.{domain}", times), ttl=TTL)


def build(
    question: Question,
    *,
    rcode: int = RCODE.NOERROR,
    answer: Sequence[RR] = (),
    authority: Sequence[RR] = (),
    additional: Sequence[RR] = (),
    authoritative: bool = True,
    tcp: bool = False,
) -> bytes:
    """The answer's bytes; over UDP as much of it as fits, marked as truncated if that is not all."""
    limit = _MAX_TCP if tcp else question.size
    answer, extra = list(answer), list(additional)
    truncated = False
    while True:
        data = _pack(question, rcode, answer, authority, extra, authoritative, truncated)
        if len(data) <= limit or not (answer or extra):
            return data
        if extra:
            extra = []  # helpful only
        else:
            truncated = True
            answer = answer[: max(0, min(len(answer) - 1, len(answer) * limit // len(data)))]


def _pack(
    question: Question,
    rcode: int,
    answer: Sequence[RR],
    authority: Sequence[RR],
    additional: Sequence[RR],
    authoritative: bool,
    truncated: bool,
) -> bytes:
    record = question.record
    header = DNSHeader(id=record.header.id, qr=1, aa=authoritative, tc=truncated, rd=record.header.rd, ra=1)
    header.rcode = rcode
    reply = DNSRecord(header, q=record.q)
    reply.add_answer(*answer)
    reply.add_auth(*authority)
    reply.add_ar(*additional)
    if any(rr.rtype == QTYPE.OPT for rr in record.ar):
        reply.add_ar(dnslib.EDNS0(udp_len=_MAX_SIZE))
    return bytes(reply.pack())


def answers_same_question(query: bytes, reply: bytes) -> bool:
    """Whether a name server's reply belongs to a query: id and question."""
    if len(reply) < _HEADER or reply[:2] != query[:2] or not reply[2] & 0x80:
        return False
    try:
        asked, answered = DNSRecord.parse(query), DNSRecord.parse(reply)
    except Exception:  # as above
        return False
    if not answered.questions:  # some leave it out where they say no more than that they cannot
        return bool(answered.header.rcode != RCODE.NOERROR or answered.header.tc)
    q, r = asked.q, answered.q
    return bool(q.qtype == r.qtype and q.qclass == r.qclass and str(q.qname).lower() == str(r.qname).lower())


def is_truncated(reply: bytes) -> bool:
    return bool(reply[2] & 0x02)


def has_question(reply: bytes) -> bool:
    return reply[4:6] != b"\0\0"


def shelf_life(reply: bytes, limit: int) -> int:
    """Seconds for which a name server's reply may be repeated; 0 for failures."""
    record = DNSRecord.parse(reply)
    if record.header.rcode not in (RCODE.NOERROR, RCODE.NXDOMAIN):
        return 0
    times = [rr.ttl for rr in record.rr]
    if not times:  # a negative answer lives as long as the SOA says
        times = [min(rr.ttl, rr.rdata.times[4]) for rr in record.auth if rr.rtype == QTYPE.SOA]
    return min([*times, limit]) if times else 0
