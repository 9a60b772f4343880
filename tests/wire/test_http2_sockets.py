"""HTTP/2 over real sockets: chosen by ALPN, under load from nghttp2's clients, and at the server's end."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from pinnace.wire.connection import Settings
from pinnace.wire.http import AnyResponse, Request, Response, StreamingResponse, Writer
from pinnace.wire.http2_frames import PREFACE, frame_head
from pinnace.wire.server import Server
from tests.wire.conftest import PATIENCE, Connect, Pki, Wire, serving

BIG = bytes(range(256)) * 8192

needs_nghttp = pytest.mark.skipif(not shutil.which("h2load"), reason="needs h2load (Debian package nghttp2-client)")


def answer(request: Request) -> AnyResponse:
    if request.path == "/big":
        return Response(200, (), BIG)
    if request.path == "/stream":
        return StreamingResponse(stream)
    return Response(200, (("Content-Type", "text/plain"),), request.body or b"x" * 2000)


async def stream(writer: Writer) -> None:
    for _ in range(100):
        writer.write(b"y" * 1000)
        await writer.drain()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["other"], None), (None, None)],
)
async def test_protocol_is_chosen_by_alpn(
    offered: list[str] | None, chosen: str | None, pki: Pki, connect: Connect
) -> None:
    context = pki.client_context()
    if offered is not None:
        context.set_alpn_protocols(offered)
    async with serving(answer, pki.server()) as server:
        wire = await connect(server, context)
        assert wire.writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
        if chosen == "h2":
            await settled(wire)
        else:
            wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await wire.response())[0] == 200


async def test_http2_is_not_spoken_where_it_is_not_offered(pki: Pki, connect: Connect) -> None:
    tls = replace(pki.server(), protocols=("http/1.1",))
    context = pki.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(answer, tls) as server:
        wire = await connect(server, context)
        assert wire.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"


async def frame(wire: Wire) -> tuple[int, int, bytes]:
    """Type, flags and payload of the next frame."""
    head = await wire.exactly(9)
    return head[3], head[4], await wire.exactly(int.from_bytes(head[:3], "big"))


async def settled(wire: Wire) -> None:
    """Greet, until the server has acknowledged our settings."""
    wire.send(PREFACE + frame_head(0, 4, 0, 0))
    while (await frame(wire))[:2] != (4, 1):
        pass


async def connect_h2(connect: Connect, server: Server, pki: Pki) -> Wire:
    context = pki.client_context()
    context.set_alpn_protocols(["h2"])
    return await connect(server, context)


async def test_idle_and_silent_connections_are_closed(
    pki: Pki, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinnace.wire.server.SWEEP_SECONDS", 0.05)
    monkeypatch.setattr("pinnace.wire.http2.DRAIN_SECONDS", 0.05)
    async with serving(answer, pki.server()) as server:
        silent, idle = await connect_h2(connect, server, pki), await connect_h2(connect, server, pki)
        dripping = await connect_h2(connect, server, pki)
        await settled(idle)
        await settled(dripping)
        dripping.send(frame_head(1, 1, 0, 1) + b"\x82")  # HEADERS that never end
        server._settings = Settings(idle_seconds=0.1, request_seconds=0.1)
        goodbye = await idle.rest()
        assert goodbye[3] == 7
        for wire in (silent, dripping):
            await wire.rest()


async def test_close_says_goodbye_and_lets_answers_finish(pki: Pki, connect: Connect) -> None:
    asked, release = asyncio.Event(), asyncio.Event()

    async def later(_: Request) -> Response:
        asked.set()
        await release.wait()
        return Response(200, (), b"done")

    async with serving(later, pki.server()) as server:
        wire = await connect_h2(connect, server, pki)
        await settled(wire)
        wire.send(frame_head(3, 1, 5, 1) + b"\x82\x87\x84")
        await asyncio.wait_for(asked.wait(), PATIENCE)
        closing = asyncio.ensure_future(server.close(PATIENCE))
        kind, _, payload = await frame(wire)
        assert (kind, payload[:4]) == (7, b"\x7f\xff\xff\xff")
        kind, _, payload = await frame(wire)
        wire.send(frame_head(8, 6, 1, 0) + payload)
        assert [(await frame(wire))[0]] == [7]
        release.set()
        assert [(await frame(wire))[0], await frame(wire)] == [1, (0, 1, b"done")]
        await wire.rest()
        wire.writer.close()
        await asyncio.wait_for(closing, PATIENCE)


@pytest.mark.parametrize("by", ["reset", "close"])
async def test_a_handler_is_told_when_its_client_leaves(by: str, pki: Pki, connect: Connect) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def later(request: Request) -> Response:
        request.abandoned = left.set
        asked.set()
        await left.wait()
        return Response(200, (), b"unheard")

    async with serving(later, pki.server()) as server:
        wire = await connect_h2(connect, server, pki)
        await settled(wire)
        wire.send(frame_head(3, 1, 5, 1) + b"\x82\x87\x84")
        await asyncio.wait_for(asked.wait(), PATIENCE)
        if by == "reset":
            wire.send(frame_head(4, 3, 0, 1) + (8).to_bytes(4, "big"))  # RST_STREAM, CANCEL
        else:
            wire.writer.close()
        await asyncio.wait_for(left.wait(), PATIENCE)


async def test_a_handler_that_has_answered_is_told_nothing(pki: Pki, connect: Connect) -> None:
    told: list[str] = []

    async def at_once(request: Request) -> Response:
        request.abandoned = lambda: told.append(request.path)
        return Response(200, (), b"done")

    async with serving(at_once, pki.server()) as server:
        wire = await connect_h2(connect, server, pki)
        await settled(wire)
        wire.send(frame_head(3, 1, 5, 1) + b"\x82\x87\x84")
        assert [(await frame(wire))[0], await frame(wire)] == [1, (0, 1, b"done")]
        wire.send(frame_head(4, 3, 0, 1) + (8).to_bytes(4, "big") + frame_head(8, 6, 0, 0) + b"still ok")
        assert await frame(wire) == (6, 1, b"still ok")
    assert told == []


async def run(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return out.decode()


@needs_nghttp
@pytest.mark.parametrize(("path", "windows"), [("/", 30), ("/big", 30), ("/big", 14), ("/stream", 30), ("/stream", 10)])
async def test_nothing_is_lost_under_load(path: str, windows: int, pki: Pki) -> None:
    async with serving(answer, pki.server()) as server:
        url = f"https://127.0.0.1:{server.addresses[0][1]}{path}"
        bits = ("-w", str(windows), "-W", str(min(windows + 1, 30)))
        report = await run("h2load", "-n", "400", "-c", "4", "-m", "20", *bits, url)
        assert "400 done, 400 succeeded, 0 failed" in report
        size = {"/": 2000, "/big": len(BIG), "/stream": 100_000}[path]
        data = re.search(r"\((\d+)\) data", report)
        assert data is not None
        assert int(data.group(1)) == 400 * size


@needs_nghttp
async def test_big_bodies_with_padding_and_trailers_come_whole(pki: Pki, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(BIG)
    async with serving(answer, pki.server()) as server:
        url = f"https://127.0.0.1:{server.addresses[0][1]}/"
        words = ("nghttp", "--data", str(body), "--padding=64", "--trailer", "x-a: b", "--no-verify-peer", url)
        process = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
        out, _ = await asyncio.wait_for(process.communicate(), 60)
        assert out == BIG


async def test_old_tls_and_client_certificate_go_with_http2(pki: Pki, connect: Connect) -> None:
    context = pki.client_context(with_certificate=True)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])

    def whose(request: Request) -> Response:
        return Response(200, (), request.peer.certificate or b"none")

    async with serving(whose, pki.server()) as server:
        wire = await connect(server, context)
        await settled(wire)
        wire.send(frame_head(3, 1, 5, 1) + b"\x82\x87\x84")
        await frame(wire)
        assert (await frame(wire))[2] == ssl.PEM_cert_to_DER_cert(pki.client_cert.read_text())
