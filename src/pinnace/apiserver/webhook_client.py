"""Calls servers that a kubeconfig names: webhooks for audit events, for tokens and for authorization.

The kubeconfig's cluster is the webhook, its server the whole URL; its user is how this server shows who it is.
https://kubernetes.io/docs/reference/access-authn-authz/webhook/#configuration-file-format.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.client.https import tls_context
from pinnace.client.kubeconfig import Connection, KubeconfigError, load

if TYPE_CHECKING:
    import aiohttp

MOST = 3 << 20  # bytes of an answer
_SECONDS = 30.0
_ATTEMPTS = 5
_FIRST_PAUSE = 0.5  # seconds; each is half as long again as the one before
_LONGER = 1.5
_PASSING = (429, 500, 504)  # statuses of what may be over soon


class CallFailed(Exception):
    """A webhook could not be asked, or did not answer as it must; `passing` where it may when it is asked again."""

    def __init__(self, why: str, *, passing: bool = False) -> None:
        super().__init__(why)
        self.passing = passing


async def whole(response: aiohttp.ClientResponse, most: int = MOST) -> bytes:
    """The body of an answer, which comes in pieces. Raises ValueError for one that is too long."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > most:
            raise ValueError(f"the answer is longer than {most} bytes")
    return bytes(body)


def refusal(status: int, body: bytes) -> str:
    """What is said of an answer that is an error."""
    if status == 404:
        return "the server could not find the requested resource"
    if status >= 500:
        text = body[:1024].decode(errors="replace").strip() or "unknown"
        return f'an error on the server ("{text}") has prevented the request from succeeding'
    return f"the server rejected our request for an unknown reason ({status})"


class KubeconfigWebhook:
    """Keeps connections open between calls; belongs to one event loop."""

    def __init__(self, kubeconfig: Path, seconds: float = _SECONDS) -> None:
        """Raises ValueError for a kubeconfig that cannot be used."""
        self._connection = _connection(kubeconfig)
        self._seconds = seconds
        self._session: aiohttp.ClientSession | None = None
        self._calls = 0  # under way
        self._closed = False

    async def ask(self, body: bytes, pause: float = _FIRST_PAUSE, *, insists: bool = False) -> bytes:
        """What the webhook answers to a JSON document, asked again where that may help, or anyway if it `insists`.

        `pause` is in seconds, before it is asked for the second time. Raises CallFailed.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                return await self.post(body)
            except CallFailed as error:
                if not (error.passing or insists):
                    raise
            await asyncio.sleep(pause)
            pause *= _LONGER
        return await self.post(body)

    async def post(self, body: bytes) -> bytes:
        """What the webhook answers to a JSON document. Raises CallFailed."""
        import aiohttp

        url = self._connection.server
        try:
            async with (
                asyncio.timeout(self._seconds),
                self._open() as session,
                session.post(
                    url,
                    data=body,
                    headers=self._headers(),
                    allow_redirects=False,
                    server_hostname=self._connection.tls_server_name or None,
                ) as response,
            ):
                answer = await whole(response)
        except TimeoutError:
            raise CallFailed(f'Post "{url}": context deadline exceeded') from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallFailed(f'Post "{url}": {error or type(error).__name__}', passing=_was_cut(error)) from None
        if not 200 <= response.status < 300:
            passing = response.status in _PASSING or "Retry-After" in response.headers
            raise CallFailed(refusal(response.status, answer), passing=passing)
        return answer

    async def close(self) -> None:
        """Keep no connections from now on: those in use are closed when the calls under way are over."""
        self._closed = True
        await self._tidy()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[aiohttp.ClientSession]:
        """The connections, for one call: one that was on its way when they were closed opens them once more."""
        if self._session is None:
            import aiohttp

            tls = tls_context(self._connection) if self._connection.server.startswith("https:") else False
            connector = aiohttp.TCPConnector(ssl=tls, limit=0, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(connector=connector)
        self._calls += 1
        try:
            yield self._session
        finally:
            self._calls -= 1
            await self._tidy()

    async def _tidy(self) -> None:
        if self._closed and not self._calls and self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json, */*"}
        connection = self._connection
        token = connection.token_file.read_text().strip() if connection.token_file is not None else connection.token
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers


def _was_cut(error: Exception) -> bool:
    """Whether a connection ended under the call: one that was kept may have, when the webhook started anew."""
    import aiohttp

    return isinstance(error, aiohttp.ServerDisconnectedError) or getattr(error, "errno", None) == errno.ECONNRESET


def _connection(kubeconfig: Path) -> Connection:
    try:
        found = load(kubeconfig)
        if not found.server:
            raise KubeconfigError("the cluster has no server")
        if found.server.startswith("https:"):
            tls_context(found)
        return found
    except KubeconfigError as error:
        raise ValueError(str(error)) from None
