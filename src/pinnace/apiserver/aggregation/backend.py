"""One registered server: requests for its group and version are passed on to it, with the name of who sent them.

It believes the name because of our front-proxy certificate. What the client itself says in such headers is dropped.
https://kubernetes.io/docs/tasks/extend-kubernetes/configure-aggregation-layer/#authentication-flow.
"""

from __future__ import annotations

import ssl
from dataclasses import replace
from urllib.parse import quote

from pinnace.apis.resources import SERVICES
from pinnace.apiserver.aggregation.availability import Endpoint, Verdict, endpoint
from pinnace.apiserver.aggregation.openapi import NOTHING
from pinnace.apiserver.authn import User
from pinnace.apiserver.backends import bracketed, trusting_bundle, unverified
from pinnace.apiserver.endpoints import slices_of
from pinnace.apiserver.options import Options
from pinnace.apiserver.storage import Storage
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj
from pinnace.wire.http import AnyResponse, Request

_IDENTITY = ("x-remote-user", "x-remote-uid", "x-remote-group", "x-remote-extra-")


class Backend:
    """What one APIService registers."""

    def __init__(self, api_service: Obj, options: Options, storage: Storage) -> None:
        self.spec: Obj = api_service["spec"]
        self.group: str = self.spec.get("group") or ""
        self.version: str = self.spec["version"]
        self.name: str = api_service["metadata"]["name"]
        self.available = False
        self.resources: list[Obj] = []  # of its group and version, as aggregated discovery tells them
        self.openapi = NOTHING
        self._options = options
        self._storage = storage
        self._context: ssl.SSLContext | None = None

    @property
    def server_name(self) -> str:
        """What its certificate must be for."""
        service = self.spec["service"]
        return f"{service['name']}.{service['namespace']}.svc"

    def locate(self) -> Endpoint | Verdict:
        """Where it listens, or why nobody does."""
        service = self.spec["service"]
        namespace, name = service.get("namespace"), service.get("name")
        found = self._storage.cache(SERVICES).get(f"{namespace}/{name}")
        return endpoint(service, found.obj() if found is not None else None, slices_of(self._storage, namespace, name))

    async def pass_on(self, request: Request, user: User) -> AnyResponse:
        """The server's own answer. Raises 503 where it is not available."""
        target = self.locate() if self.available else None
        if not isinstance(target, Endpoint):
            raise errors.unavailable("service unavailable")
        return await self.ask(request, user, target)

    async def ask(self, request: Request, user: User, target: Endpoint) -> AnyResponse:
        """The answer of what listens at `target`. Raises 503 when nothing answers."""
        from pinnace.wire.proxy import BackendError, http_proxy, upgrade_proxy

        path = request.raw_path or quote(request.path)
        url = f"https://{bracketed(target.address)}:{target.port}{path}"
        url += f"?{request.query}" if request.query else ""
        kept = {name: value for name, value in request.headers.items() if not name.startswith(_IDENTITY)}
        forwarded = replace(request, headers=kept)
        try:
            send = upgrade_proxy if "upgrade" in request.headers else http_proxy
            return await send(forwarded, url, self._tls(), _identity(user), self.server_name)
        except (BackendError, OSError, ValueError) as error:  # also a certificate of ours that cannot be read
            raise errors.unavailable(f"error trying to reach service: {error}") from None

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = _context(self.spec, self._options)
        return self._context


def _context(spec: Obj, options: Options) -> ssl.SSLContext:
    """TLS as the APIService wants it, with our front-proxy certificate. Raises ValueError for a bundle that is none."""
    context = unverified() if spec.get("insecureSkipTLSVerify") else trusting_bundle(spec.get("caBundle") or "")
    if options.proxy_client_cert_file is not None:
        context.load_cert_chain(options.proxy_client_cert_file, options.proxy_client_key_file)
    return context


def _identity(user: User) -> list[tuple[str, str]]:
    headers = [("X-Remote-User", user.name)]
    if user.uid:
        headers.append(("X-Remote-Uid", user.uid))
    headers += [("X-Remote-Group", group) for group in user.groups]
    for key, values in user.extra.items():
        headers += [(f"X-Remote-Extra-{quote(key, safe='')}", value) for value in values]
    return headers
