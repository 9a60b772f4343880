"""Links in what a proxy path answers, led back through the proxy path: pages behind the API server can be clicked.

A page that says `/next` means a path of its own server, which a browser reaches at the proxy path with `/next` after
it. Addresses in `Location` and in the attributes of HTML are rewritten; scripts are not understood. The behaviour is
that of https://kubernetes.io/docs/tasks/access-application-cluster/access-cluster-services/.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from html import escape, unescape
from urllib.parse import urlsplit, urlunsplit

from pinnace.wire.http import AnyResponse, Headers, Response, StreamingResponse, Writer, unframe_chunk

_TAG = re.compile(r"<[a-zA-Z][^<>]*>")
_LINK = re.compile(
    r"""(?P<before>\s(?:action|background|cite|classid|codebase|data|formaction|href|icon|longdesc|manifest|poster|profile|src|usemap)\s*=\s*)(?P<value>"[^"]*"|'[^']*'|[^\s"'>]+)""",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Relinking:
    """From where a page comes to where its reader is."""

    prefix: str  # the proxy path, without a slash at its end
    hosts: tuple[str, ...]  # `host:port` of the page's server, and as the reader calls ours

    def link(self, link: str) -> str:
        """One address as the reader must follow it; other servers' and relative ones are left alone."""
        try:
            parts = urlsplit(link)
        except ValueError:
            return link
        if (parts.netloc and parts.netloc not in self.hosts) or not parts.path.startswith("/"):
            return link
        path = parts.path if parts.path.startswith(self.prefix) else self.prefix + parts.path
        return urlunsplit(("", "", path, parts.query, parts.fragment))

    def page(self, html: str) -> str:
        """A page, or a piece of one that ends between tags."""
        return _TAG.sub(lambda tag: _LINK.sub(self._attribute, tag[0]), html)

    def _attribute(self, match: re.Match[str]) -> str:
        text = match["value"]
        quote = text[0] if text[0] in "\"'" else ""
        old = unescape(text.strip(quote) if quote else text)
        new = self.link(old)
        return match[0] if new == old else f"{match['before']}{quote}{escape(new, quote=bool(quote))}{quote}"

    def answer(self, answer: AnyResponse) -> AnyResponse:
        """An answer with its links led back."""
        if not isinstance(answer, Response | StreamingResponse):
            return answer
        is_page = any(
            name.lower() == "content-type" and value.startswith("text/html") for name, value in answer.headers
        )
        is_plain = not any(name.lower() == "content-encoding" and value for name, value in answer.headers)
        headers = self._headers(answer.headers)
        if not (is_page and is_plain):
            answer.headers = headers
            return answer
        if isinstance(answer, Response):
            return Response(answer.status, headers, self._bytes(answer.body))
        run = answer.run

        async def relinked(writer: Writer) -> None:
            piecewise = _Piecewise(writer, self)
            await run(piecewise)
            piecewise.finish()

        return replace(answer, run=relinked, headers=headers)

    def _headers(self, headers: Headers) -> Headers:
        return tuple((name, self.link(value) if name.lower() == "location" else value) for name, value in headers)

    def _bytes(self, body: bytes) -> bytes:
        # Latin-1 takes every byte as it is, and tags and addresses are ASCII in whatever the page is written in.
        return self.page(body.decode("latin-1")).encode("latin-1")


class _Piecewise:
    """A `Writer` that rewrites a page as it comes, keeping back a tag that has not ended yet."""

    def __init__(self, writer: Writer, relinking: Relinking) -> None:
        self._writer = writer
        self._relinking = relinking
        self._rest = b""
        self.on_close = writer.on_close
        self.drain = writer.drain

    @property
    def closed(self) -> bool:
        return self._writer.closed

    def write(self, data: bytes) -> None:
        whole = self._rest + data
        end = len(whole)
        opened = whole.rfind(b"<")
        if opened > whole.rfind(b">") and end - opened < 65536:
            end = opened
        self._rest = whole[end:]
        self._send(whole[:end])

    def write_framed(self, chunk: bytes) -> None:
        self.write(unframe_chunk(chunk))

    def finish(self) -> None:
        self._send(self._rest)
        self._rest = b""

    def _send(self, data: bytes) -> None:
        if data:
            self._writer.write(self._relinking._bytes(data))
