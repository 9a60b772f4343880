"""The end of a server that still listens: what is at work is finished, and what comes is sent elsewhere (429).

So clients behind a load balancer are told to come again instead of being refused a connection
(`--shutdown-send-retry-after` of kube-apiserver).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from pinnace.wire.http import AnyResponse, Handler, Request, Response

_LATER = Response(
    429,
    (
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Retry-After", "5"),
        ("X-Content-Type-Options", "nosniff"),
    ),
    b"The apiserver is shutting down, please try again later.\n",
    closes=True,
)
_ALWAYS = ("/healthz", "/livez", "/readyz")  # load balancers still want to know


class Draining:
    """A handler before another, which it leaves alone until `drain`."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._drains = False
        self._working = 0  # requests without an answer so far
        self._idle = asyncio.Event()
        self._idle.set()

    def handle(self, request: Request) -> AnyResponse | Awaitable[AnyResponse]:
        if self._drains and not request.path.startswith(_ALWAYS):
            return _LATER
        answer = self._handler(request)
        return self._counted(answer) if isinstance(answer, Awaitable) else answer

    async def _counted(self, answer: Awaitable[AnyResponse]) -> AnyResponse:
        self._working += 1
        self._idle.clear()
        try:
            return await answer
        finally:
            self._working -= 1
            if not self._working:
                self._idle.set()

    async def drain(self, seconds: float) -> None:
        """Take nothing more, and wait until all requests are answered, so long at most; watches and logs go on."""
        self._drains = True
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            pass
