"""Large answers compressed, for clients that say they take gzip.

As kube-apiserver does it: above 128 KiB, at the fastest level, never a watch. A list that has not changed is the same
bytes object again, so what it compressed to is kept. Specified by RFC 9110, 8.4 and 12.5.3.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Awaitable, Mapping

from pinnace.wire.http import Response

LEAST_BYTES = 128 << 10
AT_ONCE_BYTES = 512 << 10  # longer ones are compressed in a thread: they would hold up everybody
KEPT = 3
KEPT_BYTES = 8 << 20  # longer ones are not kept
LEVEL = 1
GZIP_WINDOW = 31  # zlib's way to ask for a gzip header
HEADERS = (("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))

_kept: deque[tuple[bytes, bytes]] = deque(maxlen=KEPT)
_underway: dict[int, asyncio.Future[bytes]] = {}  # by id of the body, which the work holds


def compressed(headers: Mapping[str, str], response: Response) -> Response | Awaitable[Response]:
    """The response, compressed where it is worth it and the request's headers allow it."""
    body = response.body
    if len(body) <= LEAST_BYTES or not _takes_gzip(headers.get("accept-encoding", "")):
        return response
    for plain, packed in _kept:
        if plain is body:
            return _packed(response, packed)
    if len(body) <= AT_ONCE_BYTES:
        return _packed(response, _compress(body))
    return _compressed_later(response)


async def _compressed_later(response: Response) -> Response:
    body = response.body
    work = _underway.get(id(body))
    if work is None:
        work = _underway[id(body)] = asyncio.ensure_future(_compress_aside(body))
    return _packed(response, await asyncio.shield(work))


async def _compress_aside(body: bytes) -> bytes:
    try:
        packed = await asyncio.to_thread(_compress, body)
    finally:
        del _underway[id(body)]
    if len(body) <= KEPT_BYTES:
        _kept.append((body, packed))
    return packed


def _takes_gzip(accepted: str) -> bool:
    return "gzip" in accepted and any(token.strip() == "gzip" for token in accepted.split(","))


def _compress(body: bytes) -> bytes:
    return zlib.compress(body, LEVEL, GZIP_WINDOW)


def _packed(response: Response, body: bytes) -> Response:
    return Response(response.status, (*response.headers, *HEADERS), body, response.audit_id)
