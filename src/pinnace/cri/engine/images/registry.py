"""A client of one image registry: manifests and blobs by the distribution spec, with its ways to prove who asks.

Anonymous, basic, bearer-token and identity-token authentication. Errors are worded as containerd words them, because
`kubectl describe` shows them and people search for them. https://github.com/opencontainers/distribution-spec and
https://distribution.github.io/distribution/spec/auth/token/ specify the exchange.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import aiohttp
import orjson
from multidict import CIMultiDict

from pinnace.cri.api import AuthConfig
from pinnace.cri.engine.images import manifest as manifests
from pinnace.cri.engine.images.content import BlobWriter, ContentError, ContentStore, sha256_digest
from pinnace.cri.engine.images.hosts import DIRECTORIES, Host
from pinnace.cri.engine.images.reference import Reference

_ACCEPT = ", ".join((manifests.OCI_INDEX, manifests.DOCKER_LIST, manifests.OCI_MANIFEST, manifests.DOCKER_MANIFEST))
_MANIFEST_LIMIT = 8 << 20  # bytes
_ERROR_LIMIT = 64 << 10
_PIECE = 1 << 18
_BUSY = frozenset({408, 429, 502, 503, 504})
_ATTEMPTS = 5  # after the first
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0  # seconds
_CHALLENGE_PARAMETER = re.compile(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"|([a-zA-Z_]+)=([^\s,"]+)')


class RegistryError(Exception):
    """A registry did not give what was asked; the text goes behind containerd's "failed to …"."""


class NotFoundError(RegistryError):
    """The registry has no such thing."""


class _BrokenError(Exception):
    """A connection ended before the answer did."""


@dataclass(slots=True)
class RegistryOptions:
    """How registries are reached."""

    hosts: Sequence[Path] = DIRECTORIES  # of hosts.toml files
    connect_timeout: float = 30.0  # seconds
    read_timeout: float = 60.0  # seconds without a byte


