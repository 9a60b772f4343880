"""Calls webhooks that objects register: by URL, or at an endpoint of a Service, whose name their certificate must bear.

Admission and the conversion of custom resources do; webhooks that flags name are called by `webhook_client`.

https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#contacting-the-webhook.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import orjson

from pinnace.apis.resources import SERVICES
from pinnace.apiserver.backends import bracketed, trusting_bundle
from pinnace.apiserver.endpoints import ready_endpoints, slices_of
from pinnace.apiserver.storage import Storage
from pinnace.apiserver.webhook_client import MOST, CallFailed, refusal, whole
from pinnace.client.https import show_certificate
from pinnace.client.kubeconfig import Connection
from pinnace.machinery.meta import Obj

if TYPE_CHECKING:
    import aiohttp

    from pinnace.apiserver.admission.webhook_credentials import WebhookCredentials

_CONTEXTS = 100


class _Target(NamedTuple):
    shown: str  # the URL that messages name
    url: str
    server_name: str | None  # what the certificate must be for, where it is not the URL's host
    address: tuple[str, int]  # the host and port that it is known by


class RegisteredWebhooks:
    """Keeps connections open between calls; `close` at the end. Nobody's name is shown but where `credentials` say."""

    def __init__(self, credentials: WebhookCredentials | None = None) -> None:
        self._credentials = credentials
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[tuple[str, Connection | None], ssl.SSLContext] = {}  # by CA bundle and who we are

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def post(self, webhook: Obj, review: Obj, storage: Storage, most: int = MOST) -> Any:
        """The document of at most `most` bytes that the webhook answers `review` with. Raises CallFailed."""
        import aiohttp

        seconds = webhook.get("timeoutSeconds") or 10
        shown = _url(webhook["clientConfig"], seconds)
        try:
            target = _resolve(webhook["clientConfig"], seconds, storage)
            if self._session is None:
                self._session = aiohttp.ClientSession(trust_env=False)
            user = self._credentials.of(*target.address) if self._credentials is not None else None
            context = self._context(webhook["clientConfig"].get("caBundle") or "", user)
            async with asyncio.timeout(seconds):
                try:
                    status, body = await self._exchange(target, review, context, user, most)
                except aiohttp.ServerDisconnectedError:  # a connection kept from an earlier call, closed meanwhile
                    status, body = await self._exchange(target, review, context, user, most)
            if status != 200:
                raise CallFailed(f"failed to call webhook: {refusal(status, body)}")
            return orjson.loads(body)
        except TimeoutError:
            raise CallFailed(f'failed to call webhook: Post "{shown}": context deadline exceeded') from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            why = f"tls: failed to verify certificate: x509: {_certificate_error(error)}"
            raise CallFailed(f'failed to call webhook: Post "{shown}": {why}') from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallFailed(f'failed to call webhook: Post "{shown}": {error}') from None

    async def _exchange(
        self, target: _Target, review: Obj, context: ssl.SSLContext, user: Connection | None, most: int
    ) -> tuple[int, bytes]:
        """Status and body of one answer."""
        assert self._session is not None
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        token = user.bearer_token() if user is not None else ""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with self._session.post(
            target.url,
            data=orjson.dumps(review),
            headers=headers,
            ssl=context,
            server_hostname=target.server_name,
            allow_redirects=False,
        ) as response:
            return response.status, await whole(response, most)

    def _context(self, bundle: str, user: Connection | None) -> ssl.SSLContext:
        """TLS that trusts the bundle (base64 of PEM), or who the machine trusts. Raises ValueError."""
        if user is not None and user.certificate is None:
            user = None  # whose token goes with each request
        found = self._contexts.get((bundle, user))
        if found is None:
            found = trusting_bundle(bundle)
            if user is not None:
                show_certificate(found, user)
            if len(self._contexts) >= _CONTEXTS:
                self._contexts.clear()
            self._contexts[bundle, user] = found
        return found


def _url(config: Obj, seconds: int) -> str:
    """What is called, as messages show it."""
    if config.get("url"):
        return f"{config['url']}?timeout={seconds}s"
    service = config.get("service") or {}
    path = "/" + (service.get("path") or "").lstrip("/")
    host = f"{service.get('name')}.{service.get('namespace')}.svc"
    return f"https://{host}:{service.get('port') or 443}{path}?timeout={seconds}s"


def _resolve(config: Obj, seconds: int, storage: Storage) -> _Target:
    shown = _url(config, seconds)
    if config.get("url"):
        parts = urlsplit(config["url"])
        return _Target(shown, shown, None, (parts.hostname or "", parts.port or 443))
    service = config.get("service") or {}
    name, namespace = service.get("name", ""), service.get("namespace", "")
    address, port = endpoint(storage, namespace, name, service.get("port") or 443)
    path = "/" + (service.get("path") or "").lstrip("/")
    url = f"https://{bracketed(address)}:{port}{path}?timeout={seconds}s"
    host = f"{name}.{namespace}.svc"
    return _Target(shown, url, host, (host, service.get("port") or 443))


def endpoint(storage: Storage, namespace: str, name: str, port: int) -> tuple[str, int]:
    """Address and port of something ready behind a Service's port, any of them. Raises CallFailed."""
    found = storage.cache(SERVICES).get(f"{namespace}/{name}")
    if found is None:
        raise CallFailed(f'failed to call webhook: service "{name}" not found')
    spec = found.obj().get("spec") or {}
    if spec.get("type") == "ExternalName" and spec.get("externalName"):
        return spec["externalName"], port
    chosen = [each for each in spec.get("ports") or () if each.get("port") == port]
    if not chosen:
        raise CallFailed(f'failed to call webhook: no service port {port} found for service "{name}"')
    ready = ready_endpoints(slices_of(storage, namespace, name), chosen[0].get("name") or "")
    if ready:
        return random.choice(ready)
    raise CallFailed(f'failed to call webhook: no endpoints available for service "{name}"')


def _certificate_error(error: Exception) -> str:
    text = str(error)
    if "Hostname mismatch" in text or "IP address mismatch" in text:
        return "certificate is not valid for the name it was called by"
    if "expired" in text:
        return "certificate has expired or is not yet valid"
    return "certificate signed by unknown authority"
