"""The path of requests by components of this process: without TLS, HTTP and JSON, else the same as `request_path`.

They are who they say they are; authorization, admission and the audit log treat them like everybody. They take no seat
of flow control. What comes back is shared, read-only (`pinnace.client.transport.LoopbackHandler`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TypeVar

import orjson

from pinnace.apiserver import negotiate, routes
from pinnace.apiserver.aggregation import loopback
from pinnace.apiserver.aggregation.aggregator import Aggregator
from pinnace.apiserver.api import Api
from pinnace.apiserver.asking import asking
from pinnace.apiserver.audit.auditor import Auditor, note_decision, own_request
from pinnace.apiserver.authn import User, loopback_user
from pinnace.apiserver.call import Many, One, call_of, shown
from pinnace.apiserver.deadline import too_late
from pinnace.apiserver.exchange import Exchange
from pinnace.apiserver.handlers import watch as watching
from pinnace.apiserver.public import PublicPaths
from pinnace.apiserver.render import View
from pinnace.apiserver.request_info import RequestInfo, by_name, selecting
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj
from pinnace.wire.http import Peer, Request, Response

T = TypeVar("T")
Parse = Callable[[str, str, bool], RequestInfo]
"""From method, path and whether it is a watch."""


class LoopbackPath:
    def __init__(
        self, api: Api, aggregator: Aggregator, public: PublicPaths, auditor: Auditor | None, parse: Parse
    ) -> None:
        self._api = api
        self._aggregator = aggregator
        self._public = public
        self._auditor = auditor
        self._parse = parse

    async def request(
        self,
        user: str,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: Obj | list[Obj] | None,
        content_type: str,
    ) -> Obj:
        """What is answered. Raises ApiError."""
        info, who = self._parse(method, path, False), loopback_user(user)
        if self._auditor is None:
            await self._authorize(who, info, params)
            return await self._answer(who, info, method, path, params, body, content_type)
        exchange = Exchange(own_request(method, path, params, body, content_type), info, who)
        await self._admit_recorded(self._auditor, exchange, params)
        work = self._answer(who, info, method, path, params, body, content_type, exchange)
        answer = await self._or_record(self._auditor, exchange, work)
        self._auditor.done(exchange, 201 if info.verb == "create" else 200, answer)
        await self._auditor.settle(exchange)
        return answer

    async def watch(self, user: str, path: str, params: Mapping[str, str]) -> AsyncIterator[Obj]:
        """The events of a watch. Raises ApiError where HTTP would send an ERROR event."""
        info, who, exchange = self._parse("GET", path, True), loopback_user(user), None
        if self._auditor is None:
            await self._authorize(who, info, params)
        else:
            exchange = Exchange(own_request("GET", path, {**params, "watch": "1"}, None, ""), info, who)
            await self._admit_recorded(self._auditor, exchange, params)
            self._auditor.started(exchange)
            await self._auditor.settle(exchange)
        if self._aggregator.backends and (backend := self._aggregator.find(info)) is not None:
            events = loopback.watch(backend, who, path, params)
        else:
            call = call_of(self._api, who, info, params)
            routes.check_watchable(call)
            events = watching.loopback_watch(call)
        try:
            async for event in events:
                yield event
        finally:
            if exchange is not None and self._auditor is not None:
                self._auditor.done(exchange, 200, None)

    # Who may.

    async def _authorize(
        self, who: User, info: RequestInfo, params: Mapping[str, str], exchange: Exchange | None = None
    ) -> None:
        """Return if they may. Raises 403."""
        authorizer = self._api.authorizer
        asked = by_name(info, params.get("fieldSelector", ""))
        if authorizer.reads_selectors(who):
            asked = selecting(asked, params)

        def authorize() -> None:
            if exchange is not None and exchange.audit is not None:
                note_decision(exchange.audit, *authorizer.explain(who, asked))
            authorizer.authorize(who, asked)

        await asking(authorize)

    async def _admit_recorded(self, auditor: Auditor, exchange: Exchange, params: Mapping[str, str]) -> None:
        auditor.begin(exchange)
        await self._or_record(auditor, exchange, auditor.received(exchange))
        await self._or_record(auditor, exchange, self._authorize(exchange.user, exchange.info, params, exchange))

    async def _or_record(self, auditor: Auditor, exchange: Exchange, work: Awaitable[T]) -> T:
        """What comes of the work; raises what it raises, once that is recorded."""
        try:
            return await work
        except ApiError as error:
            auditor.done(exchange, error.code, error.to_status())
            await auditor.settle(exchange)
            raise
        except asyncio.CancelledError:  # who asked has left
            late = too_late(exchange.info)
            auditor.done(exchange, late.code, late.to_status())
            raise
        except Exception as error:
            exchange.panic = str(error) or type(error).__name__
            auditor.done(exchange, 500, None)
            raise

    # What is answered.

    async def _answer(
        self,
        who: User,
        info: RequestInfo,
        method: str,
        path: str,
        params: Mapping[str, str],
        body: Obj | list[Obj] | None,
        content_type: str,
        exchange: Exchange | None = None,
    ) -> Obj:
        if self._aggregator.backends and (backend := self._aggregator.find(info)) is not None:
            return await loopback.request(backend, who, method, path, params, body, content_type)
        if not info.is_resource:
            return await self._public_document(method, path, info)
        call = call_of(self._api, who, info, params)
        if exchange is not None:
            exchange.call = call
        call.document = body
        call.content_type = content_type
        result = await routes.answer(call)
        if isinstance(result, One):
            return shown(call.kind, result.obj) if result.kind is call.kind else result.obj  # type: ignore[return-value]
        if isinstance(result, Many):
            return View(call.kind, negotiate.PLAIN).list_object(result)
        raise errors.bad_request("this path needs a connection of its own")

    async def _public_document(self, method: str, path: str, info: RequestInfo) -> Obj:
        answer = self._public.answer(Request(method, path, "", {}, b"", Peer("")), info)
        response = answer if isinstance(answer, Response) else await answer  # type: ignore[misc]
        if response.status == 404:
            raise errors.no_such_path()
        document: Obj = orjson.loads(response.body)
        return document
