"""Calls servers that a kubeconfig names: webhooks for audit events, for tokens and for authorization.

The kubeconfig's cluster is the webhook, its server the whole URL; its user is how this server shows who it is.
https://kubernetes.io/docs/reference/access-authn-authz/webhook/#configuration-file-format.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pinnace.client.https import tls_context
from pinnace.client.kubeconfig import Connection, KubeconfigError, load

if TYPE_CHECKING:
    import aiohttp

_SECONDS = 30.0
_MOST = 3 << 20  # bytes of an answer


class CallFailed(Exception):
    """The webhook could not be asked, or answered with an error; `passing` where asking again may help."""

    def __init__(self, why: str, *, passing: bool) -> None:
        super().__init__(why)
        self.passing = passing


class KubeconfigWebhook:
    """Keeps connections open between calls; belongs to one event loop."""

    def __init__(self, kubeconfig: Path, seconds: float = _SECONDS) -> None:
        """Raises ValueError for a kubeconfig that cannot be used."""
        self._connection = _connection(kubeconfig)
        self._seconds = seconds
        self._session: aiohttp.ClientSession | None = None
        self._calls = 0  # under way
        self._closed = False

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
                answer = await response.content.read(_MOST + 1)
                while len(answer) <= _MOST and not response.content.at_eof():
                    answer += await response.content.read(_MOST)
                status = response.status
        except TimeoutError:
            raise CallFailed(f'Post "{url}": context deadline exceeded', passing=True) from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallFailed(f'Post "{url}": {error or type(error).__name__}', passing=True) from None
        if len(answer) > _MOST:
            raise CallFailed(f'Post "{url}": the answer is longer than {_MOST} bytes', passing=False)
        if not 200 <= status < 300:
            text = answer[:1024].decode(errors="replace").strip() or "unknown"
            why = f'an error on the server ("{text}") has prevented the request from succeeding'
            if status < 500:
                why = f"the server rejected our request for an unknown reason ({status})"
            raise CallFailed(why, passing=status >= 500 or status == 429)
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
