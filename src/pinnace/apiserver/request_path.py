"""The path that every request takes.

Authentication, then what is asked, then whether it is allowed, then the handler. Reads are answered at once, inside the
call that delivered the request; writes and watches are coroutines. `loopback_path` is the same path for the other
servers of this process.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from time import perf_counter as clock

import structlog

from pinnace.apiserver import negotiate, routes
from pinnace.apiserver.access_measures import Access, Lifetimes, token_families
from pinnace.apiserver.aggregation.aggregator import Aggregator
from pinnace.apiserver.api import Api
from pinnace.apiserver.asking import MustAsk, asking
from pinnace.apiserver.audit.auditor import Auditor, note_decision
from pinnace.apiserver.audit.event import id_of
from pinnace.apiserver.call import Call, Many, One, Result, call_of
from pinnace.apiserver.compression import compressed
from pinnace.apiserver.exchange import UNKNOWN, Exchange
from pinnace.apiserver.flowcontrol.limiter import Limiter
from pinnace.apiserver.handlers import watch as watching
from pinnace.apiserver.impersonation import impersonated, is_impersonation
from pinnace.apiserver.loopback_path import LoopbackPath
from pinnace.apiserver.metrics import Metrics
from pinnace.apiserver.plain_read import PlainReads
from pinnace.apiserver.public import PublicPaths
from pinnace.apiserver.render import JSON_HEADERS, render_many, render_one, warning_headers
from pinnace.apiserver.request_info import RequestInfo, by_name, parse_request, selecting
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.wire.http import AnyResponse, Request, Response, StreamingResponse

log = structlog.get_logger()

PARSED = 20_000  # paths whose meaning is remembered
LONGEST_PARSED = 1024  # characters of such a path: what a client may make us keep is bounded
_WATCH_WORDS = ("watch=1", "watch=true", "watch=True", "watch=t")
_OWN_FORM = ("log", "exec", "attach", "portforward", "proxy")  # what these answer is not the client's choice


class RequestPath:
    """`aggregator` is asked only while there are registered servers."""

    def __init__(
        self,
        api: Api,
        aggregator: Aggregator,
        public: PublicPaths,
        metrics: Metrics,
        limiter: Limiter,
        auditor: Auditor | None = None,
    ) -> None:
        self._api = api
        self._aggregator = aggregator
        self._public = public
        self._metrics = metrics
        self._auditor = auditor
        self._limiter = limiter
        self._access = Access(lambda: api.authorizer.denied)
        metrics.families += [*self._access.families(), Lifetimes(api.authenticator), *token_families(api.authenticator)]
        self._plain = PlainReads(api)
        self.loopback = LoopbackPath(api, aggregator, public, auditor, self._info)
        self._parsed: dict[tuple[str, str, bool], RequestInfo] = {}

    def handle(self, request: Request) -> AnyResponse | Awaitable[AnyResponse]:
        """Answer one HTTP request."""
        exchange = Exchange(request)
        if self._auditor is not None and self._auditor.waits:
            return self._when_recorded(self._auditor, exchange)
        return self._handle(exchange)

    async def _when_recorded(self, auditor: Auditor, exchange: Exchange) -> AnyResponse:
        """The answer, when a blocking backend has its event."""
        answer = self._handle(exchange)
        found = answer if isinstance(answer, AnyResponse) else await answer
        await auditor.settle(exchange)
        return found

    def _handle(self, exchange: Exchange) -> AnyResponse | Awaitable[AnyResponse]:
        try:
            self._admit(exchange)
            return self._dispatch(exchange)
        except MustAsk as question:
            return self._after_asking(exchange, question)
        except Exception as error:
            return self._failed(exchange, error)

    async def _after_asking(self, exchange: Exchange, question: MustAsk) -> AnyResponse:
        """The same for a request whose admission hangs on what another server says."""
        request = exchange.request
        try:
            info = self._info(request.method, request.path, _is_watch(request.query))
            await self._limiter.in_time(exchange, info, asking(lambda: self._admit(exchange), question))
            answer = self._dispatch(exchange)
            return answer if isinstance(answer, AnyResponse) else await answer
        except Exception as error:
            return self._failed(exchange, error)

    def _dispatch(self, exchange: Exchange) -> AnyResponse | Awaitable[AnyResponse]:
        """The answer to a request that is admitted."""
        request = exchange.request
        if self._aggregator.backends and (backend := self._aggregator.find(exchange.info)) is not None:
            return self._finish_other(exchange, self._limiter.run(exchange, backend.pass_on(request, exchange.user)))
        if exchange.info.is_resource:
            if not request.query and exchange.audit is None:
                plain = self._plain.answer(request, exchange.info)
                if plain is not None:
                    return self._answered(exchange, plain)
            return self._resource(exchange)
        answer = self._public.answer(request, exchange.info)
        if isinstance(answer, Response):
            return self._answered(exchange, answer)
        work = self._limiter.run(exchange, answer)  # type: ignore[arg-type] # what is left are coroutines
        return self._finish_other(exchange, work)

    def _admit(self, exchange: Exchange) -> None:
        """Who asks, for what, and whether that is allowed. Raises 401 and 403, and MustAsk, to be called again then."""
        request = exchange.request
        try:
            exchange.user = user = self._api.authenticator.authenticate(request)
        except ApiError:
            self._access.unknown(exchange.began)
            raise
        known, name = clock(), user.name
        is_first = exchange.info is UNKNOWN
        exchange.info = asked = self._info(request.method, request.path, _is_watch(request.query))
        if self._auditor is not None and is_first:
            self._auditor.begin(exchange)
            if exchange.recording:
                raise MustAsk(partial(self._auditor.received, exchange))
        try:
            if is_impersonation(request.headers):
                exchange.user = user = impersonated(user, request.headers, self._api.authorizer)
                if exchange.audit is not None:
                    exchange.audit.impersonated = user
            self._limiter.admit(exchange)
        except ApiError:
            self._access.known(name, exchange.began, known)
            raise
        if "metadata.name" in request.query:
            asked = by_name(asked, request.params().get("fieldSelector", ""))
        if "elector=" in request.query and self._api.authorizer.reads_selectors(user):
            asked = selecting(asked, request.params())
        if exchange.audit is not None:
            note_decision(exchange.audit, *self._api.authorizer.explain(user, asked))
        question = clock()
        try:
            self._api.authorizer.authorize(user, asked)
        except ApiError as error:
            self._access.refused(name, exchange.began, known, question, error.code)
            raise
        self._access.allowed(name, exchange.began, known, question)

    def _resource(self, exchange: Exchange) -> AnyResponse | Awaitable[AnyResponse]:
        request, info = exchange.request, exchange.info
        headers = request.headers
        call = call_of(self._api, exchange.user, info, request.params() if request.query else {}, request)
        exchange.call = call
        call.content_type = headers.get("content-type", "")
        form = negotiate.format_of(
            headers.get("accept", "*/*"),
            call.params.get("pretty"),
            headers.get("user-agent", ""),
            variants=call.kind.is_stored,
        ) if info.subresource not in _OWN_FORM else negotiate.PLAIN  # fmt: skip
        if info.verb == "watch":
            routes.check_watchable(call)
            return self._answered(exchange, watching.watch(call, form))
        if self._api.storage.store.is_shared:
            return self._finish(exchange, call, form, self._limiter.run(exchange, routes.answer(call)))
        result = routes.find(call.kind, info)(call)
        if isinstance(result, One | Many):
            answer = self._answered(exchange, _rendered(call, result, form))
            return compressed(headers, answer) if isinstance(answer, Response) else answer
        if isinstance(result, Response | StreamingResponse):
            return self._answered(exchange, result)
        work = self._limiter.run(exchange, result)  # type: ignore[arg-type] # an upgrade comes from a coroutine only
        return self._finish(exchange, call, form, work)

    async def _finish(
        self, exchange: Exchange, call: Call, form: negotiate.Format, result: Awaitable[Result]
    ) -> AnyResponse:
        try:
            answer = self._answered(exchange, _rendered(call, await result, form))
            if not isinstance(answer, Response):
                return answer
            packed = compressed(exchange.request.headers, answer)
            return packed if isinstance(packed, Response) else await packed
        except Exception as error:
            return self._failed(exchange, error, call.warnings)

    async def _finish_other(self, exchange: Exchange, answer: AnyResponse | Awaitable[AnyResponse]) -> AnyResponse:
        try:
            return self._answered(exchange, await answer)  # type: ignore[misc] # Response was answered before
        except Exception as error:
            return self._failed(exchange, error)

    def _info(self, method: str, path: str, watch: bool) -> RequestInfo:
        key = (method, path, watch)
        found = self._parsed.get(key)
        if found is None:
            if len(self._parsed) >= PARSED:
                self._parsed.clear()
            found = parse_request(method, path, watch)
            if len(path) <= LONGEST_PARSED:
                self._parsed[key] = found
        return found

    def _answered(self, exchange: Exchange, response: AnyResponse) -> AnyResponse:
        self._metrics.answered(exchange, response)
        if exchange.flow is not None:
            response.headers = exchange.flow.headed(response.headers)
        if exchange.audit is not None and self._auditor is not None:
            return self._auditor.answered(exchange, response)
        response.audit_id = id_of(exchange.request)
        return response

    def _failed(self, exchange: Exchange, error: Exception, warnings: list[str] | None = None) -> AnyResponse:
        request = exchange.request
        if not isinstance(error, ApiError):
            log.error("request failed", method=request.method, path=request.path, exc_info=error)
            exchange.panic = str(error) or type(error).__name__
            error = errors.internal("the server could not handle this request")
        elif error.code == 401 and self._auditor is not None and exchange.info is UNKNOWN:
            exchange.info = self._info(request.method, request.path, _is_watch(request.query))
            self._auditor.not_authenticated(exchange)
        try:
            form = negotiate.format_of(request.headers.get("accept", "*/*"), None, "")
        except ApiError:
            form = negotiate.PLAIN
        body, content_type = negotiate.status_body(error, form)
        headers = [("Content-Type", content_type), JSON_HEADERS[1], *error.headers]
        if warnings:
            headers += warning_headers(warnings)
        return self._answered(exchange, Response(error.code, headers, body))


def _rendered(call: Call, result: Result, form: negotiate.Format) -> AnyResponse:
    include = call.params.get("includeObject", "")
    if isinstance(result, One):
        return render_one(result, call.kind, form, include, call.warnings)
    if isinstance(result, Many):
        return render_many(result, call.kind, form, include, call.warnings)
    return result


def _is_watch(query: str) -> bool:
    return "watch=" in query and any(word in query.split("&") for word in _WATCH_WORDS)
