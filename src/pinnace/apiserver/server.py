"""The API server: wiring, start and stop, and the path that every request takes.

Authentication, then what is asked, then whether it is allowed, then the handler. Reads are answered at once, inside the
call that delivered the request; writes and watches are coroutines. The same path serves HTTP and, without TLS, HTTP and
JSON, the other servers of this process (`pinnace.client.transport.LoopbackHandler`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any

import orjson
import structlog

from pinnace.apis.registry import Registry
from pinnace.apis.resources import SERVICES
from pinnace.apiserver import freshness, negotiate, routes
from pinnace.apiserver.admission import plugins
from pinnace.apiserver.admission.chain import Chain
from pinnace.apiserver.admission.dynamic import dynamic_plugins
from pinnace.apiserver.admission.webhook_client import WebhookClient
from pinnace.apiserver.aggregation.aggregator import Aggregator
from pinnace.apiserver.allocators import Reservations
from pinnace.apiserver.api import Api
from pinnace.apiserver.authn import Authenticator, User, loopback_user, read_token_file
from pinnace.apiserver.authz import Authorizer
from pinnace.apiserver.backends import Backends
from pinnace.apiserver.bootstrap import bootstrap, keep
from pinnace.apiserver.bootstrap_policy import ensure_policy
from pinnace.apiserver.call import Call, Many, One, Result, shown
from pinnace.apiserver.compression import compressed
from pinnace.apiserver.customresources.manager import CustomResources
from pinnace.apiserver.event_ttl import EventTtl
from pinnace.apiserver.front_proxy import FrontProxies
from pinnace.apiserver.handlers import watch as watching
from pinnace.apiserver.impersonation import impersonated, is_impersonation
from pinnace.apiserver.metrics import Metrics, Seen
from pinnace.apiserver.options import Options
from pinnace.apiserver.packing import packing
from pinnace.apiserver.public import PublicPaths
from pinnace.apiserver.render import JSON_HEADERS, View, render_many, render_one, warning_headers
from pinnace.apiserver.request_info import RequestInfo, by_name, parse_request
from pinnace.apiserver.storage import Storage
from pinnace.apiserver.tokens import ServiceAccountTokens
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj
from pinnace.machinery.schema import Schemas
from pinnace.store.contract import Store, StoreError
from pinnace.wire.http import AnyResponse, Handler, Peer, Request, Response, StreamingResponse

log = structlog.get_logger()

PARSED = 20_000  # paths whose meaning is remembered
_WATCH_WORDS = ("watch=1", "watch=true", "watch=True", "watch=t")


class ApiServer:
    """One API server over one store, which stays the caller's to close."""

    def __init__(self, options: Options, store: Store) -> None:
        self.options = options
        self.store = store
        self.addresses: list[tuple[str, int]] = []  # where it listens, real ports; after `start`
        schemas = Schemas.load(options.minor).fork()
        registry = Registry(schemas.minor, options.runtime_config)
        storage = Storage(store, registry.kinds)
        tokens = ServiceAccountTokens(
            storage,
            options.service_account_issuer,
            options.api_audiences,
            options.service_account_signing_key_file,
            options.service_account_key_files,
        )
        static = read_token_file(options.token_auth_file) if options.token_auth_file else {}
        self._webhooks = WebhookClient()
        self._reservations = Reservations(options.service_cluster_ip_range, options.service_node_port_range)
        self.api = Api(
            options=options,
            storage=storage,
            registry=registry,
            schemas=schemas,
            admission=Chain(
                plugins.build(
                    options.enable_admission_plugins,
                    options.disable_admission_plugins,
                    dynamic_plugins(self._webhooks),
                )
            ),
            reservations=self._reservations,
            authenticator=Authenticator(static, tokens, options.anonymous_auth, _front_proxies(options)),
            authorizer=Authorizer(options.authorization_modes, storage, schemas.minor),
            tokens=tokens,
            backends=Backends(options, storage),
        )
        self._custom = CustomResources(self.api, self._webhooks)
        self._aggregator = Aggregator(self.api, self._as_server)
        self.metrics = Metrics()
        self._public = PublicPaths(self.api, self.metrics, self._aggregator)
        self._parsed: dict[tuple[str, str, bool], RequestInfo] = {}
        self._server: Any = None
        self._chores: list[asyncio.Task[None]] = []
        self._leave_services: Any = None

    # Starting and stopping.

    async def start(self) -> None:
        """Fill the caches, listen, and make the objects every cluster has. Raises OSError for a port that is taken."""
        from pinnace.wire.connection import Settings
        from pinnace.wire.server import serve
        from pinnace.wire.tls import TlsConfig

        options = self.options
        await self.api.storage.start(self._custom.begin)
        self._custom.start()
        self.api.authorizer.start()
        self._leave_services = self._reservations.follow(self.api.storage.cache(SERVICES))
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
        self._server = await serve(handler, options.bind, tls, settings=settings, sockets=options.sockets)
        self.addresses = list(self._server.addresses)
        host, port = self.addresses[0] if self.addresses else ("", 6443)
        address = options.advertise_address or (host if host not in ("0.0.0.0", "::") else "")
        initial = (self._as_server, options.service_cluster_ip_range, address, options.advertise_port or port)
        await bootstrap(*initial)
        if self.api.authorizer.has_rbac:
            await ensure_policy(self._as_server, self._existing)
        await self._aggregator.start()
        self._public.bootstrapped = True
        self._chores = [
            asyncio.create_task(chore)
            for chore in (
                self._compact_regularly(),
                keep(*initial),
                packing.tend(),
                EventTtl(self.api.storage, options.event_ttl).run(),
            )
        ]
        log.info("serving", addresses=self.addresses, version=f"1.{self.api.registry.minor}")

    async def stop(self, grace: float = 2.0) -> None:
        """End watches, let requests finish, close connections."""
        self.api.stopping = True
        for chore in self._chores:
            chore.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await chore
        for stream in list(self.api.streams):
            stream.set()
        if self._server is not None:
            await self._server.close(grace)
        if self._leave_services is not None:
            self._leave_services()
        await self._aggregator.stop()
        await self._custom.stop()
        await self._webhooks.close()
        self.api.authorizer.stop()
        self.api.storage.stop()

    def _existing(self, resource: GVR, key: str) -> Obj | None:
        found = self.api.storage.cache(resource).get(key)
        return found.obj() if found is not None else None

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

    # The request path.

    def handle(self, request: Request) -> AnyResponse | Awaitable[AnyResponse]:
        """Answer one HTTP request."""
        info = _UNKNOWN
        try:
            user = self.api.authenticator.authenticate(request)
            info = self._info(request.method, request.path, _is_watch(request.query))
            if is_impersonation(request.headers):
                user = impersonated(user, request.headers, self.api.authorizer)
            asked = info
            if "metadata.name" in request.query:
                asked = by_name(info, request.params().get("fieldSelector", ""))
            self.api.authorizer.authorize(user, asked)
            if self._aggregator.backends and (backend := self._aggregator.find(info)) is not None:
                return self._finish_other(backend.pass_on(request, user), request, info)
            if not info.is_resource:
                answer = self._public.answer(request, info)
                if isinstance(answer, Response):
                    return self._counted(info, answer)
                return self._finish_other(answer, request, info)
            return self._resource(request, user, info)
        except Exception as error:
            return self._failure(error, request, info)

    def _resource(self, request: Request, user: User, info: RequestInfo) -> AnyResponse | Awaitable[AnyResponse]:
        call = self._call(user, info, request.params() if request.query else {}, request)
        call.content_type = request.headers.get("content-type", "")
        headers = request.headers
        form = negotiate.format_of(
            headers.get("accept", "*/*"),
            call.params.get("pretty"),
            headers.get("user-agent", ""),
            variants=call.kind.is_stored,
        ) if info.subresource not in _OWN_FORM else negotiate.PLAIN  # fmt: skip
        if info.verb == "watch":
            _check_watchable(call)
            routes.find(call.kind, info._replace(verb="list"))
            return self._counted(info, watching.watch(call, form))
        if self.store.is_shared:
            return self._finish(_when_fresh(call), call, form)
        result = routes.find(call.kind, info)(call)
        if isinstance(result, One | Many):
            answer = self._counted(info, self._render(call, result, form))
            return compressed(headers, answer) if isinstance(answer, Response) else answer
        if isinstance(result, Response | StreamingResponse):
            return self._counted(info, result)
        return self._finish(result, call, form)  # type: ignore[arg-type] # an upgrade comes from a coroutine only

    async def _finish(self, result: Awaitable[Result], call: Call, form: negotiate.Format) -> AnyResponse:
        assert call.request is not None
        try:
            answer = self._counted(call.info, self._render(call, await result, form))
            if not isinstance(answer, Response):
                return answer
            packed = compressed(call.request.headers, answer)
            return packed if isinstance(packed, Response) else await packed
        except Exception as error:
            return self._failure(error, call.request, call.info, call.warnings)

    async def _finish_other(
        self, answer: AnyResponse | Awaitable[AnyResponse], request: Request, info: RequestInfo
    ) -> AnyResponse:
        try:
            return self._counted(info, await answer)  # type: ignore[misc] # Response was answered before
        except Exception as error:
            return self._failure(error, request, info)

    def _render(self, call: Call, result: Result, form: negotiate.Format) -> AnyResponse:
        include = call.params.get("includeObject", "")
        if isinstance(result, One):
            return render_one(result, call.kind, form, include, call.warnings)
        if isinstance(result, Many):
            return render_many(result, call.kind, form, include, call.warnings)
        return result

    def _call(self, user: User, info: RequestInfo, params: Mapping[str, str], request: Request | None) -> Call:
        kind = self.api.registry.by_gvr(GVR(info.group, info.version, info.resource))
        if kind is None:
            raise errors.no_such_path()
        call = Call(self.api, user, info, kind, params, request)
        if kind.deprecation:
            call.warnings.append(kind.deprecation)
        return call

    def _info(self, method: str, path: str, watch: bool) -> RequestInfo:
        key = (method, path, watch)
        found = self._parsed.get(key)
        if found is None:
            if len(self._parsed) >= PARSED:
                self._parsed.clear()
            found = self._parsed[key] = parse_request(method, path, watch)
        return found

    def _counted(self, info: RequestInfo, response: AnyResponse) -> AnyResponse:
        scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
        seen = Seen(
            info.verb.upper(), info.group, info.version, info.resource, info.subresource, scope, response.status
        )
        self.metrics.requests[seen] += 1
        return response

    def _failure(
        self, error: Exception, request: Request, info: RequestInfo, warnings: list[str] | None = None
    ) -> AnyResponse:
        if not isinstance(error, ApiError):
            log.error("request failed", method=request.method, path=request.path, exc_info=error)
            error = errors.internal("the server could not handle this request")
        try:
            form = negotiate.format_of(request.headers.get("accept", "*/*"), None, "")
        except ApiError:
            form = negotiate.PLAIN
        body, content_type = negotiate.status_body(error, form)
        headers = [("Content-Type", content_type), JSON_HEADERS[1], *error.headers]
        if warnings:
            headers += warning_headers(warnings)
        return self._counted(info, Response(error.code, headers, body))

    # The same path for this process's own servers.

    async def loopback_request(
        self,
        user: str,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: Obj | list[Obj] | None,
        content_type: str,
    ) -> Obj:
        """One request of a component of this process. What comes back is shared: read-only."""
        info = self._info(method, path, False)
        who = loopback_user(user)
        self.api.authorizer.authorize(who, by_name(info, params.get("fieldSelector", "")))
        if not info.is_resource:
            return await self._loopback_public(method, path, info)
        call = self._call(who, info, params, None)
        call.document = body
        call.content_type = content_type
        result = await _when_fresh(call)
        if isinstance(result, One):
            return shown(call.kind, result.obj) if result.kind is call.kind else result.obj  # type: ignore[return-value]
        if isinstance(result, Many):
            return View(call.kind, negotiate.PLAIN).list_object(result)
        raise errors.bad_request("this path needs a connection of its own")

    async def _loopback_public(self, method: str, path: str, info: RequestInfo) -> Obj:
        answer = self._public.answer(Request(method, path, "", {}, b"", Peer("")), info)
        response = answer if isinstance(answer, Response) else await answer  # type: ignore[misc]
        if response.status == 404:
            raise errors.no_such_path()
        document: Obj = orjson.loads(response.body)
        return document

    async def loopback_watch(self, user: str, path: str, params: Mapping[str, str]) -> AsyncIterator[Obj]:
        """A watch of a component of this process; raises ApiError where HTTP would send an ERROR event."""
        info = self._info("GET", path, True)
        who = loopback_user(user)
        self.api.authorizer.authorize(who, by_name(info, params.get("fieldSelector", "")))
        call = self._call(who, info, params, None)
        _check_watchable(call)
        routes.find(call.kind, info._replace(verb="list"))
        async for event in watching.loopback_watch(call):
            yield event


