"""Records requests as they take their path: when the caller is known, when the answer begins, when it is complete.

The request path tells it of each step. A request that the policy does not record costs no more than that verdict.
https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import orjson

from pinnace import __version__
from pinnace.apiserver import negotiate, protobuf
from pinnace.apiserver.audit.backends import Backend, Event, LogBackend, WebhookBackend
from pinnace.apiserver.audit.event import Record, record_of
from pinnace.apiserver.audit.options import AuditOptions
from pinnace.apiserver.audit.policy import COMPLETE, PANIC, RECEIVED, STARTED, Level, Policy, load_policy
from pinnace.apiserver.authn import User
from pinnace.apiserver.deadline import is_long_running, too_late
from pinnace.apiserver.exchange import Exchange
from pinnace.machinery import errors
from pinnace.machinery.meta import Obj, utc_now
from pinnace.machinery.schema import Schemas
from pinnace.wire.http import AnyResponse, Peer, Request, Response, StreamingResponse, UpgradeResponse

DECISION, REASON = "authorization.k8s.io/decision", "authorization.k8s.io/reason"
_AGENT, _LOOPBACK = f"pinnace/v{__version__}", "127.0.0.1"  # of requests within this process
_BODIES = frozenset({"create", "update", "patch", "delete", "deletecollection"})

Finish = Callable[[], None]


class Auditor:
    """`events`, `levels` and `rejected` count since the start."""

    def __init__(self, policy: Policy, backends: Sequence[Backend], schemas: Schemas, seconds: float) -> None:
        """A request waits for blocking backends until `seconds` after it has come."""
        self.backends = backends
        self.waits = any(backend.waits for backend in backends)  # whether an answer waits until it is recorded
        self.events = 0
        self.rejected = 0
        self.levels: Counter[str] = Counter()
        self._policy = policy
        self._schemas = schemas
        self._seconds = seconds

    # Steps of a request.

    def begin(self, exchange: Exchange) -> None:
        """The caller is known, and what is asked. Raises 500 where a strict backend cannot record it.

        `received` is to be awaited where the exchange is `recording` then.
        """
        record = self._record(exchange, exchange.user)
        if record is None:
            return
        exchange.audit = record
        record.annotations.update(exchange.user.notes)
        if not self._emit(exchange, record, RECEIVED):
            raise self._refusal(exchange)

    async def received(self, exchange: Exchange) -> None:
        """Wait for the event that `begin` made. Raises what it would, and 504 when the time is up."""
        recorded = await self.settle(exchange)
        if recorded is None:
            raise too_late(exchange.info)
        if not recorded:
            raise self._refusal(exchange)

    def _refusal(self, exchange: Exchange) -> errors.ApiError:
        exchange.audit = None
        self.rejected += 1
        return errors.internal("failed to store audit event")

    def not_authenticated(self, exchange: Exchange) -> None:
        """The caller's credentials do not hold: one event, when the answer begins."""
        record = self._record(exchange, None)
        if record is not None:
            record.status = {"message": _attempted(exchange.request), "code": 401}
            self._emit(exchange, record, STARTED)

    def _record(self, exchange: Exchange, user: User | None) -> Record | None:
        verdict = self._policy.verdict(user, exchange.info)
        self.levels[verdict.level.word] += 1
        if verdict.level is Level.NONE:
            return None
        return record_of(exchange.request, exchange.info, user, verdict, utc_now())

    def answered(self, exchange: Exchange, response: AnyResponse) -> AnyResponse:
        """The answer as it goes to the client; its last event follows when it is complete."""
        record: Record | None = exchange.audit
        assert record is not None
        exchange.audit = None
        self._read_request(record, exchange)
        response.audit_id = record.audit_id
        if isinstance(response, Response):
            is_json = _content_type(response) == negotiate.JSON
            record.answered(response.status, response.body, is_object=is_json and exchange.info.is_resource)
            self._complete(record, exchange)
            return response
        record.status = {"code": response.status}
        if is_long_running(exchange.info):
            self._emit(exchange, record, STARTED)
        return _followed(response, lambda: self._complete(record, exchange))

    def done(self, exchange: Exchange, code: int, document: Obj | None) -> None:
        """A request of this process is answered."""
        record, exchange.audit = exchange.audit, None
        if record is None:
            return
        self._read_request(record, exchange)
        if is_long_running(exchange.info) or document is None or not exchange.info.is_resource:
            record.status = {"code": code}
        else:
            whole = record.verdict.level >= Level.REQUEST_RESPONSE or document.get("kind") == "Status"
            record.answered(code, orjson.dumps(document) if whole else b"", is_object=whole)
        self._complete(record, exchange)

    def started(self, exchange: Exchange) -> None:
        """A watch of this process has begun."""
        record = exchange.audit
        if record is not None:
            record.status = {"code": 200}
            self._emit(exchange, record, STARTED)

    # Events.

    def _complete(self, record: Record, exchange: Exchange) -> None:
        if exchange.panic:
            record.status = {
                "status": "Failure",
                "message": f"APIServer panic'd: {exchange.panic}",
                "reason": "InternalError",
                "code": 500,
            }
        call = exchange.call
        if call is not None and call.annotations:
            record.annotations.update(call.annotations)
        self._emit(exchange, record, PANIC if exchange.panic else COMPLETE)

    def _emit(self, exchange: Exchange, record: Record, stage: str) -> bool:
        """Whether the request may go on, as far as is known: `exchange.recording` tells the rest."""
        if stage in record.verdict.omit_stages:
            return True
        self.events += 1
        document = record.event(stage, utc_now())
        event = Event(document, orjson.dumps(document))
        may_go_on = True
        for backend in self.backends:
            taken = backend.accept(event)
            if not isinstance(taken, bool):
                exchange.recording += (taken,)
            elif not taken:
                may_go_on = False
        return may_go_on

    def _read_request(self, record: Record, exchange: Exchange) -> None:
        request, info = exchange.request, exchange.info
        if not request.body or not info.is_resource or info.verb not in _BODIES or info.subresource == "proxy":
            return
        if record.verdict.level < Level.REQUEST and (info.verb not in ("create", "update")):
            return
        read = self._read(request)
        if read is not None:
            record.sent(*read, info.verb)

    def _read(self, request: Request) -> tuple[Any, bytes] | None:
        """The document in a request's body, and its JSON; None for what is no document."""
        media_type = negotiate.media_type_of(request.headers.get("content-type", ""))
        try:
            if media_type == protobuf.MEDIA_TYPE:
                document: Any = protobuf.load(request.body, self._schemas)
                return document, orjson.dumps(document)
            if media_type.endswith("yaml"):
                from pinnace.machinery import yaml

                document = yaml.load(request.body)
                return document, orjson.dumps(document)
            return orjson.loads(request.body), request.body
        except (ValueError, TypeError, protobuf.ProtobufError):
            return None

    # The end.

    async def settle(self, exchange: Exchange) -> bool | None:
        """Wait until blocking backends have the events of a request; whether it may go on, None when its time is up."""
        waiting, exchange.recording = exchange.recording, ()
        if not waiting:
            return True
        left = exchange.began + self._seconds - time.perf_counter()
        settled, late = await asyncio.wait(waiting, timeout=max(left, 0))
        return None if late else all(each.result() for each in settled)

    async def close(self) -> None:
        """Deliver what waits."""
        for backend in self.backends:
            await backend.close()


