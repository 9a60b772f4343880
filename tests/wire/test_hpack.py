"""Header compression against PyPI's `hpack`, which is written by others: what one encodes the other decodes."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnace.wire.hpack import Decoder, HeadersTooLarge, HpackError, blocks, encode_field

NAMES = st.sampled_from([":path", ":method", "accept", "authorization", "x-a", "x-b", "cookie", "user-agent"])
VALUES = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=90)
HEADERS = st.lists(st.tuples(NAMES, VALUES), max_size=12)


@given(st.lists(st.tuples(HEADERS, st.booleans()), max_size=8), st.integers(0, 4096))
def test_what_a_client_encodes_is_decoded_block_after_block(
    blocks: list[tuple[list[tuple[str, str]], bool]], table: int
) -> None:
    encoder, decoder = hpack.Encoder(), Decoder(1 << 20)
    encoder.header_table_size = table
    for headers, huffman in blocks:
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        decoded = decoder.decode(encoder.encode(raw, huffman=huffman))
        assert [(name, value) for name, value, _ in decoded] == headers


@given(HEADERS, st.integers(200, 599))
def test_heads_of_responses_are_decoded_by_a_client(headers: list[tuple[str, str]], status: int) -> None:
    plain = [(name, value) for name, value in headers if not name.startswith(":")]
    decoded = hpack.Decoder().decode(blocks.get(status, tuple(plain)), raw=True)
    expected = [(name.encode(), value.strip(" \t").encode("latin-1")) for name, value in plain]
    assert list(decoded)[:-1] == [(b":status", b"%d" % status), *expected]
    assert decoded[-1][0] == b"date"


def test_headers_of_a_connection_are_not_sent() -> None:
    block = blocks.get(200, (("Connection", "close"), ("Transfer-Encoding", "chunked"), ("X", "a\r\nb")))
    assert [tuple(field) for field in hpack.Decoder().decode(block)][:-1] == [(":status", "200"), ("x", "a  b")]


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_bytes_are_decoded_or_refused(blocks: list[bytes]) -> None:
    decoder = Decoder(1000)
    try:
        for block in blocks:
            decoder.decode(block)
    except HpackError:
        pass


@pytest.mark.parametrize(
    "block",
    [
        b"\x80", b"\xbe", b"\xff\xff\xff\xff\xff\x7f", b"\xff", b"\x40", b"\x40\x05ab", b"\x00\x01a\x7f",
        b"\x82\x20", b"\x3f\xe2\x1f", b"\x00\x01a\x81\xff\xff", b"\x00\x01a\x84\xff\xff\xff\xff", b"\x00\x01a\x81\x00",
    ],
)  # fmt: skip
def test_blocks_that_mean_nothing_are_refused(block: bytes) -> None:
    with pytest.raises(HpackError):
        Decoder(1000).decode(block)


@pytest.mark.parametrize("name", ["", "X-Upper", "a b", "a:b", "connection", "transfer-encoding", "upgrade", "\xe9"])
def test_malformed_names_are_marked_and_keep_their_size_in_the_table(name: str) -> None:
    decoder = Decoder(1000)
    raw = name.encode("latin-1")
    (marked, _, size), last = decoder.decode(b"\x40%c%b\x01v\xbe" % (len(raw), raw))
    assert (marked < "!", size, last[0]) == (True, 33 + len(raw), marked)


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0b"])
def test_values_with_line_breaks_are_marked(value: str) -> None:
    [(name, _, _)] = Decoder(1000).decode(encode_field(b"x-a", value.encode()))
    assert name < "!"


def test_a_list_beyond_the_limit_is_cut_and_one_far_beyond_it_refused() -> None:
    decoder = Decoder(1000)
    entry = encode_field(b"x", b"v" * 500).replace(b"\x00", b"\x40", 1)  # kept in the table, named by one byte then
    assert len(decoder.decode(entry + b"\xbe")) == 1
    assert decoder.oversize
    assert len(decoder.decode(b"\xbe")) == 1
    assert not decoder.oversize
    with pytest.raises(HeadersTooLarge):
        decoder.decode(b"\xbe" * 100)
