"""SPDY/3.1 framing: what one end sends the other understands, byte by byte, and nonsense is an error."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnace.wire import spdy
from pinnace.wire.spdy import (
    DataReceived,
    PingReceived,
    Spdy,
    SpdyError,
    StreamOpened,
    StreamReplied,
    StreamReset,
    WentAway,
)

HEADERS = st.dictionaries(
    st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20), st.text(max_size=30).map(ascii), max_size=5
)


def test_dictionary_is_that_of_the_specification() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


def test_frames_look_as_specified() -> None:
    assert Spdy.ping(1) == bytes.fromhex("80030006 00000004 00000001")
    assert Spdy.rst_stream(3, spdy.CANCEL) == bytes.fromhex("80030003 00000008 00000003 00000005")
    assert Spdy.data(5, b"ab", fin=True) == bytes.fromhex("00000005 01000002") + b"ab"
    assert Spdy().syn_stream(1, [("a", "b")])[8:20] == bytes.fromhex("00000001 00000000 0000 78bb")


def test_a_conversation() -> None:
    client, server = Spdy(), Spdy()
    sent = client.syn_stream(1, [("streamType", "stdout"), ("port", "80")])
    sent += client.syn_stream(3, [("streamType", "error")], fin=True)
    sent += Spdy.data(1, b"hello") + Spdy.data(1, b"", fin=True) + Spdy.ping(7) + Spdy.goaway(3)
    assert server.receive(sent) == [
        StreamOpened(1, {"streamtype": "stdout", "port": "80"}, False, False),
        StreamOpened(3, {"streamtype": "error"}, True, False),
        DataReceived(1, b"hello", False),
        DataReceived(1, b"", True),
        PingReceived(7),
        WentAway(3),
    ]
    answered = server.syn_reply(1, []) + Spdy.rst_stream(3, spdy.REFUSED_STREAM)
    assert client.receive(answered) == [StreamReplied(1, {}, False), StreamReset(3, spdy.REFUSED_STREAM)]


def test_settings_and_window_updates_are_passed_over() -> None:
    settings = struct.pack(">HHII", 0x8003, spdy.SETTINGS, 12, 1) + bytes(8)
    window = struct.pack(">HHIII", 0x8003, spdy.WINDOW_UPDATE, 8, 1, 100)
    assert Spdy().receive(settings + window + Spdy.ping(1)) == [PingReceived(1)]


@given(st.lists(st.tuples(HEADERS, st.binary(max_size=200), st.booleans()), max_size=6), st.data())
def test_any_split_of_the_bytes_gives_the_same_streams(
    streams: list[tuple[dict[str, str], bytes, bool]], data: st.DataObject
) -> None:
    client, server = Spdy(), Spdy()
    sent = b""
    for number, (headers, body, fin) in enumerate(streams):
        sent += client.syn_stream(2 * number + 1, list(headers.items()))
        sent += Spdy.data(2 * number + 1, body, fin=fin)
    events = []
    while sent:
        cut = data.draw(st.integers(1, len(sent)))
        events += server.receive(sent[:cut])
        sent = sent[cut:]
    opened = [event.headers for event in events if isinstance(event, StreamOpened)]
    assert opened == [headers for headers, _, _ in streams]
    for number, (_, body, fin) in enumerate(streams):
        parts = [e for e in events if isinstance(e, DataReceived) and e.stream_id == 2 * number + 1]
        assert b"".join(part.data for part in parts) == body
        assert any(part.fin for part in parts) == fin


BAD = {
    "wrong version": bytes.fromhex("80020001 00000000"),
    "control frame too long": bytes.fromhex("80030001 00ffffff"),
    "short SYN_STREAM": bytes.fromhex("80030001 00000002 0000"),
    "header block that is no zlib": bytes.fromhex("80030001 0000000e 00000001 00000000 0000 ffffffff"),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_nonsense_is_an_error(data: bytes) -> None:
    with pytest.raises(SpdyError):
        Spdy().receive(data)


def test_header_block_cannot_inflate_without_bound() -> None:
    bomb = Spdy().syn_stream(1, [("a", "b" * 1_000_000)])
    assert len(bomb) < 5000
    with pytest.raises(SpdyError, match="too long"):
        Spdy().receive(bomb)


@given(st.binary(max_size=400))
def test_any_bytes_give_events_or_spdy_error(data: bytes) -> None:
    for prefix in (b"", bytes.fromhex("8003"), bytes.fromhex("800300010000"), Spdy().syn_stream(1, [])):
        try:
            Spdy().receive(prefix + data)
        except SpdyError:
            pass
