"""Links of pages behind a proxy path."""

from __future__ import annotations

import pytest

from pinnace.apiserver.relinking import Relinking
from pinnace.wire.http import Response, StreamingResponse

PREFIX = "/api/v1/namespaces/default/pods/http:web:80/proxy"
RELINKING = Relinking(PREFIX, ("10.1.2.3:80", "cluster:6443"))


@pytest.mark.parametrize(
    ("link", "led_back"),
    [
        ("/next?a=b#c", f"{PREFIX}/next?a=b#c"),
        ("/", f"{PREFIX}/"),
        ("next", "next"),
        ("#part", "#part"),
        ("http://10.1.2.3:80/next", f"{PREFIX}/next"),
        ("https://cluster:6443/next", f"{PREFIX}/next"),
        ("https://elsewhere/next", "https://elsewhere/next"),
        (f"{PREFIX}/next", f"{PREFIX}/next"),
        ("http://[broken/", "http://[broken/"),
    ],
)
def test_an_address_is_led_back(link: str, led_back: str) -> None:
    assert RELINKING.link(link) == led_back


@pytest.mark.parametrize(
    ("page", "relinked"),
    [
        ('<a href="/x">/x</a>', f'<a href="{PREFIX}/x">/x</a>'),
        ("<img alt='a' SRC='/x.png'>", f"<img alt='a' SRC='{PREFIX}/x.png'>"),
        ("<form action=/x method=post>", f"<form action={PREFIX}/x method=post>"),
        ('<a href="/x?a=1&amp;b=2">', f'<a href="{PREFIX}/x?a=1&amp;b=2">'),
        ('<a title="href=/x" href="y">', '<a title="href=/x" href="y">'),
        ("if (a < b) href='/x'", "if (a < b) href='/x'"),
    ],
)
def test_a_page_is_rewritten_in_its_links_alone(page: str, relinked: str) -> None:
    assert RELINKING.page(page) == relinked


def test_a_redirect_is_led_back_and_other_content_left_alone() -> None:
    answer = RELINKING.answer(Response(302, (("Location", "/x"), ("Content-Type", "text/plain")), b'<a href="/x">'))

    assert isinstance(answer, Response)
    assert (dict(answer.headers)["Location"], answer.body) == (f"{PREFIX}/x", b'<a href="/x">')


async def test_a_page_that_comes_in_pieces_is_rewritten_as_it_comes() -> None:
    async def run(writer: object) -> None:
        for piece in (b"<p>caf\xe9 <a hr", b'ef="/x">', b"1 < 2"):
            writer.write(piece)  # type: ignore[attr-defined]

    class Taken:
        closed = False

        def __init__(self) -> None:
            self.pieces: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.pieces.append(data)

        def on_close(self, callback: object) -> None: ...

        async def drain(self) -> None: ...

    taken = Taken()
    answer = RELINKING.answer(StreamingResponse(run, 200, (("Content-Type", "text/html; charset=utf-8"),)))
    assert isinstance(answer, StreamingResponse)
    await answer.run(taken)  # type: ignore[arg-type]

    assert taken.pieces == [b"<p>caf\xe9 ", f'<a href="{PREFIX}/x">'.encode(), b"1 ", b"< 2"]