def auditor_of(options: AuditOptions, schemas: Schemas, seconds: float) -> Auditor | None:
    """What the options ask for; None where nothing is to be recorded. `seconds` are those a request may take.

    Raises ValueError for files of no use.
    """
    if options.policy_file is None:
        return None
    policy = load_policy(options.policy_file)
    backends: list[Backend] = []
    if options.log.path:
        backends.append(LogBackend(options.log))
    if options.webhook.config_file is not None:
        try:
            backends.append(WebhookBackend(options.webhook))
        except ValueError as error:
            raise ValueError(f"initializing audit webhook: {error}") from None
    return Auditor(policy, backends, schemas, seconds) if backends else None


def own_request(method: str, path: str, params: Mapping[str, str], body: Any, content_type: str) -> Request:
    """A request of this process, as its event tells of it."""
    headers = {"user-agent": _AGENT, "content-type": content_type}
    sent = orjson.dumps(body) if body is not None else b""
    return Request(method, path, urlencode(params), headers, sent, Peer(_LOOPBACK))


def note_decision(record: Record, allowed: bool, reason: str) -> None:
    record.annotations[DECISION] = "allow" if allowed else "forbid"
    record.annotations[REASON] = reason


def _attempted(request: Request) -> str:
    """How a client that is not believed has tried to show who it is."""
    header = request.headers.get("authorization", "")
    scheme = header.partition(" ")[0].lower()
    ways = [scheme] if scheme in ("basic", "bearer") and " " in header.strip() else []
    if "access_token=" in request.query:
        ways.append("access_token")
    if request.peer.certificate is not None:
        ways.append("x509")
    return (
        f"Authentication failed, attempted: {', '.join(ways)}"
        if ways
        else ("Authentication failed, no credentials provided")
    )


def _content_type(response: Response) -> str:
    for name, value in response.headers:
        if name == "Content-Type":
            return negotiate.media_type_of(value)
    return ""


def _followed(response: StreamingResponse | UpgradeResponse, finish: Finish) -> AnyResponse:
    """The same answer, `finish` called when its end is sent, or its client gone, be it before it began."""
    run: Callable[[Any], Awaitable[None]] = response.run

    async def run_and_finish(end: Any) -> None:
        try:
            await run(end)
        finally:
            finish()

    unsent = response.unsent

    def drop() -> None:
        finish()
        if unsent is not None:
            unsent()

    return replace(response, run=run_and_finish, unsent=drop)
