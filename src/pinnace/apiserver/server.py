"""The API server: what it is made of, how it starts and stops.

The path that requests take is in `request_path`. Flags and their meaning are kube-apiserver's
(https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import time
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import orjson
import structlog

from pinnace.apis.registry import Registry
from pinnace.apiserver import health, negotiate, reloading
from pinnace.apiserver.admission import plugins
from pinnace.apiserver.admission.chain import Chain
from pinnace.apiserver.admission.configuration import read_admission_configuration
from pinnace.apiserver.admission.dynamic import dynamic_plugins
from pinnace.apiserver.aggregation.aggregator import Aggregator
from pinnace.apiserver.allocation.repair import Repair
from pinnace.apiserver.allocation.reservations import Reservations
from pinnace.apiserver.api import Api
from pinnace.apiserver.audit.auditor import auditor_of
from pinnace.apiserver.authentication.verifiers import more_verifiers
from pinnace.apiserver.authn import Authenticator, read_token_file
from pinnace.apiserver.authz import Authorizer, Mode
from pinnace.apiserver.backends import Backends, bracketed
from pinnace.apiserver.bootstrap import bootstrap, keep, leave
from pinnace.apiserver.bootstrap_policy import ensure_policy
from pinnace.apiserver.customresources.manager import CustomResources
from pinnace.apiserver.draining import Draining
from pinnace.apiserver.event_ttl import EventTtl
from pinnace.apiserver.flowcontrol.limiter import Limiter
from pinnace.apiserver.front_proxy import FrontProxies, ProxyHeaders
from pinnace.apiserver.identity import Addresses, IdentityLease
from pinnace.apiserver.legacy_tokens import LegacyTokens
from pinnace.apiserver.metrics import Metrics
from pinnace.apiserver.options import Options
from pinnace.apiserver.packing import packing
from pinnace.apiserver.post_start import PostStart, Step
from pinnace.apiserver.public import PublicPaths
from pinnace.apiserver.registered_webhooks import RegisteredWebhooks
from pinnace.apiserver.render import JSON_HEADERS
from pinnace.apiserver.request_path import RequestPath
from pinnace.apiserver.storage import Storage
from pinnace.apiserver.tokens import ServiceAccountTokens
from pinnace.machinery import errors
from pinnace.machinery.features import FeatureGates
from pinnace.machinery.meta import GVR, Obj
from pinnace.machinery.metrics import Collected, Family
from pinnace.machinery.schema import Schemas
from pinnace.store.contract import Store, StoreError
from pinnace.wire.http import AnyResponse, Handler, Request, Response
from pinnace.wire.process_metrics import process_families

log = structlog.get_logger()


class ApiServer:
    """One API server over one store, which stays the caller's to close."""

    def __init__(self, options: Options, store: Store) -> None:
        self.options = options
        self.store = store
        self.addresses: list[tuple[str, int]] = []  # where it listens, real ports; after `start`
        schemas = Schemas.load(options.minor).fork()
        registry = Registry(
            schemas.minor,
            options.runtime_config,
            options.feature_gates,
            allow_privileged=options.allow_privileged,
        )
        storage = Storage(store, registry.kinds)
        tokens = ServiceAccountTokens(
            storage,
            options.issuers,
            options.audiences,
            options.service_account_signing_key_file,
            options.service_account_key_files,
            lookup=options.service_account_lookup,
        )
        self._legacy_tokens = LegacyTokens(self._as_server)
        tokens.used = self._legacy_tokens.used
        static = read_token_file(options.token_auth_file) if options.token_auth_file else {}
        self._connections = reloading.Connections()
        verifiers, anonymous = more_verifiers(options, storage, self._connections.authentication)
        self._webhooks = RegisteredWebhooks()  # for conversion
        configurations = read_admission_configuration(options.admission_control_config_file, plugins.NAMES)
        self._reservations = Reservations(options.service_cluster_ip_range, options.service_node_port_range, storage)
        self.api = Api(
            options=options,
            storage=storage,
            registry=registry,
            schemas=schemas,
            admission=Chain(
                plugins.build(
                    options.enable_admission_plugins,
                    options.disable_admission_plugins,
                    dynamic_plugins(configurations, registry.features),
                    configurations,
                )
            ),
            reservations=self._reservations,
            authenticator=Authenticator(
                static,
                [tokens, *verifiers],
                anonymous,
                _front_proxies(options, registry.features),
                registry.features,
            ),
            authorizer=Authorizer(_modes(options, self._connections.authorization), storage, registry.features),
            tokens=tokens,
            backends=Backends(options, storage),
        )
        self._custom = CustomResources(self.api, self._webhooks)
        self._aggregator = Aggregator(self.api, self._as_server)
        self.metrics = Metrics(
            storage,
            process_families(f"v1.{schemas.minor}.0", registry.features.table()),
            lambda asked: bool((kind := registry.by_gvr(asked)) and kind.deprecation),
        )
        self._limiter = Limiter(options, storage, time.monotonic)
        self.metrics.families += [*self._limiter.families(), *self.api.admission.families()]
        self.metrics.families += [*self._aggregator.families(), self._handshakes()]
        self._public = PublicPaths(self.api, self.metrics, self._aggregator, self._limiter.control)
        self._auditor = auditor_of(options.audit, schemas, options.request_timeout)
        if self._auditor is not None:
            from pinnace.apiserver.audit.measures import families

            self.metrics.families += families(self._auditor)
        self._path = RequestPath(self.api, self._aggregator, self._public, self.metrics, self._limiter, self._auditor)
        self._hooks = self._public.hooks
        self._has_identity = registry.features.enabled("APIServerIdentity")
        self._hooks.expect(
            policy=self.api.authorizer.has_rbac,
            flows=self._limiter.control is not None,
            identity=self._has_identity,
        )
        self._addresses: Addresses | None = None  # while the Service `kubernetes` leads to this server
        self._server: Any = None
        self._draining: Draining | None = None  # where clients are to be told of the end
        self._chores: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Fill the caches, listen, and make the objects every cluster has. Raises OSError for a port that is taken."""
        from pinnace.wire.connection import Settings
        from pinnace.wire.server import serve
        from pinnace.wire.tls import TlsConfig

        options = self.options
        await self.api.storage.start(self._custom.begin)
        self._custom.start()
        self.api.authorizer.start()
        self._reservations.follow()
        self._limiter.start()
        self._hooks.done(health.CACHES)
        tls = None
        if options.cert_file is not None and options.key_file is not None:
            protocols = ("h2", "http/1.1") if options.http2 else ("http/1.1",)
            more = (options.requestheader_client_ca_file,) if options.requestheader_client_ca_file else ()
            tls = TlsConfig(options.cert_file, options.key_file, options.client_ca_file, protocols, more)
        settings = Settings(
            body_bytes=options.max_request_body,
            streams=options.http2_max_streams,
            goaway_chance=options.goaway_chance,
            error=_protocol_error,
        )
        handler: Handler = self.handle
        if options.cors_allowed_origins:
            from pinnace.apiserver.cors import with_cors

            handler = with_cors(handler, options.cors_allowed_origins)
        if options.shutdown_send_retry_after:
            self._draining = Draining(handler)
            handler = self._draining.handle
        self._server = await serve(handler, options.bind, tls, settings=settings, sockets=options.sockets)
        self.addresses = list(self._server.addresses)
        host = self.addresses[0][0] if self.addresses else ""
        address = options.advertise_address or (host if host not in ("0.0.0.0", "::") else "")
        self._public.server_address = f"{bracketed(address)}:{self._port}"
        if address and not ipaddress.ip_address(address).is_loopback:  # which endpoints may not be
            self._addresses = Addresses(self.store, address, time.monotonic)
        initial = (self._as_server, options.service_cluster_ip_range, self._addresses, self._port)
        post_start = PostStart(self._hooks)
        await post_start.run(Step(health.OBJECTS, partial(bootstrap, *initial)))
        identity = IdentityLease(self._as_server) if self._has_identity else None
        await post_start.run(
            Step(health.POLICY, self._ensure_policy),
            Step(health.FLOWS, partial(self._limiter.ensure, self._as_server)),
            *([Step(health.IDENTITY, identity.renew)] if identity else []),
        )
        await self._aggregator.start()
        self._hooks.done(health.AGGREGATION)
        self._chores = [
            asyncio.create_task(chore)
            for chore in (
                self._compact_regularly(),
                post_start.retry(),
                keep(*initial),
                *([identity.run()] if identity else []),
                packing.tend(),
                Repair(self._reservations, self._as_server).run(),
                self._legacy_tokens.run(),
                EventTtl(self.api.storage, options.event_ttl).run(),
                self._limiter.tend(self._as_server),
                *reloading.chores(options, self.api, self._connections),
            )
        ]
        log.info("serving", addresses=self.addresses, version=f"1.{self.api.registry.minor}")

    async def stop(self, grace: float = 2.0) -> None:
        """Say that we end, for as long as we are told to; then end watches, let requests finish, close connections."""
        self._public.ending = True
        if self._server is not None:
            await asyncio.sleep(self.options.shutdown_delay)
        if self._draining is not None:
            await self._draining.drain(self.options.request_timeout)
        self.api.stopping = True
        await _end_chores(self._chores)
        if self._addresses is not None:
            await leave(self._as_server, self._addresses, self._port)
        for stream in list(self.api.streams):
            stream.set()
        if self._server is not None:
            await self._server.close(grace)
        self._reservations.stop()
        self._limiter.stop()
        await self._aggregator.stop()
        await self._custom.stop()
        await self._webhooks.close()
        self.api.authorizer.stop()
        self.api.storage.stop()
        await self._connections.close()
        await self.api.admission.close()
        if self._auditor is not None:
            await self._auditor.close()

    def _handshakes(self) -> Family:
        return Collected(
            "counter",
            "apiserver_tls_handshake_errors_total",
            "Number of requests dropped with 'TLS handshake error from' error",
            (),
            lambda: [] if self._server is None else [((), self._server.handshake_errors)],
        )

    @property
    def _port(self) -> int:
        return self.options.advertise_port or (self.addresses[0][1] if self.addresses else 6443)

    def _existing(self, resource: GVR, key: str) -> Obj | None:
        found = self.api.storage.cache(resource).get(key)
        return found.obj() if found is not None else None

    async def _ensure_policy(self) -> None:
        if self.api.authorizer.has_rbac:
            await ensure_policy(self._as_server, self._existing, self.api.registry.features)

    async def _as_server(self, method: str, path: str, body: Obj | None) -> Obj:
        return await self.loopback_request("system:apiserver", method, path, {}, body, negotiate.JSON)

    async def _compact_regularly(self) -> None:
        """Forget history older than the interval: what was current at the last round."""
        before = self.store.revision
        while self.options.compaction_interval:
            await asyncio.sleep(self.options.compaction_interval)
            try:
                await self.store.compact(before)
            except StoreError as error:
                log.warning("compaction failed", error=str(error))
            before = self.store.revision

    def handle(self, request: Request) -> AnyResponse | Awaitable[AnyResponse]:
        """Answer one HTTP request."""
        return self._path.handle(request)

    def loopback_request(
        self,
        user: str,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: Obj | list[Obj] | None,
        content_type: str,
    ) -> Coroutine[Any, Any, Obj]:
        """One request of a component of this process (`pinnace.client.transport.LoopbackHandler`)."""
        return self._path.loopback.request(user, method, path, params, body, content_type)

    def loopback_watch(self, user: str, path: str, params: Mapping[str, str]) -> AsyncIterator[Obj]:
        """A watch of a component of this process (`pinnace.client.transport.LoopbackHandler`)."""
        return self._path.loopback.watch(user, path, params)


def _modes(options: Options, closing: contextlib.AsyncExitStack) -> Sequence[Mode]:
    if options.authorization_config is None and not {"ABAC", "Webhook"} & set(options.authorization_modes):
        return options.authorization_modes
    from pinnace.apiserver.authorization.configuration import chain_of

    return chain_of(options, closing)


def _lowered(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _front_proxies(options: Options, features: FeatureGates) -> FrontProxies | None:
    if options.requestheader_client_ca_file is None:
        return None
    return FrontProxies(
        options.requestheader_client_ca_file,
        options.client_ca_file,
        options.requestheader_allowed_names,
        ProxyHeaders(
            username=_lowered(options.requestheader_username_headers),
            uid=_lowered(options.requestheader_uid_headers) if features.enabled("RemoteRequestHeaderUID") else (),
            groups=_lowered(options.requestheader_group_headers),
            extra=_lowered(options.requestheader_extra_headers_prefix),
        ),
    )


def _protocol_error(status: int, message: str) -> Response:
    """What the wire refuses before a handler sees it."""
    if status == 413:
        return Response(413, JSON_HEADERS, orjson.dumps(errors.too_large().to_status()))
    return Response(status, (("Content-Type", "text/plain; charset=utf-8"),), message.encode())


async def _end_chores(chores: Iterable[asyncio.Task[None]]) -> None:
    """Cancel them all and wait; one that failed before must not keep the rest of the end from happening."""
    for chore in chores:
        chore.cancel()
        try:
            await chore
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("a chore of the server has failed")
