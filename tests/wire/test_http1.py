"""HTTP/1.1 over real sockets: framing, order, limits, and what happens when either side goes away."""

from __future__ import annotations

import asyncio

import pytest

from pinnace.wire.connection import Settings
from pinnace.wire.http import (
    AnyResponse,
    Peer,
    RawConnection,
    Request,
    Response,
    StreamingResponse,
    UpgradeResponse,
    Writer,
    frame_chunk,
    lines_of,
)
from pinnace.wire.http1 import COPIED_BYTES, TURN_BYTES, Http1Connection
from tests.wire.conftest import PATIENCE, Connect, Pki, serving
from tests.wire.http2_peer import FakeChannel

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


def echo(request: Request) -> Response:
    return Response(200, (("Content-Type", "text/plain"),), request.path.encode() + b" " + request.body)


async def test_request_is_given_as_it_came(connect: Connect) -> None:
    seen: list[Request] = []

    def handler(request: Request) -> Response:
        seen.append(request)
        return Response()

    async with serving(handler) as server:
        wire = await connect(server)
        wire.send(
            b"PUT /api/a%20b?x=1&x=%32&y HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nx-one: 2\r\nContent-Length: 3\r\n\r\nabc"
        )
        assert (await wire.response())[0] == 200

    request = seen[0]
    assert (request.method, request.path, request.raw_path) == ("PUT", "/api/a b", "/api/a%20b")
    assert (request.query, request.param_list("x"), request.params()["y"]) == ("x=1&x=%32&y", ["1", "2"], "")
    assert (request.headers["x-one"], request.headers["host"], request.body) == ("1, 2", "h", b"abc")
    assert (lines_of(request.headers["x-one"]), lines_of(request.headers["host"])) == (("1", "2"), ("h",))
    assert (request.peer.address, request.peer.certificate) == ("127.0.0.1", None)


async def test_repeated_headers_are_known_again_only_where_nothing_else_differs(connect: Connect) -> None:
    def show(request: Request) -> Response:
        return Response(200, (), f"{request.path} {request.query} {dict(request.headers)}".encode())

    plain, other = b"GET %b HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n", b"GET %b HTTP/1.1\r\nHost: a\r\nX: 2\r\n\r\n"
    async with serving(show) as server:
        wire = await connect(server)
        for request, expected in [
            (plain % b"/a", b"/a  {'host': 'a', 'x': '1'}"),
            (plain % b"/b?c=%20", b"/b c=%20 {'host': 'a', 'x': '1'}"),
            (other % b"/%41", b"/A  {'host': 'a', 'x': '2'}"),
            (plain % b"/c", b"/c  {'host': 'a', 'x': '1'}"),
            (b"GET /0 HTTP/1.1\r\nHost: b\r\nY: GET /1 HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n",
             b"/0  {'host': 'b, a', 'y': 'GET /1 HTTP/1.1', 'x': '1'}"),
            (plain % b"/d", b"/d  {'host': 'a', 'x': '1'}"),
        ]:  # fmt: skip
            wire.send(request)
            assert (await wire.response())[2] == expected
        wire.send(b"GET /e f HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n")
        assert (await wire.response())[0] == 400


async def test_continuation_that_looks_like_a_request_is_not_remembered(connect: Connect) -> None:
    seen: list[Request] = []

    def note(request: Request) -> Response:
        seen.append(request)
        return Response()

    async with serving(note) as server:
        wire = await connect(server)
        transport = next(iter(server._connections))
        http = server._connections[transport].http
        assert http is not None
        http.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nX: ")
        http.data_received(b"GET /a HTTP/1.1\r\nFoo: b\r\n\r\n")
        assert (await wire.response())[0] == 200
        http.data_received(b"GET /b HTTP/1.1\r\nFoo: b\r\n\r\n")  # no Host
        assert (await wire.response())[0] == 400
        assert [request.method for request in seen] == ["POST"]


