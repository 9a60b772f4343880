"""HTTP/2 frames as bytes: their types, flags, settings and error codes, and how each one we send is made.

Specified by RFC 9113, sections 4, 6, 7 and 11.
"""

from __future__ import annotations

import struct
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES = 9
LEAST_FRAME_BYTES = 16384  # every peer takes frames this long
WINDOW = 65535  # of a stream and of the connection, until told otherwise
LARGEST_WINDOW = (1 << 31) - 1
LARGEST_STREAM = (1 << 31) - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

HEADER_TABLE_SIZE = 1
ENABLE_PUSH = 2
MAX_CONCURRENT_STREAMS = 3
INITIAL_WINDOW_SIZE = 4
MAX_FRAME_SIZE = 5
MAX_HEADER_LIST_SIZE = 6


class Code(IntEnum):
    """Why a stream or a connection ends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11
    HTTP_1_1_REQUIRED = 13


class ConnectionFailure(Exception):
    """The peer broke the protocol in a way that ends the connection."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


class StreamFailure(Exception):
    """The peer broke the protocol, or a limit, on one stream."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.name)
        self.code = code


parse_head = struct.Struct(">HBBBL").unpack_from  # length in two parts, type, flags, stream
_head = struct.Struct(">HBBBL").pack
_setting = struct.Struct(">HL").pack


def frame_head(length: int, kind: int, flags: int, stream: int) -> bytes:
    return _head(length >> 8, length & 0xFF, kind, flags, stream)


def headers(stream: int, block: bytes, end_stream: bool, frame_bytes: int) -> bytes:
    """A HEADERS frame, with CONTINUATION frames behind it where the block is longer than a frame may be."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= frame_bytes:
        return _head(len(block) >> 8, len(block) & 0xFF, HEADERS, flags | END_HEADERS, stream) + block
    pieces = [frame_head(frame_bytes, HEADERS, flags, stream), block[:frame_bytes]]
    for start in range(frame_bytes, len(block), frame_bytes):
        piece = block[start : start + frame_bytes]
        last = start + frame_bytes >= len(block)
        pieces += (frame_head(len(piece), CONTINUATION, END_HEADERS if last else 0, stream), piece)
    return b"".join(pieces)


def settings(values: dict[int, int]) -> bytes:
    body = b"".join(_setting(name, value) for name, value in values.items())
    return frame_head(len(body), SETTINGS, 0, 0) + body


SETTINGS_ACK = frame_head(0, SETTINGS, ACK, 0)


def ping(payload: bytes, flags: int = 0) -> bytes:
    return frame_head(8, PING, flags, 0) + payload


def window_update(stream: int, increment: int) -> bytes:
    return frame_head(4, WINDOW_UPDATE, 0, stream) + increment.to_bytes(4, "big")


def rst_stream(stream: int, code: Code) -> bytes:
    return frame_head(4, RST_STREAM, 0, stream) + code.to_bytes(4, "big")


def goaway(last_stream: int, code: Code, why: str = "") -> bytes:
    debug = why.encode()
    return frame_head(8 + len(debug), GOAWAY, 0, 0) + struct.pack(">LL", last_stream, code) + debug
