"""HTTP/2 in memory, against a client made of PyPI's `h2`: framing, flow control, limits, resets, going away."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable

import h2.events
import h2.settings
import pytest

from pinnace.wire import http2
from pinnace.wire.connection import Settings
from pinnace.wire.hpack import encode_field
from pinnace.wire.http import (
    AnyResponse,
    Request,
    Response,
    StreamingResponse,
    UpgradeResponse,
    Writer,
    frame_chunk,
    lines_of,
)
from pinnace.wire.http2_frames import Code, frame_head
from tests.wire.conftest import PATIENCE
from tests.wire.http2_peer import Got, Pair

GET = b"".join(map(encode_field, (b":method", b":scheme", b":path"), (b"GET", b"https", b"/")))


def echo(request: Request) -> Response:
    return Response(200, (("Content-Type", "text/plain"),), request.path.encode() + b" " + request.body)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frame_head(len(payload), kind, flags, stream) + payload


# Requests and answers.


async def test_request_is_given_as_it_came() -> None:
    seen: list[Request] = []

    def handler(request: Request) -> Response:
        seen.append(request)
        return Response()

    pair = Pair(handler)
    more = [("x-one", "1"), ("cookie", "a=b"), ("x-one", "2"), ("cookie", "c=d"), ("te", "trailers")]
    assert (await pair.ask("PUT", "/api/a%20b?x=1&x=%32&y", b"abc", *more)).status == 200
    request = seen[0]
    assert (request.method, request.path, request.raw_path) == ("PUT", "/api/a b", "/api/a%20b")
    assert (request.query, request.param_list("x"), request.body) == ("x=1&x=%32&y", ["1", "2"], b"abc")
    assert (request.headers["x-one"], request.headers["cookie"]) == ("1, 2", "a=b; c=d")
    assert (lines_of(request.headers["x-one"]), lines_of(request.headers["te"])) == (("1", "2"), ("trailers",))
    assert (request.headers["host"], request.peer.address) == ("example", "192.0.2.1")


async def test_answer_has_length_and_date_and_ends_the_stream() -> None:
    got = await Pair(echo).ask("GET", "/a")
    assert (got.status, got.body, got.ended, got.reset) == (200, b"/a ", True, None)
    assert (got.headers["content-type"], got.headers["content-length"]) == ("text/plain", "3")
    assert got.headers["date"].endswith(" GMT")


@pytest.mark.parametrize(("method", "status", "length"), [("HEAD", 200, "4"), ("GET", 204, None), ("GET", 304, None)])
async def test_answers_without_a_body(method: str, status: int, length: str | None) -> None:
    got = await Pair(lambda _: Response(status, (), b"body")).ask(method, "/")
    assert (got.status, got.headers.get("content-length"), got.body, got.ended) == (status, length, b"", True)


async def test_answers_to_one_read_leave_in_one_write() -> None:
    pair = Pair(echo)
    await pair.talk()
    streams = [pair.request("GET", f"/{number}") for number in range(100)]
    pair.server.data_received(pair.client.data_to_send())
    assert len(pair.channel.writes) == 1
    await pair.talk()
    assert [pair.streams[stream].body for stream in streams] == [b"/%d " % number for number in range(100)]


async def test_one_that_takes_time_does_not_hold_up_others() -> None:
    release = asyncio.Event()

    async def later() -> AnyResponse:
        await release.wait()
        return Response(200, (), b"later")

    pair = Pair(lambda request: later() if request.path == "/later" else Response(200, (), b"now"))
    slow, fast = pair.request("GET", "/later"), pair.request("GET", "/now")
    await pair.talk()
    assert (pair.streams[slow].status, pair.streams[fast].body) == (0, b"now")
    assert pair.server.busy
    release.set()
    await pair.talk()
    assert pair.streams[slow].body == b"later"
    assert not pair.server.busy


async def test_handler_that_fails_is_500_and_the_connection_goes_on() -> None:
    async def fails_later() -> AnyResponse:
        raise RuntimeError

    def handler(request: Request) -> object:
        if request.path == "/now":
            raise RuntimeError
        return fails_later() if request.path == "/later" else Response()

    pair = Pair(handler)  # type: ignore[arg-type]
    assert [(await pair.ask("GET", path)).status for path in ("/now", "/later", "/")] == [500, 500, 200]


async def test_upgrade_is_told_to_use_http_1() -> None:
    async def run(_: object) -> None: ...

    unsent = asyncio.Event()
    got = await Pair(lambda _: UpgradeResponse(run, unsent=unsent.set)).ask("GET", "/exec")
    assert (got.reset, unsent.is_set()) == (Code.HTTP_1_1_REQUIRED, True)


async def test_expected_continue_is_sent_before_the_body() -> None:
    pair = Pair(echo)
    stream = pair.request("POST", "/", None, ("expect", "100-continue"), ("content-length", "2"), ends=False)
    await pair.talk()
    assert pair.streams[stream].informational == [100]
    pair.client.send_data(stream, b"ab", end_stream=True)
    await pair.talk()
    assert pair.streams[stream].body == b"/ ab"


async def test_headers_longer_than_a_frame_go_both_ways() -> None:
    long = "v" * 40_000
    pair = Pair(lambda request: Response(200, (("X-Long", request.headers["x-long"]),)))
    assert (await pair.ask("GET", "/", None, ("x-long", long))).headers["x-long"] == long


async def test_trailers_are_taken_and_passed_over() -> None:
    pair = Pair(echo)
    stream = pair.request("POST", "/", b"body", ends=False)
    pair.client.send_headers(stream, [("x-checksum", "1")], end_stream=True)
    await pair.talk()
    assert pair.streams[stream].body == b"/ body"


async def test_table_size_that_a_client_lowers_is_acknowledged_in_the_next_block() -> None:
    pair = Pair(echo)
    pair.client.update_settings({h2.settings.SettingCodes.HEADER_TABLE_SIZE: 0})
    assert [(await pair.ask("GET", "/")).status for _ in range(2)] == [200, 200]  # `hpack` insists


async def test_padding_priority_and_frames_of_unknown_types_are_tolerated() -> None:
    pair = Pair(echo)
    await pair.talk()
    pair.streams[1] = got = Got()
    pair.client.send_headers(1, [(":method", "POST"), (":scheme", "https"), (":path", "/"), (":authority", "a")],
                             priority_weight=20, priority_depends_on=0)  # fmt: skip
    pair.client.send_data(1, b"body", pad_length=100)
    pair.client.prioritize(1, weight=3)
    pair.client.send_data(1, b"", pad_length=7, end_stream=True)
    await pair.talk()
    assert got.body == b"/ body"
    padded = b"\x03" + b"\0\0\0\0\x0f" + GET + b"\0\0\0"
    pair.server.data_received(frame(0xEE, 0xFF, 7, b"what?") + frame(1, 0x2D, 3, padded))
    assert pair.channel.take().endswith(frame(0, 1, 3, b"/ "))


# Flow control.


@pytest.mark.parametrize("window", [1, 1000, 16_384, 70_000, 1 << 20])
async def test_big_answers_keep_to_the_windows(window: int) -> None:
    """`h2` ends the connection on a byte too much."""
    body = bytes(range(251)) * 20
    body *= 1 if window == 1 else 40
    pair = Pair(lambda _: Response(200, (), body), window=window)
    streams = [pair.request("GET", "/") for _ in range(3)]
    for _ in range(200):
        await pair.talk()
        if all(pair.streams[stream].ended for stream in streams):
            break
    assert [pair.streams[stream].body for stream in streams] == [body] * 3


async def test_window_of_the_connection_is_shared_and_small_answers_take_turns_with_big_ones() -> None:
    big = b"x" * 1_000_000
    pair = Pair(lambda request: Response(200, (), big if request.path == "/big" else b"small"), acknowledge=False,
                window=1 << 24)  # fmt: skip
    first, second = pair.request("GET", "/big"), pair.request("GET", "/small")
    await pair.talk()
    assert len(pair.streams[first].body) + len(pair.streams[second].body) == 65535
    assert pair.streams[second].ended
    pair.client.increment_flow_control_window(2_000_000)
    await pair.talk()
    assert pair.streams[first].body == big


async def test_windows_may_shrink_below_zero() -> None:
    pair = Pair(lambda _: Response(200, (), b"x" * 60_000), acknowledge=False)
    stream = pair.request("GET", "/")
    await pair.talk()
    pair.client.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    second = pair.request("GET", "/")
    await pair.talk()
    assert (pair.streams[stream].ended, pair.streams[second].body) == (True, b"")
    pair.client.increment_flow_control_window(100_000)
    pair.client.increment_flow_control_window(100_000, second)
    await pair.talk()
    assert len(pair.streams[second].body) == 60_000


async def test_full_socket_makes_bodies_wait_and_others_overtake() -> None:
    big = b"x" * 5_000_000
    pair = Pair(lambda request: Response(200, (), big if request.path == "/big" else b"small"), window=1 << 24)
    pair.client.increment_flow_control_window(1 << 24)
    await pair.talk()
    pair.channel.full = True
    first, second = pair.request("GET", "/big"), pair.request("GET", "/small")
    await pair.talk()
    assert pair.channel.buffered < 1_000_000  # the rest waits where it can still be overtaken
    pair.channel.full = False
    await pair.talk()
    assert (pair.streams[first].body, pair.streams[second].body) == (big, b"small")


async def test_stream_ends_also_while_its_window_is_shut_and_the_socket_full() -> None:
    async def run(writer: Writer) -> None:
        writer.write(b"x" * 65_535)
        await release.wait()

    release = asyncio.Event()
    pair = Pair(lambda _: StreamingResponse(run), acknowledge=False)
    stream = pair.request("GET", "/")
    await pair.talk()
    pair.channel.buffered, pair.channel.full = 1 << 20, True
    release.set()
    await pair.talk()
    assert not pair.streams[stream].ended
    pair.channel.full = False
    await pair.talk()
    assert (len(pair.streams[stream].body), pair.streams[stream].ended) == (65_535, True)


async def test_big_bodies_of_requests_come_whole() -> None:
    pair = Pair(lambda request: Response(200, (), str(len(request.body)).encode()))
    await pair.talk()
    stream = pair.request("POST", "/", b"", ends=False)
    left = 3 << 20
    while left:
        room = min(pair.client.local_flow_control_window(stream), 16_384, left)
        assert room > 0
        pair.client.send_data(stream, b"x" * room, end_stream=room == left, pad_length=None)
        left -= room
        await pair.talk()
    assert pair.streams[stream].body == str(3 << 20).encode()


async def test_bytes_beyond_a_window_reset_the_stream() -> None:
    pair = Pair(echo, Settings(body_bytes=1 << 30))
    stream = pair.request("POST", "/", b"", ends=False)
    await pair.talk()
    pair.server._streams[stream].room = 10  # a window that the client overlooks
    pair.client.send_data(stream, b"x" * 11)
    await pair.talk()
    assert pair.streams[stream].reset == Code.FLOW_CONTROL_ERROR


# Streaming responses.


class Streams:
    """A handler whose responses go on, and what became of them."""

    def __init__(self) -> None:
        self.writers: list[Writer] = []
        self.closed = 0
        self.ended: list[str] = []
        self.release = asyncio.Event()

    def __call__(self, _: Request) -> AnyResponse:
        return StreamingResponse(self.run, 200, (("Content-Type", "application/json"),))

    async def run(self, writer: Writer) -> None:
        self.writers.append(writer)
        writer.on_close(self.count)
        try:
            await self.release.wait()
            self.ended.append("returned")
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise

    def count(self) -> None:
        self.closed += 1


async def test_streaming_response_comes_as_it_is_written() -> None:
    streams = Streams()
    pair = Pair(streams)
    got = await pair.ask("GET", "/watch")
    assert (got.status, got.ended, pair.server.streaming) == (200, False, True)
    streams.writers[0].write(b"one")
    await pair.talk()
    assert got.body == b"one"
    streams.writers[0].write_framed(frame_chunk(b"two"))
    streams.release.set()
    await pair.talk()
    assert (got.body, got.ended, streams.closed, pair.server.busy) == (b"onetwo", True, 0, False)


async def test_writes_to_many_streams_leave_together() -> None:
    streams = Streams()
    pair = Pair(streams)
    numbers = [pair.request("GET", "/watch") for _ in range(50)]
    await pair.talk()
    chunk = frame_chunk(b"event")
    for writer in streams.writers:
        writer.write_framed(chunk)
    await asyncio.sleep(0)
    assert len(pair.channel.writes) == 1
    await pair.talk()
    assert {pair.streams[number].body for number in numbers} == {b"event"}


async def test_reset_of_a_watch_cancels_it_and_tells_its_writer() -> None:
    streams = Streams()
    pair = Pair(streams)
    number = pair.request("GET", "/watch")
    await pair.talk()
    pair.client.reset_stream(number, 8)
    await pair.talk()
    assert (streams.closed, streams.ended, streams.writers[0].closed) == (1, ["cancelled"], True)
    assert not pair.server.busy
    streams.writers[0].write(b"nobody hears it")
    await pair.talk()


async def test_reset_of_a_write_lets_it_finish_unheard() -> None:
    release, finished = asyncio.Event(), asyncio.Event()

    async def write() -> AnyResponse:
        await release.wait()
        finished.set()
        return Response()

    pair = Pair(lambda _: write())
    number = pair.request("POST", "/", b"{}")
    await pair.talk()
    pair.client.reset_stream(number, 8)
    await pair.talk()
    assert pair.server.busy
    release.set()
    await pair.talk()
    assert finished.is_set()
    assert not pair.server.busy


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_response_that_is_not_sent_is_told(method: str) -> None:
    release, unsent = asyncio.Event(), asyncio.Event()

    async def run(_: Writer) -> None:
        raise AssertionError("nobody reads this")

    async def answer() -> AnyResponse:
        await release.wait()
        return StreamingResponse(run, unsent=unsent.set)

    pair = Pair(lambda _: answer())
    number = pair.request(method, "/")
    await pair.talk()
    if method == "GET":
        pair.client.reset_stream(number, 8)
        await pair.talk()
    release.set()
    await pair.talk()
    assert unsent.is_set()
    assert not pair.server.busy


async def test_lost_connection_cancels_every_watch() -> None:
    streams = Streams()
    pair = Pair(streams)
    for _ in range(3):
        pair.request("GET", "/watch")
    await pair.talk()
    pair.server.connection_lost()
    for _ in range(5):
        await asyncio.sleep(0)  # tasks have their turns
    assert (streams.closed, streams.ended) == (3, ["cancelled"] * 3)


async def test_watcher_that_does_not_read_is_cut_off_alone() -> None:
    streams = Streams()
    pair = Pair(streams, Settings(slow_peer_bytes=100_000), acknowledge=False)
    slow, good = pair.request("GET", "/watch"), pair.request("GET", "/watch")
    await pair.talk()
    pair.client.increment_flow_control_window(1 << 20)
    pair.client.increment_flow_control_window(1 << 20, good)
    for _ in range(6):
        for writer in streams.writers:
            writer.write(b"x" * 50_000)
        await pair.talk()
    assert (pair.streams[slow].reset, pair.streams[good].reset) == (Code.CANCEL, None)
    assert (len(pair.streams[good].body), streams.ended) == (300_000, ["cancelled"])


async def test_drain_waits_for_the_peer() -> None:
    steps: list[str] = []

    async def run(writer: Writer) -> None:
        writer.write(b"x" * 200_000)
        steps.append("written")
        await writer.drain()
        steps.append("drained")

    pair = Pair(lambda _: StreamingResponse(run), acknowledge=False)
    number = pair.request("GET", "/")
    await pair.talk()
    assert steps == ["written"]
    pair.client.increment_flow_control_window(1 << 20)
    pair.client.increment_flow_control_window(1 << 20, number)
    await pair.talk()
    assert (steps, len(pair.streams[number].body)) == (["written", "drained"], 200_000)


async def test_streaming_response_that_fails_resets_its_stream() -> None:
    async def run(writer: Writer) -> None:
        writer.write(b"a")
        raise RuntimeError

    got = await Pair(lambda _: StreamingResponse(run)).ask("GET", "/")
    assert got.reset == Code.INTERNAL_ERROR


# Limits.


@pytest.mark.parametrize("announced", [True, False])
async def test_body_beyond_the_limit_is_413_and_the_connection_goes_on(announced: bool) -> None:
    pair = Pair(echo, Settings(body_bytes=1000))
    more = [("content-length", "2000")] if announced else []
    stream = pair.request("POST", "/", b"x" * 1001, *more, ends=False)
    await pair.talk()
    got = pair.streams[stream]
    assert (got.status, got.ended, got.reset) == (413, True, Code.NO_ERROR)
    assert b"1000" in got.body
    assert (await pair.ask("GET", "/")).status == 200
    assert pair.server._held == 0


async def test_headers_beyond_the_limit_are_431_and_the_connection_goes_on() -> None:
    pair = Pair(echo, Settings(header_bytes=5000))
    pair.client.remote_settings.acknowledge()
    await pair.talk()
    stream = pair.request("GET", "/", None, ("x", "a" * 2800), ("y", "b" * 2800))
    await pair.talk()
    assert pair.streams[stream].status == 431
    assert (await pair.ask("GET", "/")).status == 200


async def test_streams_beyond_the_limit_are_refused_also_while_reset_ones_are_at_work() -> None:
    release = asyncio.Event()
    started = 0

    async def write() -> AnyResponse:
        nonlocal started
        started += 1
        await release.wait()
        return Response()

    pair = Pair(lambda _: write(), Settings(streams=10))
    streams = [pair.request("GET", "/") for _ in range(10)]
    await pair.talk()
    for stream in streams[:5]:
        pair.client.reset_stream(stream)
    more = [pair.request("GET", "/") for _ in range(5)]
    await pair.talk()
    assert started == 10
    assert [pair.streams[stream].reset for stream in more] == [Code.REFUSED_STREAM] * 5
    release.set()
    await pair.talk()
    again = pair.request("GET", "/")
    await pair.talk()
    assert pair.streams[again].status == 200


@pytest.mark.parametrize("what", ["resets", "pings", "settings", "empty", "priority", "unknown"])
async def test_floods_of_frames_that_cost_nothing_end_the_connection(what: str) -> None:
    pair = Pair(Streams())
    stream = pair.request("POST", "/", b"", ends=False)
    await pair.talk()
    flood = {
        "resets": lambda n: frame(1, 5, 2 * n + 3, GET) + frame(3, 0, 2 * n + 3, b"\0\0\0\x08"),
        "pings": lambda _: frame(6, 0, 0, b"12345678"),
        "settings": lambda _: frame(4, 0, 0),
        "empty": lambda _: frame(0, 0, stream),
        "priority": lambda n: frame(2, 0, 2 * n + 3, b"\0\0\0\0\0"),
        "unknown": lambda _: frame(0x99, 0, 0),
    }
    one: Callable[[int], bytes] = flood[what]
    for start in range(0, 20_000, 100):
        pair.server.data_received(b"".join(map(one, range(start, start + 100))))
        if pair.channel.ended:
            break
    await asyncio.sleep(0)
    pair.note_goaways(pair.channel.take())
    assert pair.goaways[-1][1] == Code.ENHANCE_YOUR_CALM
    assert pair.channel.ended
    assert not pair.server._streams


async def test_header_block_that_never_ends_ends_the_connection() -> None:
    pair = Pair(echo, Settings(header_bytes=50_000))
    await pair.talk()
    await pair.raw(frame(1, 0, 1, GET) + frame(9, 0, 1) * 3)
    assert pair.server.in_request
    for payload in (b"\0" * 16_000,) * 4:
        pair.server.data_received(frame(9, 0, 1, payload))
    await pair.talk()
    assert pair.goaways[-1][1] == Code.ENHANCE_YOUR_CALM


async def test_answers_that_nobody_takes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "HELD_BYTES", 1_000_000)
    pair = Pair(lambda _: Response(200, (), b"x" * 300_000), acknowledge=False)
    streams = [pair.request("GET", "/") for _ in range(10)]
    await pair.talk()
    resets = [pair.streams[stream].reset for stream in streams]
    assert resets == [None] * 4 + [Code.REFUSED_STREAM] * 6


async def test_sweep_resets_what_does_not_get_on_and_nothing_else() -> None:
    streams = Streams()
    pair = Pair(lambda request: streams(request) if request.path == "/watch" else Response(200, (), b"x" * 100_000),
                acknowledge=False)  # fmt: skip
    body = pair.request("POST", "/", b"half", ends=False)
    stuck, watch = pair.request("GET", "/"), pair.request("GET", "/watch")
    await pair.talk()
    for now in (100.0, 130.0):
        pair.server.sweep(now, 120.0)
    await pair.talk()
    assert [pair.streams[each].reset for each in (body, stuck, watch)] == [None, None, None]
    for now in (140.0, 221.0):
        pair.server.sweep(now, 120.0)
    await pair.talk()
    assert [pair.streams[each].reset for each in (body, stuck, watch)] == [Code.CANCEL, Code.CANCEL, None]


# Broken peers.

SETTINGS = frame(4, 0, 0)
WINDOW = struct.pack(">L", 1 << 30)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(4, 0, 1), Code.PROTOCOL_ERROR),
        (frame(4, 0, 0, b"12345"), Code.FRAME_SIZE_ERROR),
        (frame(4, 1, 0, b"123456"), Code.FRAME_SIZE_ERROR),
        (frame(4, 0, 0, b"\0\2\0\0\0\2"), Code.PROTOCOL_ERROR),
        (frame(4, 0, 0, b"\0\4\x80\0\0\0"), Code.FLOW_CONTROL_ERROR),
        (frame(4, 0, 0, b"\0\5\0\0\0\1"), Code.PROTOCOL_ERROR),
        (frame(6, 0, 0, b"1234"), Code.FRAME_SIZE_ERROR),
        (frame(6, 0, 1, b"12345678"), Code.FRAME_SIZE_ERROR),
        (frame(3, 0, 1, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
        (frame(3, 0, 0, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
        (frame(3, 0, 1, b"\0"), Code.FRAME_SIZE_ERROR),
        (frame(8, 0, 0, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
        (frame(8, 0, 0, b"\0"), Code.FRAME_SIZE_ERROR),
        (frame(8, 0, 0, WINDOW) * 3, Code.FLOW_CONTROL_ERROR),
        (frame(8, 0, 5, WINDOW), Code.PROTOCOL_ERROR),
        (frame(0, 0, 0, b"x"), Code.PROTOCOL_ERROR),
        (frame(0, 0, 1, b"x"), Code.PROTOCOL_ERROR),
        (frame(1, 5, 0, GET), Code.PROTOCOL_ERROR),
        (frame(1, 5, 2, GET), Code.PROTOCOL_ERROR),
        (frame(1, 0xD, 1, b"\x50" + GET), Code.PROTOCOL_ERROR),
        (frame(1, 0x25, 1, b"abc"), Code.FRAME_SIZE_ERROR),
        (frame(1, 5, 1, b"\xff\xff\xff"), Code.COMPRESSION_ERROR),
        (frame(1, 1, 1, GET) + frame(6, 0, 0, b"12345678"), Code.PROTOCOL_ERROR),
        (frame(1, 1, 1, GET) + frame(9, 4, 3), Code.PROTOCOL_ERROR),
        (frame(2, 0, 0, b"12345"), Code.PROTOCOL_ERROR),
        (frame(5, 4, 1, b"\0\0\0\2" + GET), Code.PROTOCOL_ERROR),
        (frame(7, 0, 0, b"1"), Code.PROTOCOL_ERROR),
        (frame(9, 4, 1, GET), Code.PROTOCOL_ERROR),
        (b"\0\x40\1\0\0\0\0\0\0", Code.FRAME_SIZE_ERROR),
    ],
)  # fmt: skip
async def test_frames_against_the_protocol_end_the_connection(data: bytes, code: Code) -> None:
    pair = Pair(echo)
    await pair.talk()
    await pair.raw(data)
    assert pair.goaways[-1][1] == code
    assert pair.channel.ended


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX", SETTINGS])
async def test_what_is_not_http2_ends_the_connection(data: bytes) -> None:
    pair = Pair(echo)
    pair.server.data_received(data)
    assert pair.channel.ended


async def test_first_frame_must_be_settings() -> None:
    pair = Pair(echo)
    pair.server.data_received(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(6, 0, 0, b"12345678"))
    assert pair.channel.ended


def fields(*pairs: tuple[str, str]) -> bytes:
    return b"".join(encode_field(name.encode(), value.encode()) for name, value in pairs)


START = ((":method", "GET"), (":scheme", "https"), (":path", "/"))


@pytest.mark.parametrize(
    "block",
    [
        fields(*START[1:]), fields(START[0], START[2]), fields(*START[:2]), fields(*START, (":path", "/")),
        fields(*START[:2], (":path", "x")), fields(*START[:2], (":path", "")), fields(*START[:2], (":path", "*")),
        fields(("a", "b"), *START), fields(*START, (":status", "200")), fields(*START, ("Upper", "x")),
        fields(*START, ("connection", "close")), fields(*START, ("transfer-encoding", "chunked")),
        fields(*START, ("te", "gzip")), fields(*START, ("x", "a\nb")), fields(*START, ("content-length", "-1")),
        fields(*START, ("content-length", "5")), fields((":method", "CONNECT"), (":authority", "a:1")),
    ],
)  # fmt: skip
async def test_malformed_requests_reset_their_stream_alone(block: bytes) -> None:
    pair = Pair(echo)
    await pair.talk()
    pair.server.data_received(frame(1, 5, 1, block))
    assert frame(3, 0, 1, b"\0\0\0\1") in pair.channel.take()
    assert not pair.channel.ended
    pair.server.data_received(frame(1, 5, 3, GET))
    assert pair.channel.take()[3] == 1


@pytest.mark.parametrize("length", ["3", "5"])
async def test_body_of_another_length_than_announced_resets_the_stream(length: str) -> None:
    pair = Pair(echo)
    await pair.talk()
    block = fields((":method", "POST"), *START[1:], ("content-length", length))
    pair.server.data_received(frame(1, 4, 1, block) + frame(0, 1, 1, b"four"))
    assert frame(3, 0, 1, b"\0\0\0\1") in pair.channel.take()


async def test_frames_of_streams_that_have_ended_are_passed_over() -> None:
    pair = Pair(echo)
    await pair.ask("POST", "/", b"x")
    late = frame(0, 0, 1, b"late") + frame(8, 0, 1, WINDOW) + frame(3, 0, 1, b"\0\0\0\0") + frame(1, 5, 1, GET)
    await pair.raw(late)
    assert (await pair.ask("GET", "/")).status == 200


# Going away.


async def test_drain_says_goodbye_twice_and_serves_what_came_between() -> None:
    streams = Streams()
    pair = Pair(lambda request: streams(request) if request.path == "/watch" else echo(request))
    watch = pair.request("GET", "/watch")
    await pair.talk()
    between = pair.request("GET", "/between")
    data = pair.client.data_to_send()
    pair.server.close_when_done()
    pair.server.data_received(data)
    await pair.talk()
    assert pair.goaways == [((1 << 31) - 1, 0), (between, 0)]
    assert (pair.streams[between].status, pair.channel.ended) == (200, False)
    pair.server.data_received(frame(1, 5, between + 2, GET))
    streams.release.set()
    await pair.talk()
    assert (pair.streams[watch].ended, pair.channel.ended) == (True, True)


async def test_drain_of_an_idle_connection_ends_it() -> None:
    pair = Pair(echo)
    await pair.ask("GET", "/")
    pair.server.close_when_done()
    await pair.talk()
    assert (len(pair.goaways), pair.channel.ended) == (2, True)


async def test_connections_are_asked_to_go_away_by_chance() -> None:
    pair = Pair(echo, Settings(goaway_chance=1.0))
    assert (await pair.ask("GET", "/")).status == 200
    assert (pair.goaways, pair.channel.ended) == ([((1 << 31) - 1, 0), (1, 0)], True)


async def test_peer_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http2, "DRAIN_SECONDS", 0.01)
    pair = Pair(echo)
    await pair.talk()
    pair.server.close_when_done()  # whose ping is never answered
    await asyncio.wait_for(pair.channel.over.wait(), PATIENCE)


async def test_client_that_goes_away_still_gets_its_answers() -> None:
    release = asyncio.Event()

    async def later() -> AnyResponse:
        await release.wait()
        return Response(200, (), b"later")

    pair = Pair(lambda _: later())
    stream = pair.request("GET", "/")
    await pair.talk()
    await pair.raw(frame(7, 0, 0, b"\0" * 8))
    release.set()
    await pair.talk()
    assert pair.streams[stream].body == b"later"