async def test_absolute_form_is_understood(connect: Connect) -> None:
    async with serving(echo) as server:
        wire = await connect(server)
        wire.send(b"GET http://h:1/a/b?c=d HTTP/1.1\r\nHost: h\r\n\r\n")
        assert (await wire.response())[2] == b"/a/b "


async def test_connection_is_kept_and_pipelined_answers_keep_their_order(connect: Connect) -> None:
    release = asyncio.Event()

    def handler(request: Request) -> AnyResponse | asyncio.Future[AnyResponse]:
        if request.path != "/slow":
            return echo(request)

        async def slow() -> AnyResponse:
            await release.wait()
            return echo(request)

        return asyncio.ensure_future(slow())

    async with serving(handler) as server:
        wire = await connect(server)
        wire.send(GET % b"/1" + GET % b"/slow" + GET % b"/3" + GET % b"/4")
        assert (await wire.response())[2] == b"/1 "
        release.set()
        assert [(await wire.response())[2] for _ in range(3)] == [b"/slow ", b"/3 ", b"/4 "]
        wire.send(GET % b"/5")
        assert (await wire.response())[2] == b"/5 "


@pytest.mark.parametrize("tls", [False, True])
async def test_long_and_short_answers_of_one_read_keep_their_order(pki: Pki, connect: Connect, tls: bool) -> None:
    bodies = {"/short": b"s" * 10, "/copied": b"c" * COPIED_BYTES, "/long": b"l" * (3 << 20)}
    paths = ["/short", "/long", "/copied", "/long", "/long", "/short"]
    async with serving(
        lambda request: Response(200, (), bodies[request.path]), pki.server() if tls else None
    ) as server:
        wire = await connect(server, pki.client_context() if tls else None)
        wire.send(b"".join(GET % path.encode() for path in paths))
        for path in paths:
            assert (await wire.response())[2] == bodies[path]


async def test_chunked_request_body(connect: Connect) -> None:
    async with serving(echo) as server:
        wire = await connect(server)
        head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n"
        wire.send(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n" + GET % b"/next")
        assert (await wire.response())[2] == b"/x abcde"
        assert (await wire.response())[2] == b"/next "


async def test_expect_continue_is_answered_before_the_body(connect: Connect) -> None:
    async with serving(echo) as server:
        wire = await connect(server)
        wire.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert await wire.head() == (100, {})
        wire.send(b"ok")
        assert (await wire.response())[2] == b"/x ok"


async def test_head_has_the_length_and_no_body(connect: Connect) -> None:
    async with serving(lambda _: Response(200, (), b"12345")) as server:
        wire = await connect(server)
        wire.send(b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n" + GET % b"/")
        status, headers = await wire.head()
        assert (status, headers["content-length"]) == (200, "5")
        assert (await wire.response())[2] == b"12345"


@pytest.mark.parametrize(
    ("request_head", "answer"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "close"),
        (b"GET / HTTP/1.0\r\n\r\n", "close"),
    ],
)
async def test_last_request_closes(connect: Connect, request_head: bytes, answer: str) -> None:
    async with serving(echo) as server:
        wire = await connect(server)
        wire.send(request_head)
        _, headers, body = await wire.response()
        assert (headers["connection"], body, await wire.rest()) == (answer, b"/ ", b"")


async def test_http10_keep_alive_is_confirmed(connect: Connect) -> None:
    async with serving(echo) as server:
        wire = await connect(server)
        for _ in range(2):
            wire.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            assert (await wire.response())[1]["connection"] == "keep-alive"


async def test_client_that_half_closes_gets_its_answer(connect: Connect) -> None:
    release = asyncio.Event()

    async def handler(request: Request) -> Response:
        await release.wait()
        return echo(request)

    async with serving(handler) as server:
        wire = await connect(server)
        wire.send(GET % b"/x")
        wire.writer.write_eof()
        asyncio.get_running_loop().call_later(0.05, release.set)
        assert (await wire.response())[2] == b"/x "


BAD = [
    (b"\x16\x03\x01\x02\x00\x01\x00\n\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nBad Header: 1\r\n\r\n", 400),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi", 400),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 9000, 431),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + b"z" * 5000, 413),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\n" + b"z" * 4096, 413),
]


