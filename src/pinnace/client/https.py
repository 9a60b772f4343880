"""Carries a client's calls to an API server over HTTPS.

It relies on aiohttp, imported when the first call is made. Every failure is an ApiError: what the server said, or, when
it cannot be reached, one with reason ServiceUnavailable, which callers may retry. Watches are read by line and hold
back the server when their reader is slow.
"""

from __future__ import annotations

import socket
import ssl
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from pinnace.client.kubeconfig import Connection
from pinnace.client.measures import LOST, REQUEST_SECONDS, REQUESTS
from pinnace.client.throttle import Throttle
from pinnace.client.transport import JSON, Params
from pinnace.machinery.errors import ApiError, timeout, unavailable
from pinnace.machinery.meta import Obj

if TYPE_CHECKING:
    import aiohttp

_CONNECT_SECONDS = 10
_REQUEST_SECONDS = 75  # the server itself gives up after 60
_SILENCE_SECONDS = 660  # longer than any watch is asked to last: beyond it the connection is dead
_TLS_BUFFER = 32 << 10  # bytes that asyncio reserves for each connection: its own choice is eight times as much
_LONGEST_LINE = 32 << 20  # bytes; ten times the largest object

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Gone",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class HttpsTransport:
    """Requests to one API server as one user; belongs to one event loop."""

    def __init__(
        self, connection: Connection, *, user_agent: str = "pinnace", throttle: Throttle | None = None
    ) -> None:
        self._connection = connection
        self._user_agent = user_agent
        self._host = connection.server.partition("://")[2].partition("/")[0]
        self._throttle = throttle
        self.bearer = connection.token  # which may be exchanged
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._token = _TokenFile(connection.token_file) if connection.token_file else None

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        body: Obj | list[Obj] | None = None,
        content_type: str = JSON,
    ) -> Obj:
        data = orjson.dumps(body) if body is not None else None
        answer = await self._send(method, path, params, data, content_type)
        try:
            found: Obj = orjson.loads(answer)
        except orjson.JSONDecodeError:
            raise ApiError(500, "InternalError", f"the server's answer to {method} {path} is not JSON") from None
        return found

    async def read(self, path: str, *, params: Params | None = None) -> bytes:
        return await self._send("GET", path, params, None, JSON)

    async def watch(self, path: str, params: Params) -> AsyncIterator[Obj]:
        import aiohttp

        if self._throttle is not None:
            await self._throttle.turn()
        limits = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
        code = LOST
        try:
            async with self._open().get(
                self._url(path), params=dict(params), headers=self._headers(), timeout=limits
            ) as response:
                code = str(response.status)
                REQUESTS.inc(code, self._host, "GET")
                if response.status >= 400:
                    raise _error(response.status, await response.read())
                async for line in _lines(response.content):
                    event: Obj = orjson.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError.from_status(event["object"])
                    yield event
        except (TimeoutError, aiohttp.ClientError, OSError, orjson.JSONDecodeError) as error:
            if code == LOST:
                REQUESTS.inc(code, self._host, "GET")
            raise _lost(error) from error

    def show(self, certificate: bytes, key: bytes) -> None:
        """Show another client certificate (PEM) on connections from now on; ValueError where it cannot be used."""
        self._connection = replace(self._connection, certificate=certificate, key=key)
        if self._tls is not None:
            show_certificate(self._tls, self._connection)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _send(
        self, method: str, path: str, params: Params | None, data: bytes | None, content_type: str
    ) -> bytes:
        import aiohttp

        if self._throttle is not None:
            await self._throttle.turn()
        headers = self._headers()
        if data is not None:
            headers["Content-Type"] = content_type
        code, began = LOST, time.perf_counter()
        try:
            async with self._open().request(
                method, self._url(path), params=dict(params or {}), data=data, headers=headers
            ) as response:
                answer = await response.read()
                code = str(response.status)
                if response.status >= 400:
                    raise _error(response.status, answer)
                return answer
        except TimeoutError:
            raise timeout(f"{method} {path}: no answer in {_REQUEST_SECONDS}s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _lost(error) from error
        finally:
            REQUESTS.inc(code, self._host, method)
            REQUEST_SECONDS.observe(time.perf_counter() - began, self._host, method)

    def _open(self) -> aiohttp.ClientSession:
        """The session, made at first use because it belongs to the running loop."""
        if self._session is None:
            from asyncio import sslproto

            import aiohttp

            sslproto.SSLProtocol.max_size = _TLS_BUFFER  # a kubelet may have hundreds of watches
            if self._connection.server.startswith("https://"):
                self._tls = tls_context(self._connection)
            tls = self._tls or False
            connector = aiohttp.TCPConnector(ssl=tls, limit=0, keepalive_timeout=90, socket_factory=_socket)
            limits = aiohttp.ClientTimeout(total=_REQUEST_SECONDS, sock_connect=_CONNECT_SECONDS)
            self._session = aiohttp.ClientSession(connector=connector, timeout=limits, auto_decompress=True)
        return self._session

    def _url(self, path: str) -> Any:
        from yarl import URL

        return URL(self._connection.server + path, encoded=True)

    def _headers(self) -> dict[str, str]:
        # Within a cluster a list is dearer to compress and to inflate than to carry.
        headers = {"Accept": JSON, "Accept-Encoding": "identity", "User-Agent": self._user_agent}
        token = self._token.read() if self._token else self.bearer
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return headers


def _socket(address: Any) -> socket.socket:
    """A socket that notices within a minute that its peer has vanished, so that no watch waits for a dead server."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    made.setblocking(False)
    return made


class _TokenFile:
    """A token that is renewed on disk: read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._token = ""
        self._stamp: tuple[int, int] | None = None

    def read(self) -> str:
        """The token; the last one known while the file cannot be read."""
        try:
            status = self._path.stat()
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp != self._stamp:
                self._token, self._stamp = self._path.read_text().strip(), stamp
        except OSError as error:
            if not self._token:
                raise unavailable(f"cannot read the token file {self._path}: {error.strerror}") from None
        return self._token


def tls_context(connection: Connection) -> ssl.SSLContext:
    """TLS as the connection asks for it; ValueError for certificates that cannot be used."""
    context = ssl.create_default_context(cadata=connection.ca.decode() if connection.ca else None)
    if not connection.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    show_certificate(context, connection)
    return context


def show_certificate(context: ssl.SSLContext, connection: Connection) -> None:
    """Show servers the certificate of the connection, if it has one; ValueError where that cannot be used."""
    if connection.certificate and connection.key:
        # Python reads client certificates from files only.
        with tempfile.NamedTemporaryFile(prefix="pinnace-client-") as file:
            file.write(connection.certificate + b"\n" + connection.key)
            file.flush()
            context.load_cert_chain(file.name)


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of a body as they come; aiohttp's own reader would limit their length."""
    rest = bytearray()
    async for chunk in content.iter_any():
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            line = bytes(rest) + chunk[start:end]
            rest.clear()
            start = end + 1
            if line.strip():
                yield line
        rest += chunk[start:]
        if len(rest) > _LONGEST_LINE:
            raise unavailable("a watch event is larger than any object can be")
    # What follows the last line feed was cut off in the middle: the watch is resumed before it.


def _error(code: int, body: bytes) -> ApiError:
    """What an answer above 399 says: its Status, or its text if some proxy wrote it."""
    try:
        status = orjson.loads(body)
        if isinstance(status, dict) and status.get("kind") == "Status":
            return ApiError.from_status({"code": code, **status})
    except orjson.JSONDecodeError:
        pass
    text = body[:1024].decode(errors="replace").strip()
    try:
        phrase = HTTPStatus(code).phrase
    except ValueError:
        phrase = "unknown"
    return ApiError(code, _REASONS.get(code, ""), text or phrase)


def _lost(error: BaseException) -> ApiError:
    return unavailable(f"the connection to the server was refused or lost: {error or type(error).__name__}")