async def _when_fresh(call: Call) -> Result:
    """What the handler makes of the call, once the caches may answer it."""
    await freshness.settle(call)
    result = routes.find(call.kind, call.info)(call)
    if isinstance(result, One | Many | Response | StreamingResponse):
        return result
    return await result  # type: ignore[no-any-return, misc] # what is left are coroutines


_UNKNOWN = RequestInfo("", "")
_OWN_FORM = ("log", "exec", "attach", "portforward", "proxy")  # what these answer is not the client's choice


def _front_proxies(options: Options) -> FrontProxies | None:
    if options.requestheader_client_ca_file is None:
        return None
    return FrontProxies(
        options.requestheader_client_ca_file, options.client_ca_file, options.requestheader_allowed_names
    )


def _check_watchable(call: Call) -> None:
    if "watch" not in call.kind.verbs:
        raise errors.method_not_allowed()


def _is_watch(query: str) -> bool:
    return "watch=" in query and any(word in query.split("&") for word in _WATCH_WORDS)


def _protocol_error(status: int, message: str) -> Response:
    """What the wire refuses before a handler sees it."""
    if status == 413:
        return Response(413, JSON_HEADERS, orjson.dumps(errors.too_large().to_status()))
    return Response(status, (("Content-Type", "text/plain; charset=utf-8"),), message.encode())