@pytest.mark.parametrize(("data", "status"), BAD)
async def test_what_cannot_be_served_is_refused_and_the_connection_closed(
    connect: Connect, data: bytes, status: int
) -> None:
    async with serving(echo, settings=Settings(header_bytes=8192, body_bytes=4000)) as server:
        wire = await connect(server)
        wire.send(GET % b"/first")
        assert (await wire.response())[0] == 200
        wire.send(data)
        answered, headers, _ = await wire.response()
        assert (answered, headers["connection"], await wire.rest()) == (status, "close", b"")


async def test_refusal_waits_for_the_answer_before_it(connect: Connect) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(0)
        return echo(request)

    async with serving(handler) as server:
        wire = await connect(server)
        wire.send(GET % b"/a" + b"\0\r\n\r\n")
        assert (await wire.response())[2] == b"/a "
        assert (await wire.response())[0] == 400
        assert await wire.rest() == b""


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_failing_handler_is_a_500_without_a_traceback(connect: Connect, asynchronous: bool) -> None:
    def fail(_: Request) -> Response:
        raise RuntimeError("secret detail")

    async def fail_later(request: Request) -> Response:
        return fail(request)

    async with serving(fail_later if asynchronous else fail) as server:
        wire = await connect(server)
        wire.send(GET % b"/" + GET % b"/again")
        for _ in range(2):
            status, _, body = await wire.response()
            assert (status, b"secret" in body) == (500, False)


async def test_header_values_cannot_break_the_response(connect: Connect) -> None:
    async with serving(lambda _: Response(200, (("X-A", "1\r\nX-B: 2"),))) as server:
        wire = await connect(server)
        wire.send(GET % b"/")
        headers = (await wire.response())[1]
        assert headers["x-a"] == "1  X-B: 2"


async def test_streaming_response_is_one_chunk_a_write(connect: Connect) -> None:
    step = asyncio.Event()

    async def run(writer: Writer) -> None:
        writer.write(b"one")
        await step.wait()
        writer.write_framed(frame_chunk(b"two"))
        writer.write(b"")

    async with serving(lambda _: StreamingResponse(run)) as server:
        wire = await connect(server)
        wire.send(GET % b"/")
        assert (await wire.head())[1]["transfer-encoding"] == "chunked"
        assert await wire.chunk() == b"one"
        step.set()
        assert [await wire.chunk(), await wire.chunk()] == [b"two", b""]
        wire.send(GET % b"/")
        assert (await wire.response())[2] == b"onetwo"


async def test_streaming_to_http10_is_not_chunked(connect: Connect) -> None:
    async def run(writer: Writer) -> None:
        writer.write(b"one")
        writer.write_framed(frame_chunk(b"two"))

    async with serving(lambda _: StreamingResponse(run)) as server:
        wire = await connect(server)
        wire.send(b"GET / HTTP/1.0\r\n\r\n")
        _, headers = await wire.head()
        assert ("transfer-encoding" in headers, await wire.rest()) == (False, b"onetwo")


async def test_stream_ends_when_the_peer_leaves(connect: Connect) -> None:
    events: list[str] = []
    cancelled = asyncio.Event()
    started = asyncio.Event()

    async def run(writer: Writer) -> None:
        writer.on_close(lambda: events.append(f"closed={writer.closed}"))
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            writer.write(b"ignored")
            cancelled.set()

    async with serving(lambda _: StreamingResponse(run)) as server:
        wire = await connect(server)
        wire.send(GET % b"/")
        await asyncio.wait_for(started.wait(), PATIENCE)
        await wire.close()
        await asyncio.wait_for(cancelled.wait(), PATIENCE)
        assert events == ["closed=True"]