def parse_challenge(header: str) -> tuple[str, dict[str, str]]:
    """The scheme (lower case) and the parameters of a `WWW-Authenticate` header."""
    scheme, _, rest = header.strip().partition(" ")
    found: dict[str, str] = {}
    for quoted_name, quoted, name, value in _CHALLENGE_PARAMETER.findall(rest):
        found[(quoted_name or name).lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted_name else value
    return scheme.lower(), found


def credentials(auth: AuthConfig | None) -> tuple[str, str]:
    """User and password; both empty where there are none. `auth` holds both in base64, as in Docker's config."""
    if auth is None:
        return "", ""
    if auth.username or auth.password:
        return auth.username, auth.password
    if auth.auth:
        try:
            user, colon, password = base64.b64decode(auth.auth).decode().partition(":")
        except ValueError:
            raise RegistryError("invalid auth config: not base64") from None
        if not colon:
            raise RegistryError("invalid decoded auth: no colon")
        return user, password.rstrip("\0")
    return "", ""


def auth_for(host: str, auth: AuthConfig | None) -> AuthConfig | None:
    """Credentials are shown to the server that they are for, or to all where they name none."""
    if auth is None or not auth.server_address:
        return auth
    address = auth.server_address if "://" in auth.server_address else f"//{auth.server_address}"
    return auth if urlsplit(address).netloc == host else None


class Repository:
    """One repository at one host; use as an async context manager."""

    def __init__(self, host: Host, reference: Reference, auth: AuthConfig | None, options: RegistryOptions) -> None:
        self.host = host
        self._reference = reference
        self._auth = auth = auth_for(host.name, auth)
        self._options = options
        self._authorization = f"Bearer {auth.registry_token}" if auth and auth.registry_token else ""
        self._login = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Repository:
        connect = self.host.dial_timeout or self._options.connect_timeout
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=self._options.read_timeout)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_tls(self.host)),
            timeout=timeout,
            auto_decompress=False,
            trust_env=True,  # HTTPS_PROXY and NO_PROXY, as Go programs heed them
            proxy=self.host.proxy or None,
            headers={"User-Agent": "pinnace"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    def url(self, kind: str, name: str) -> str:
        namespace = f"?ns={quote(self.host.namespace)}" if self.host.namespace else ""
        return f"{self.host.url}/{self._reference.path}/{kind}/{name}{namespace}"

    async def manifest(self, target: str) -> tuple[bytes, str]:
        """A manifest or index by tag or digest, and its media type; checked where asked for by digest."""
        async with self._get(self.url("manifests", target), {"Accept": _ACCEPT}) as response:
            data = await response.content.read(_MANIFEST_LIMIT + 1)
            while not response.content.at_eof() and len(data) <= _MANIFEST_LIMIT:
                data += await response.content.read(_MANIFEST_LIMIT + 1 - len(data))
            if len(data) > _MANIFEST_LIMIT:
                raise RegistryError("manifest is larger than the 8 MiB that are allowed")
            header = response.headers.get("Content-Type", "")
            told = response.headers.get("Docker-Content-Digest", "")
        expected = target if target.startswith("sha256:") else told
        if expected.startswith("sha256:") and sha256_digest(data) != expected:
            raise ContentError(f"unexpected digest {sha256_digest(data)} of manifest, expected {expected}")
        return data, manifests.media_type(data, header)

    async def blob(self, wanted: manifests.Descriptor, content: ContentStore) -> None:
        """Bring a blob into the content store; digest and size are checked."""
        if wanted.digest in content:
            return
        failure: RegistryError | None = None
        for url in (*(url for url in wanted.urls if _is_web(url)), self.url("blobs", wanted.digest)):
            try:
                with content.writer() as writer:
                    await self._download(url, wanted, writer)
                    writer.commit(wanted.digest, wanted.size)
                return
            except RegistryError as error:
                failure = error
        assert failure is not None
        raise RegistryError(f"failed to copy: httpReadSeeker: failed open: {failure}") from failure

    async def _download(self, url: str, wanted: manifests.Descriptor, writer: BlobWriter) -> None:
        """Read all of a blob, going on where a connection breaks as long as each one brings something."""
        fruitless = 0
        while True:
            before = writer.size
            try:
                await self._read(url, wanted, writer)
                return
            except _BrokenError as error:
                fruitless = 0 if writer.size > before else fruitless + 1
                if fruitless == _ATTEMPTS:
                    raise RegistryError(str(error)) from error
                await asyncio.sleep(_pause(fruitless))

    async def _read(self, url: str, wanted: manifests.Descriptor, writer: BlobWriter) -> None:
        headers = {"Range": f"bytes={writer.size}-"} if writer.size else {}
        async with self._get(url, headers) as response:
            if writer.size and not _goes_on(response, writer.size):
                writer.restart()
            try:
                async for data in response.content.iter_chunked(_PIECE):
                    if 0 <= wanted.size < writer.size + len(data):
                        raise ContentError(f"blob {wanted.digest} is larger than the {wanted.size} bytes announced")
                    if len(data) < _PIECE // 4:
                        writer.write(data)
                    else:
                        await asyncio.to_thread(writer.write, data)  # hashing takes milliseconds
            except (aiohttp.ClientError, TimeoutError) as error:
                raise _BrokenError(_connection_words(error, url)) from error
        if wanted.size > writer.size and response.headers.get("Content-Length") is None:
            raise _BrokenError(f'failed to do request: Get "{url}": unexpected EOF')

    @asynccontextmanager
    async def _get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful answer; logs in once where asked to, and comes back to servers that are busy."""
        used, logged_in, busy = self._authorization, False, 0
        response = await self._request(url, headers, used)
        try:
            while True:
                if response.status == 401 and not logged_in and self._is_home(str(response.url)):
                    challenge = response.headers.getall("WWW-Authenticate", [])
                    response.release()
                    await self._log_in(challenge, used)
                    used, logged_in = self._authorization, True
                elif response.status in _BUSY and busy < _ATTEMPTS:
                    pause = _retry_after(response.headers.get("Retry-After", ""), _pause(busy))
                    response.release()
                    busy += 1
                    await asyncio.sleep(pause)
                else:
                    break
                response = await self._request(url, headers, used)
            if response.status >= 400:
                raise await _failure(response, url)
            yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RegistryError(_connection_words(error, url)) from error
        finally:
            response.release()

    async def _request(self, url: str, headers: Mapping[str, str], authorization: str) -> aiohttp.ClientResponse:
        """Follows redirects; only the host itself is shown credentials and the headers that are for it."""
        assert self._session is not None
        try:
            for _ in range(10):
                sent: CIMultiDict[str] = CIMultiDict(headers)
                if self._is_home(url):
                    sent.extend((name, value) for name, values in self.host.header.items() for value in values)
                    if authorization:
                        sent["Authorization"] = authorization
                response = await self._session.get(url, headers=sent, allow_redirects=False)
                if response.status not in (301, 302, 303, 307, 308) or "Location" not in response.headers:
                    return response
                response.release()
                url = urljoin(url, response.headers["Location"])
                if not _is_web(url):
                    raise RegistryError(f'failed to do request: Get "{url}": unsupported protocol scheme')
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise RegistryError(_connection_words(error, url)) from error
        raise RegistryError(f'failed to do request: Get "{url}": stopped after 10 redirects')

    def _is_home(self, url: str) -> bool:
        """Whether it is at the host itself, which alone is told who asks."""
        home, there = urlsplit(self.host.url), urlsplit(url)
        return (there.scheme, there.netloc) == (home.scheme, home.netloc)

    async def _log_in(self, challenges: Sequence[str], used: str) -> None:
        """Set the authorization that the registry wants; nothing where another request has just done so."""
        async with self._login:
            if self._authorization != used:
                return
            for scheme, parameters in map(parse_challenge, challenges):
                if scheme == "bearer":
                    self._authorization = f"Bearer {await self._token(parameters)}"
                    return
                user, password = credentials(self._auth)
                if scheme == "basic" and user and not used:
                    self._authorization = _basic(user, password)
                    return

    async def _token(self, challenge: Mapping[str, str]) -> str:
        """A bearer token from the server that the challenge names."""
        assert self._session is not None
        realm = challenge.get("realm", "")
        if urlsplit(realm).scheme not in ("http", "https"):
            raise RegistryError(f"failed to parse realm {realm!r} of the token server")
        scope = challenge.get("scope") or f"repository:{self._reference.path}:pull"
        user, password = credentials(self._auth)
        parameters = {"service": challenge.get("service", ""), "scope": scope}
        try:
            if self._auth and self._auth.identity_token:
                form = {**parameters, "grant_type": "refresh_token", "client_id": "pinnace"}
                form["refresh_token"] = self._auth.identity_token
                # Not to be sent on to wherever that server points.
                response = await self._session.post(realm, data=form, allow_redirects=False)
            else:
                headers = {"Authorization": _basic(user, password)} if user else {}
                query = {name: value for name, value in parameters.items() if value}
                response = await self._session.get(realm, params=query, headers=headers)
            body = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RegistryError(_connection_words(error, realm)) from error
        if response.status >= 400:
            what = "anonymous token" if not user else "oauth token"
            raise RegistryError(
                f"failed to authorize: failed to fetch {what}: unexpected status from GET request to {response.url}: "
                f"{response.status} {response.reason}"
            )
        return _token_of(body)


def _tls(host: Host) -> ssl.SSLContext | bool:
    """How a host proves who it is, and we to it. Raises RegistryError for certificates that are none."""
    if host.url.startswith("http:"):
        return True
    context = ssl.create_default_context()
    try:
        for path in host.ca:
            context.load_verify_locations(path)
        for certificate, key in host.client:
            context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise RegistryError(f"failed to load certificates of {host.name}: {error}") from None
    if host.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _is_web(url: str) -> bool:
    return urlsplit(url).scheme in ("http", "https")


def _goes_on(response: aiohttp.ClientResponse, position: int) -> bool:
    """Whether an answer is the rest that was asked for, and not the whole once more."""
    content_range = response.headers.get("Content-Range", "")
    return response.status == 206 and content_range.startswith(f"bytes {position}-")


def _pause(attempt: int) -> float:
    """Seconds before the next attempt."""
    return min(_FIRST_PAUSE * float(2**attempt), _LONGEST_PAUSE)


def _retry_after(header: str, default: float) -> float:
    """Seconds that a server asks for, by number or date; not more than we wait at all."""
    if header.strip().isdecimal():
        wanted = float(header)
    else:
        try:
            wanted = parsedate_to_datetime(header).timestamp() - time.time()
        except (TypeError, ValueError):
            return default
    return min(max(wanted, 0.0), _LONGEST_PAUSE)


def _token_of(body: bytes) -> str:
    try:
        document: Any = orjson.loads(body)
        token = document.get("token") or document.get("access_token")
    except (orjson.JSONDecodeError, AttributeError):
        token = None
    if not isinstance(token, str) or not token or not token.isprintable():
        raise RegistryError("failed to authorize: authorization server did not include a token in the response")
    return token


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def _failure(response: aiohttp.ClientResponse, url: str) -> RegistryError:
    """What an answer that is none means, in containerd's words; it asks for manifests by HEAD at first."""
    if response.status == 404:
        return NotFoundError("not found")
    said = _errors(await response.content.read(_ERROR_LIMIT))
    if response.status == 401:
        why = "server message: insufficient_scope: authorization failed"
        if not any("Bearer" in one for one in response.headers.getall("WWW-Authenticate", [])):
            why = "authorization failed: no basic auth credentials"
        return RegistryError(f"pull access denied, repository does not exist or may require authorization: {why}")
    status = f"{response.status} {response.reason}"
    return RegistryError(f"unexpected status from {_method(url).upper()} request to {url}: {status}{said}")


def _errors(body: bytes) -> str:
    """The errors of an answer, a line each, as the distribution spec has them."""
    try:
        listed = orjson.loads(body)["errors"]
        return "".join(f"\n{one['code'].lower().replace('_', ' ')}: {one['message']}" for one in listed)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return ""


def _method(url: str) -> str:
    return "Head" if "/manifests/" in url else "Get"


def _connection_words(error: BaseException, url: str) -> str:
    """A failed connection in the words of Go's HTTP client."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        detail = f"tls: failed to verify certificate: x509: {error.certificate_error}"
    elif isinstance(error, aiohttp.ClientConnectorDNSError):
        detail = f"dial tcp: lookup {parts.hostname}: no such host"
    elif isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        words = "connection refused" if isinstance(cause, ConnectionRefusedError) else str(cause.strerror or cause)
        detail = f"dial tcp {parts.hostname}:{port}: connect: {words}"
    elif isinstance(error, TimeoutError):
        detail = f"dial tcp {parts.hostname}:{port}: i/o timeout"
    else:
        detail = str(error) or type(error).__name__
    return f'failed to do request: {_method(url)} "{url}": {detail}'
