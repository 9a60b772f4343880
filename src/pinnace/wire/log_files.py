"""/logs: the files below a directory, /var/log in Kubernetes, as its servers show them to who may see them.

A directory is a page of links, as Go's http.FileServer makes it.
"""

from __future__ import annotations

import asyncio
import html
import mimetypes
from pathlib import Path
from urllib.parse import quote, unquote

from pinnace.wire.http import AnyResponse, Request, Response, StreamingResponse, Writer

DIRECTORY = Path("/var/log")
_CHUNK = 1 << 16
_NOSNIFF = ("X-Content-Type-Options", "nosniff")
_PLAIN = (("Content-Type", "text/plain; charset=utf-8"), _NOSNIFF)


def answer(request: Request, directory: Path = DIRECTORY) -> AnyResponse:
    """What is at a path below /logs; a link leads where it leads, for logs of containers are links."""
    name = unquote(request.path).removeprefix("/logs").lstrip("/")
    if ".." in name.split("/"):
        return Response(400, _PLAIN, b"invalid URL path\n")
    path = directory / name
    try:
        if path.is_dir():
            if not request.path.endswith("/"):
                return Response(301, (("Location", f"{request.path.rsplit('/', 1)[-1]}/"),))
            return _listing(path)
        if not path.is_file():
            return Response(404, _PLAIN, b"404 page not found\n")
    except (OSError, ValueError):
        return Response(404, _PLAIN, b"404 page not found\n")
    kind, _ = mimetypes.guess_type(name)
    return StreamingResponse(lambda out: _send(path, out), 200, (("Content-Type", kind or _PLAIN[0][1]), _NOSNIFF))


def _listing(path: Path) -> Response:
    names = sorted(f"{one.name}/" if one.is_dir() else one.name for one in path.iterdir())
    lines = "".join(f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in names)
    return Response(200, (("Content-Type", "text/html; charset=utf-8"),), f"<pre>\n{lines}</pre>\n".encode())


async def _send(path: Path, out: Writer) -> None:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK):
            out.write(chunk)
            await out.drain()