async def test_response_that_is_not_sent_is_told(connect: Connect) -> None:
    unsent = asyncio.Event()

    async def run(_: Writer) -> None:
        raise AssertionError("nobody reads this")

    async with serving(lambda _: StreamingResponse(run, unsent=unsent.set)) as server:
        wire = await connect(server)
        wire.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
        await wire.head()
        await asyncio.wait_for(unsent.wait(), PATIENCE)


async def test_slow_peer_is_cut_off_with_bounded_memory(connect: Connect) -> None:
    limit = 1 << 20
    most = 0
    closed = asyncio.Event()
    writers: list[Writer] = []
    started = asyncio.Event()

    async def run(writer: Writer) -> None:
        writer.on_close(closed.set)
        writers.append(writer)
        started.set()
        await asyncio.Event().wait()

    async with serving(lambda _: StreamingResponse(run), settings=Settings(slow_peer_bytes=limit)) as server:
        wire = await connect(server)
        wire.writer.transport.pause_reading()
        wire.send(GET % b"/")
        await asyncio.wait_for(started.wait(), PATIENCE)
        event = frame_chunk(b"e" * 4096)
        transport = next(iter(server._connections))
        for _ in range(20000):
            writers[0].write_framed(event)
            most = max(most, transport.buffered)
            if writers[0].closed:
                break
        assert writers[0].closed
        assert closed.is_set()
        assert limit < most <= limit + TURN_BYTES + 2 * len(event)


async def test_upgrade_hands_over_the_bytes_behind_the_request(connect: Connect) -> None:
    async def run(raw: RawConnection) -> None:
        while data := await raw.read():
            raw.write(data.upper())
            await raw.drain()
        raw.close()

    async def handler(_: Request) -> UpgradeResponse:
        await asyncio.sleep(0)
        return UpgradeResponse(run, (("Connection", "Upgrade"), ("Upgrade", "shout")))

    async with serving(handler) as server:
        wire = await connect(server)
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: shout\r\n\r\nabc")
        status, headers = await wire.head()
        assert (status, headers["upgrade"]) == (101, "shout")
        assert await wire.exactly(3) == b"ABC"
        wire.send(b"d" * 1_000_000)
        assert await wire.exactly(1_000_000) == b"D" * 1_000_000
        wire.writer.write_eof()
        assert await wire.rest() == b""


async def test_refused_upgrade_is_an_ordinary_answer(connect: Connect) -> None:
    async with serving(lambda _: Response(403, (), b"no")) as server:
        wire = await connect(server)
        wire.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        status, headers, body = await wire.response()
        assert (status, headers["connection"], body, await wire.rest()) == (403, "close", b"no", b"")


async def test_what_is_written_in_one_turn_leaves_in_one_write() -> None:
    """The events of writes that were committed together."""
    writers: list[Writer] = []

    async def run(writer: Writer) -> None:
        writers.append(writer)
        await release.wait()
        writer.write(b"last")

    release = asyncio.Event()
    channel = FakeChannel()
    connection = Http1Connection(lambda _: StreamingResponse(run), Settings(), channel, Peer("::1"))
    connection.data_received(GET % b"/")
    for _ in range(5):
        await asyncio.sleep(0)  # tasks have their turns
    channel.take()
    chunks = [frame_chunk(b"event %d" % number) for number in range(10)]
    for chunk in chunks:
        writers[0].write_framed(chunk)
    await asyncio.sleep(0)
    assert channel.writes == [b"".join(chunks)]
    channel.take()
    release.set()
    for _ in range(5):
        await asyncio.sleep(0)  # tasks have their turns
    assert channel.take() == b"4\r\nlast\r\n0\r\n\r\n"
