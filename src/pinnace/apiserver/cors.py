"""Cross-origin requests: what browsers are told for the origins that `--cors-allowed-origins` names.

It stands before authentication, for browsers ask without credentials whether they may ask with them. The headers are
those of kube-apiserver; their meaning is specified by https://fetch.spec.whatwg.org/#http-cors-protocol.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from dataclasses import replace

from pinnace.wire.http import AnyResponse, Handler, Request, Response

METHODS = "POST, GET, OPTIONS, PUT, DELETE, PATCH"
REQUEST_HEADERS = (
    "Content-Type, Content-Length, Accept-Encoding, X-CSRF-Token, Authorization, X-Requested-With, If-Modified-Since"
)


def check_pattern(pattern: str) -> str:
    """Why a pattern of origins cannot be used; empty if it can."""
    try:
        re.compile(pattern)
    except re.error as error:
        return f"invalid regular expression {pattern!r}: {error}"
    if not (pattern.startswith("^") or "//" in pattern):
        return f"regular expression {pattern!r} does not pin to start of host in the origin header"
    if not pattern.endswith(("$", ":", "(:|$)", "($|:)")):
        return f"regular expression {pattern!r} does not pin to end of host in the origin header"
    return ""


def with_cors(handler: Handler, patterns: Sequence[str]) -> Handler:
    """A handler that answers allowed origins' preflight requests and marks every other answer to them."""
    allowed = [re.compile(pattern) for pattern in patterns]

    def handle(request: Request) -> AnyResponse | Awaitable[AnyResponse]:
        origin = request.headers.get("origin")
        if not origin or not any(pattern.search(origin) for pattern in allowed):
            return handler(request)
        headers = _headers(origin)
        if request.method == "OPTIONS":
            return Response(204, headers)
        answer = handler(request)
        if isinstance(answer, Awaitable):
            return _marked_later(answer, headers)
        return _marked(answer, headers)

    return handle


def _headers(origin: str) -> tuple[tuple[str, str], ...]:
    return (
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Allow-Methods", METHODS),
        ("Access-Control-Allow-Headers", REQUEST_HEADERS),
        ("Access-Control-Expose-Headers", "Date"),
        ("Access-Control-Allow-Credentials", "true"),
    )


def _marked(answer: AnyResponse, headers: tuple[tuple[str, str], ...]) -> AnyResponse:
    return replace(answer, headers=(*answer.headers, *headers))


async def _marked_later(answer: Awaitable[AnyResponse], headers: tuple[tuple[str, str], ...]) -> AnyResponse:
    return _marked(await answer, headers)
