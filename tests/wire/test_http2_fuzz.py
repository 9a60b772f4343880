"""No frames may raise, hang or leave a stream behind: the HTTP/2 core fed with anything, in any pieces."""

from __future__ import annotations

import asyncio

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pinnace.wire.connection import Settings
from pinnace.wire.hpack import encode_field
from pinnace.wire.http import Peer
from pinnace.wire.http2 import Http2Connection
from pinnace.wire.http2_frames import PREFACE, frame_head
from tests.wire.http2_peer import FakeChannel
from tests.wire.test_fuzz import handler

PATHS = st.sampled_from([b"/now", b"/later", b"/stream", b"/upgrade", b"/fail", b"bad"])
METHODS = st.sampled_from([b"GET", b"POST", b"HEAD"])
EXTRA = st.sampled_from([(b"content-length", b"3"), (b"expect", b"100-continue"), (b"te", b"trailers"), (b"X", b"y")])
STREAMS = st.sampled_from([0, 1, 1, 3, 3, 5, 7, 2])
KINDS = st.sampled_from([0, 0, 1, 1, 2, 3, 4, 6, 7, 8, 8, 9, 5, 0x42])


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """A header block, whole or damaged."""
    pairs = [(b":method", draw(METHODS)), (b":scheme", b"https"), (b":path", draw(PATHS)), *draw(st.lists(EXTRA))]
    block = b"".join(encode_field(name, value) for name, value in pairs)
    return draw(st.one_of(st.just(block), st.just(block), st.binary(max_size=20), st.just(block[: len(block) // 2])))


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """A frame of any type on one of a few streams."""
    kind, stream = draw(KINDS), draw(STREAMS)
    flags = draw(st.sampled_from([0, 1, 4, 5, 5, 8, 9, 0x20, 0x2D]))
    if kind in (1, 9):
        payload = draw(blocks())
    elif kind == 8:
        payload = draw(st.sampled_from([b"\0\0\0\1", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"x"]))
    elif kind == 4:
        stream = draw(st.sampled_from([0, 0, 0, 1]))
        names = st.sampled_from([b"\0\1", b"\0\2", b"\0\3", b"\0\4", b"\0\5", b"\0\6", b"\0\7"])
        values = st.sampled_from([b"\0\0\0\0", b"\0\0\0\1", b"\0\0\x40\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"])
        payload = b"".join(draw(st.lists(st.tuples(names, values).map(b"".join), max_size=3)))
    else:
        payload = draw(st.binary(max_size=20))
    return frame_head(len(payload), kind, flags, stream) + payload


START = PREFACE + frame_head(0, 4, 0, 0)


async def converse(pieces: list[bytes]) -> tuple[FakeChannel, Http2Connection]:
    """Feed the pieces as a transport would, then the end of the connection; give tasks their turns."""
    channel = FakeChannel()
    connection = Http2Connection(handler, Settings(header_bytes=4096, body_bytes=4096), channel, Peer("::1"))
    for piece in pieces:
        if channel.ended:
            break
        connection.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(30):
        await asyncio.sleep(0)
    connection.sweep(1.0, 1.0)
    connection.drained()
    if not channel.ended:
        connection.eof_received()
    connection.connection_lost()
    for _ in range(30):
        await asyncio.sleep(0)
    return channel, connection


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(frames(), frames(), frames(), st.binary(max_size=30)), max_size=12), st.data())
@example([], None)
def test_any_frames_are_answered_or_end_the_connection(pieces: list[bytes], data: st.DataObject | None) -> None:
    whole = START + b"".join(pieces)
    cuts: list[bytes] = []
    while whole:
        size = data.draw(st.integers(1, len(whole))) if data else len(whole)
        cuts.append(whole[:size])
        whole = whole[size:]
    channel, connection = asyncio.run(converse(cuts))

    assert channel.ended
    assert not connection.busy
    assert not connection.streaming
    assert (connection._held, connection._orphans, connection._sender.queued) == (0, 0, 0)
    sent = channel.take()
    while sent:  # whole frames and nothing else
        length = int.from_bytes(sent[:3], "big")
        assert len(sent) >= 9 + length
        assert sent[3] in (0, 1, 3, 4, 6, 7, 8, 9)
        sent = sent[9 + length :]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_first_bytes_are_answered_or_end_the_connection(data: bytes) -> None:
    channel, connection = asyncio.run(converse([data]))
    assert channel.ended
    assert not connection.busy
