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
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import orjson

from pinnace.cri.api import AuthConfig
from pinnace.cri.engine.images import manifest as manifests
from pinnace.cri.engine.images.content import ContentError, ContentStore, sha256_digest
from pinnace.cri.engine.images.reference import Reference

_ACCEPT = ", ".join((manifests.OCI_INDEX, manifests.DOCKER_LIST, manifests.OCI_MANIFEST, manifests.DOCKER_MANIFEST))
_MANIFEST_LIMIT = 8 << 20  # bytes
_PIECE = 1 << 18
_HUB_HOST = "registry-1.docker.io"
_LOCAL = re.compile(r"(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?")
_CHALLENGE_PARAMETER = re.compile(r'([a-zA-Z_]+)="((?:[^"\\]|\\.)*)"|([a-zA-Z_]+)=([^\s,"]+)')


class RegistryError(Exception):
    """A registry did not give what was asked; the text goes behind containerd's "failed to …"."""


class NotFoundError(RegistryError):
    """The registry has no such thing."""


@dataclass(slots=True)
class RegistryOptions:
    """How registries are reached."""

    insecure: Sequence[str] = ()  # host[:port] spoken to in plain HTTP; those on this machine's loopback always are
    mirrors: Mapping[str, Sequence[str]] = field(default_factory=dict)  # domain -> base URLs, tried before the domain
    ca_file: str = ""  # more certificate authorities to trust, PEM
    connect_timeout: float = 30.0  # seconds
    read_timeout: float = 60.0  # seconds without a byte


def endpoints(domain: str, options: RegistryOptions) -> list[str]:
    """Base URLs to try in order."""
    urls = [url.rstrip("/") for url in options.mirrors.get(domain, ())]
    host = _HUB_HOST if domain == "docker.io" else domain
    plain = domain in options.insecure or _LOCAL.fullmatch(domain)
    urls.append(f"{'http' if plain else 'https'}://{host}")
    return urls


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


class Repository:
    """One repository at one endpoint; use as an async context manager."""

    def __init__(self, base: str, reference: Reference, auth: AuthConfig | None, options: RegistryOptions) -> None:
        self.base = base
        self._reference = reference
        self._auth = auth
        self._options = options
        self._authorization = f"Bearer {auth.registry_token}" if auth and auth.registry_token else ""
        self._login = asyncio.Lock()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Repository:
        context = ssl.create_default_context()
        if self._options.ca_file:
            context.load_verify_locations(self._options.ca_file)
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._options.connect_timeout, sock_read=self._options.read_timeout
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context),
            timeout=timeout,
            auto_decompress=False,
            trust_env=True,  # HTTPS_PROXY and NO_PROXY, as Go programs heed them
            headers={"User-Agent": "pinnace"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    def url(self, kind: str, name: str) -> str:
        return f"{self.base}/v2/{self._reference.path}/{kind}/{name}"

    async def manifest(self, target: str) -> tuple[bytes, str]:
        """A manifest or index by tag or digest, and its media type; checked where asked for by digest."""
        async with self._get(self.url("manifests", target), {"Accept": _ACCEPT}) as response:
            data = await response.content.read(_MANIFEST_LIMIT + 1)
            while not response.content.at_eof() and len(data) <= _MANIFEST_LIMIT:
                data += await response.content.read(_MANIFEST_LIMIT + 1 - len(data))
            if len(data) > _MANIFEST_LIMIT:
                raise RegistryError("manifest is larger than the 8 MiB that are allowed")
            header = response.headers.get("Content-Type", "")
        if target.startswith("sha256:") and sha256_digest(data) != target:
            raise ContentError(f"unexpected digest {sha256_digest(data)} of manifest, expected {target}")
        return data, manifests.media_type(data, header)

    async def blob(self, wanted: manifests.Descriptor, content: ContentStore) -> None:
        """Bring a blob into the content store; digest and size are checked."""
        if wanted.digest in content:
            return
        async with self._get(self.url("blobs", wanted.digest), {}) as response:
            with content.writer() as writer:
                async for data in response.content.iter_chunked(_PIECE):
                    if 0 <= wanted.size < writer.size + len(data):
                        raise ContentError(f"blob {wanted.digest} is larger than the {wanted.size} bytes announced")
                    if len(data) < _PIECE // 4:
                        writer.write(data)
                    else:
                        await asyncio.to_thread(writer.write, data)  # hashing takes milliseconds
                writer.commit(wanted.digest, wanted.size)

    @asynccontextmanager
    async def _get(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful answer; logs in once where asked to. Redirects elsewhere go without the credentials."""
        assert self._session is not None
        used = self._authorization
        response = await self._request(url, headers, used)
        try:
            if response.status == 401:
                challenge = response.headers.getall("WWW-Authenticate", [])
                response.release()
                await self._log_in(challenge, used)
                response = await self._request(url, headers, self._authorization)
            _check(response, url)
            yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise RegistryError(_connection_words(error, url)) from error
        finally:
            response.release()

    async def _request(self, url: str, headers: Mapping[str, str], authorization: str) -> aiohttp.ClientResponse:
        assert self._session is not None
        home = urlsplit(url).netloc
        try:
            for _ in range(10):
                ours = authorization and urlsplit(url).netloc == home
                sent = {**headers, **({"Authorization": authorization} if ours else {})}
                response = await self._session.get(url, headers=sent, allow_redirects=False)
                if response.status not in (301, 302, 303, 307, 308) or "Location" not in response.headers:
                    return response
                response.release()
                url = urljoin(url, response.headers["Location"])
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise RegistryError(_connection_words(error, url)) from error
        raise RegistryError(f"stopped after 10 redirects: {url}")

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
                response = await self._session.post(realm, data=form)
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


def _check(response: aiohttp.ClientResponse, url: str) -> None:
    if response.status in (401, 403):
        raise RegistryError(
            "pull access denied, repository does not exist or may require authorization: "
            f"{'authorization failed: no basic auth credentials' if response.status == 401 else 'insufficient_scope'}"
        )
    if response.status == 404:
        raise NotFoundError("not found")
    if response.status >= 400:
        raise RegistryError(f"unexpected status from GET request to {url}: {response.status} {response.reason}")


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
    return f'failed to do request: Get "{url}": {detail}'
