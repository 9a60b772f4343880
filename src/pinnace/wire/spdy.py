"""SPDY/3.1 framing: bytes in, events out, and frames to send as bytes. No I/O.

Kubernetes still carries exec, attach and port-forward in it. Specified by draft-mbelshe-httpbis-spdy-00 (SPDY/3) and
the SPDY/3.1 notes at https://www.chromium.org/spdy/. As the peers that exist (moby/spdystream) send and heed no
WINDOW_UPDATE, flow is held back by not reading the connection; windows are parsed and left alone.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

VERSION = 3

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS, PING, GOAWAY, HEADERS, WINDOW_UPDATE = 1, 2, 3, 4, 6, 7, 8, 9
FLAG_FIN = 0x01
FLAG_UNIDIRECTIONAL = 0x02

# status codes of RST_STREAM
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, UNSUPPORTED_VERSION, CANCEL, INTERNAL_ERROR = 1, 2, 3, 4, 5, 6
STREAM_ALREADY_CLOSED = 9

CONTROL_BYTES = 64 << 10  # the longest control frame taken
HEADER_BYTES = 64 << 10  # the longest header block after inflating
DATA_BYTES = (1 << 24) - 1

# 2.6.10.1: words with their length as four bytes, then loose text
_WORDS = (
    "options,head,post,put,delete,trace,accept,accept-charset,accept-encoding,accept-language,accept-ranges,age,allow,"
    "authorization,cache-control,connection,content-base,content-encoding,content-language,content-length,"
    "content-location,content-md5,content-range,content-type,date,etag,expect,expires,from,host,if-match,"
    "if-modified-since,if-none-match,if-range,if-unmodified-since,last-modified,location,max-forwards,pragma,"
    "proxy-authenticate,proxy-authorization,range,referer,retry-after,server,te,trailer,transfer-encoding,upgrade,"
    "user-agent,vary,via,warning,www-authenticate,method,get,status,200 OK,version,HTTP/1.1,url,public,set-cookie,"
    "keep-alive,origin"
)
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
    "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(struct.pack(">I", len(word)) + word.encode() for word in _WORDS.split(",")) + _TEXT.encode()

HeaderList = list[tuple[str, str]]


class SpdyError(Exception):
    """The peer broke the protocol; the connection cannot go on."""


@dataclass(slots=True)
class StreamOpened:
    stream_id: int
    headers: dict[str, str]  # names in lower case
    fin: bool  # the peer will send nothing on it
    unidirectional: bool


@dataclass(slots=True)
class StreamReplied:
    stream_id: int
    headers: dict[str, str]
    fin: bool


@dataclass(slots=True)
class DataReceived:
    stream_id: int
    data: bytes  # part of a frame; frames are not awaited whole
    fin: bool


@dataclass(slots=True)
class StreamReset:
    stream_id: int
    status: int


@dataclass(slots=True)
class PingReceived:
    ping_id: int


@dataclass(slots=True)
class WentAway:
    last_stream_id: int


Event = StreamOpened | StreamReplied | DataReceived | StreamReset | PingReceived | WentAway


class Spdy:
    """One end of a SPDY connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._data_stream = 0  # of the data frame being received
        self._data_left = 0
        self._data_fin = False
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._deflate = zlib.compressobj(zdict=DICTIONARY)

    # Receiving.

    def receive(self, data: bytes) -> list[Event]:
        """Take bytes as they come. Raises SpdyError; nothing may be received after that."""
        self._buffer += data
        events: list[Event] = []
        while self._buffer:
            if self._data_left:
                events.append(self._take_data())
                continue
            if len(self._buffer) < 8:
                break
            if not self._buffer[0] & 0x80:
                self._begin_data(events)
                continue
            length = int.from_bytes(self._buffer[5:8], "big")
            if length > CONTROL_BYTES:
                raise SpdyError(f"control frame of {length} bytes")
            if len(self._buffer) < 8 + length:
                break
            payload = bytes(self._buffer[8 : 8 + length])
            version_and_type, flags = struct.unpack_from(">IB", self._buffer)
            del self._buffer[: 8 + length]
            event = self._control(version_and_type, flags, payload)
            if event is not None:
                events.append(event)
        return events

    def _begin_data(self, events: list[Event]) -> None:
        self._data_stream, flags = struct.unpack_from(">IB", self._buffer)
        self._data_left = int.from_bytes(self._buffer[5:8], "big")
        self._data_fin = bool(flags & FLAG_FIN)
        del self._buffer[:8]
        if not self._data_left:
            events.append(DataReceived(self._data_stream, b"", self._data_fin))

    def _take_data(self) -> DataReceived:
        data = bytes(self._buffer[: self._data_left])
        del self._buffer[: len(data)]
        self._data_left -= len(data)
        return DataReceived(self._data_stream, data, self._data_fin and not self._data_left)

    def _control(self, version_and_type: int, flags: int, payload: bytes) -> Event | None:
        version, kind = (version_and_type >> 16) & 0x7FFF, version_and_type & 0xFFFF
        if version != VERSION:
            raise SpdyError(f"SPDY version {version}")
        fin = bool(flags & FLAG_FIN)
        try:
            if kind == SYN_STREAM:
                (stream_id,) = struct.unpack_from(">I", payload)
                headers = self._read_headers(payload[10:])
                return StreamOpened(stream_id & 0x7FFFFFFF, headers, fin, bool(flags & FLAG_UNIDIRECTIONAL))
            if kind in (SYN_REPLY, HEADERS):
                (stream_id,) = struct.unpack_from(">I", payload)
                headers = self._read_headers(payload[4:])
                if kind == SYN_REPLY:
                    return StreamReplied(stream_id & 0x7FFFFFFF, headers, fin)
                return DataReceived(stream_id & 0x7FFFFFFF, b"", fin) if fin else None
            if kind == RST_STREAM:
                stream_id, status = struct.unpack_from(">II", payload)
                return StreamReset(stream_id & 0x7FFFFFFF, status)
            if kind == PING:
                return PingReceived(struct.unpack_from(">I", payload)[0])
            if kind == GOAWAY:
                return WentAway(struct.unpack_from(">I", payload)[0] & 0x7FFFFFFF)
        except struct.error:
            raise SpdyError(f"frame of type {kind} is too short") from None
        return None  # SETTINGS, WINDOW_UPDATE, and types to be ignored as the specification says

    def _read_headers(self, block: bytes) -> dict[str, str]:
        try:
            plain = self._inflate.decompress(block, HEADER_BYTES)
        except zlib.error as error:
            raise SpdyError(f"header block: {error}") from None
        if self._inflate.unconsumed_tail:
            raise SpdyError("header block is too long")
        (count,) = struct.unpack_from(">I", plain)
        offset = 4
        headers: dict[str, str] = {}
        for _ in range(count):
            texts = []
            for _ in range(2):
                (length,) = struct.unpack_from(">I", plain, offset)
                offset += 4
                if offset + length > len(plain):
                    raise SpdyError("header block is cut short")
                texts.append(plain[offset : offset + length].decode("latin-1"))
                offset += length
            headers[texts[0].lower()] = texts[1].replace("\0", ", ")
        return headers

    # Sending: each returns the bytes of a frame.

    def syn_stream(self, stream_id: int, headers: HeaderList, *, fin: bool = False) -> bytes:
        block = self._write_headers(headers)
        return _control_frame(SYN_STREAM, FLAG_FIN if fin else 0, struct.pack(">IIBB", stream_id, 0, 0, 0) + block)

    def syn_reply(self, stream_id: int, headers: HeaderList, *, fin: bool = False) -> bytes:
        block = self._write_headers(headers)
        return _control_frame(SYN_REPLY, FLAG_FIN if fin else 0, struct.pack(">I", stream_id) + block)

    def _write_headers(self, headers: HeaderList) -> bytes:
        plain = bytearray(struct.pack(">I", len(headers)))
        for pair in headers:
            for text in pair:
                raw = text.encode("latin-1", "replace")
                plain += struct.pack(">I", len(raw)) + raw
        return self._deflate.compress(bytes(plain)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    @staticmethod
    def data(stream_id: int, data: bytes, *, fin: bool = False) -> bytes:
        """One data frame, or several where `data` is longer than a frame can be."""
        frames = []
        while len(data) > DATA_BYTES:
            frames.append(_data_frame(stream_id, 0, data[:DATA_BYTES]))
            data = data[DATA_BYTES:]
        frames.append(_data_frame(stream_id, FLAG_FIN if fin else 0, data))
        return b"".join(frames)

    @staticmethod
    def rst_stream(stream_id: int, status: int) -> bytes:
        return _control_frame(RST_STREAM, 0, struct.pack(">II", stream_id, status))

    @staticmethod
    def ping(ping_id: int) -> bytes:
        return _control_frame(PING, 0, struct.pack(">I", ping_id))

    @staticmethod
    def goaway(last_stream_id: int, status: int = 0) -> bytes:
        return _control_frame(GOAWAY, 0, struct.pack(">II", last_stream_id, status))


def _control_frame(kind: int, flags: int, payload: bytes) -> bytes:
    return struct.pack(">HHI", 0x8000 | VERSION, kind, flags << 24 | len(payload)) + payload


def _data_frame(stream_id: int, flags: int, data: bytes) -> bytes:
    return struct.pack(">II", stream_id, flags << 24 | len(data)) + data
