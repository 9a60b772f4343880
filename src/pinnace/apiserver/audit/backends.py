"""Backends of the audit log: a file, a webhook, and the buffer between events and either of them.

An event is encoded once, at its stage, and the same bytes go to every backend. A backend that fails counts what it has
lost (`apiserver_audit_error_total`) and never takes the server down.
https://kubernetes.io/docs/tasks/debug/debug-cluster/audit/#audit-backends.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import orjson
import structlog

from pinnace.apiserver.audit.log_file import LogFile
from pinnace.apiserver.audit.options import Delivery, LogOptions, WebhookOptions
from pinnace.apiserver.webhook_client import CallFailed, KubeconfigWebhook
from pinnace.machinery.meta import Obj, utc_now

log = structlog.get_logger()

_TRUNCATED = "audit.k8s.io/truncated"
_CLOSING_SECONDS = 10.0  # for a webhook to take what is left


class Event(NamedTuple):
    """An event, and its JSON."""

    document: Obj
    encoded: bytes


Write = Callable[[Sequence[Event]], Awaitable[None]]


class Backend(ABC):
    """Takes events one by one and delivers them: at once, or in batches where `delivery` says so."""

    name: str

    def __init__(self, delivery: Delivery) -> None:
        self.lost = 0  # events
        self._delivery = delivery
        self._strict = delivery.mode == "blocking-strict"  # a request that cannot be recorded is refused
        self._buffer = Buffer(delivery, self._deliver) if delivery.mode == "batch" else None
        self._complained = False

    @property
    def waits(self) -> bool:
        """Whether requests wait for their events to be delivered."""
        return False

    def accept(self, event: Event) -> bool | asyncio.Future[bool]:
        """Take an event; whether its request may go on, known now or once the event is delivered."""
        fitting = fitted(event, self._delivery)
        if fitting is None:
            self._lose(1, "event is too large even after truncating")
            return not self._strict
        if self._buffer is None:
            return self._record(fitting)
        if not self._buffer.add(fitting):
            self._lose(1, "audit buffer queue blocked")
        return True

    async def close(self) -> None:
        """Deliver what waits."""
        if self._buffer is not None:
            await self._buffer.close()

    @abstractmethod
    def _record(self, event: Event) -> bool | asyncio.Future[bool]:
        """`accept` for an event that goes at once."""

    @abstractmethod
    async def _deliver(self, events: Sequence[Event]) -> None:
        """Send a batch, or lose it."""

    def _lose(self, count: int, why: str) -> None:
        self.lost += count
        if not self._complained:  # a full disk must not fill the log too
            log.error("Error in audit plugin", plugin=self.name, affected=count, error=why)
        self._complained = True


class LogBackend(Backend):
    """Lines of a file. A blocking one is written to as it accepts."""

    name = "log"

    def __init__(self, options: LogOptions) -> None:
        super().__init__(options.delivery)
        self._file = LogFile(options)
        self._line = _json_line if options.format == "json" else _legacy_line

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(self._file.close)

    def _record(self, event: Event) -> bool:
        return self._write([event]) or not self._strict

    async def _deliver(self, events: Sequence[Event]) -> None:
        self._write(events)

    def _write(self, events: Sequence[Event]) -> bool:
        try:
            self._file.write(b"".join(map(self._line, events)), utc_now())
        except OSError as error:
            self._lose(len(events), str(error))
            return False
        self._complained = False
        return True


class WebhookBackend(Backend):
    """EventLists sent to a server that a kubeconfig names."""

    name = "webhook"

    def __init__(self, options: WebhookOptions) -> None:
        super().__init__(options.delivery)
        assert options.config_file is not None
        self._webhook = KubeconfigWebhook(options.config_file)
        self._backoff = options.initial_backoff
        self._sending: set[asyncio.Task[bool]] = set()

    @property
    def waits(self) -> bool:
        return self._buffer is None

    async def close(self) -> None:
        try:
            async with asyncio.timeout(_CLOSING_SECONDS):
                await super().close()
                if self._sending:
                    await asyncio.wait(self._sending)
        except TimeoutError:
            self._lose(len(self._sending), "the webhook has not taken the last events")
        await self._webhook.close()

    def _record(self, event: Event) -> asyncio.Future[bool]:
        task = asyncio.create_task(self._send_one(event))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return task

    async def _send_one(self, event: Event) -> bool:
        return await self._send([event]) or not self._strict

    async def _deliver(self, events: Sequence[Event]) -> None:
        await self._send(events)

    async def _send(self, events: Sequence[Event]) -> bool:
        """Whether the webhook has them."""
        head = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['
        body = head + b",".join(event.encoded for event in events) + b"]}"
        try:
            await self._webhook.ask(body, self._backoff, insists=True)
        except CallFailed as error:
            self._lose(len(events), str(error))
            return False
        self._complained = False
        return True


class Buffer:
    """Events that wait to be delivered in batches, not too many batches a second."""

    def __init__(self, delivery: Delivery, write: Write) -> None:
        self._delivery = delivery
        self._write = write
        self._waiting: deque[Event] = deque()
        self._ready = asyncio.Event()  # a batch is full, or all must go
        self._some = asyncio.Event()
        self._closing = False
        self._permits = float(delivery.burst)
        self._counted = 0.0  # when permits were last counted
        self._task: asyncio.Task[None] | None = None

    def add(self, event: Event) -> bool:
        """Whether there was room."""
        if len(self._waiting) >= self._delivery.buffer_size:
            return False
        self._waiting.append(event)
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        self._some.set()
        if len(self._waiting) >= self._delivery.batch_size:
            self._ready.set()
        return True

    async def close(self) -> None:
        """Deliver everything."""
        self._closing = True
        self._some.set()
        self._ready.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while self._waiting or not self._closing:
            await self._some.wait()
            if len(self._waiting) < self._delivery.batch_size and not self._closing:
                try:
                    async with asyncio.timeout(self._delivery.batch_wait):
                        await self._ready.wait()
                except TimeoutError:
                    pass
            await self._permitted()
            batch = self._next_batch()
            if len(self._waiting) < self._delivery.batch_size and not self._closing:
                self._ready.clear()
            if not self._waiting and not self._closing:
                self._some.clear()
            if batch:
                await self._write(batch)

    def _next_batch(self) -> list[Event]:
        batch: list[Event] = []
        size = 0
        while self._waiting and len(batch) < self._delivery.batch_size:
            size += len(self._waiting[0].encoded)
            if batch and self._delivery.truncated and size > self._delivery.most_batch_bytes:
                break
            batch.append(self._waiting.popleft())
        return batch

    async def _permitted(self) -> None:
        """Wait for the right to send one more batch; at the end everything may go."""
        if not self._delivery.throttled or self._closing:
            return
        now = asyncio.get_running_loop().time()
        if self._counted:
            self._permits = min(self._delivery.burst, self._permits + (now - self._counted) * self._delivery.qps)
        self._counted = now
        self._permits -= 1
        if self._permits < 0:
            await asyncio.sleep(-self._permits / self._delivery.qps)


def fitted(event: Event, delivery: Delivery) -> Event | None:
    """The event, without its bodies where it is too large with them; None where it is too large even so."""
    if not delivery.truncated or len(event.encoded) <= delivery.most_event_bytes:
        return event
    document = {name: value for name, value in event.document.items() if not name.endswith("Object")}
    document["annotations"] = {**document.get("annotations", {}), _TRUNCATED: "true"}
    encoded = orjson.dumps(document)
    return Event(document, encoded) if len(encoded) <= delivery.most_event_bytes else None


def _json_line(event: Event) -> bytes:
    return event.encoded + b"\n"


def _legacy_line(event: Event) -> bytes:
    """The one-line format of old: `2026-… AUDIT: id="…" stage="…" …`."""
    document = event.document
    user, other = document["user"], document.get("impersonatedUser")
    words: list[tuple[str, Any]] = [
        ("id", document["auditID"]),
        ("stage", document["stage"]),
        ("ip", (document.get("sourceIPs") or ["<unknown>"])[0]),
        ("method", document["verb"]),
        ("user", user.get("username") or "<none>"),
        ("groups", _listed(user.get("groups")) or "<none>"),
        ("as", other["username"] if other is not None else "<self>"),
        ("asgroups", (_listed(other.get("groups")) if other is not None else "") or "<lookup>"),
        ("namespace", (document.get("objectRef") or {}).get("namespace") or "<none>"),
        ("uri", document["requestURI"]),
        ("response", str(document["responseStatus"]["code"]) if "responseStatus" in document else "<deferred>"),
    ]
    shown = " ".join(f"{name}={_quoted(value)}" for name, value in words)
    return f"{document['requestReceivedTimestamp']} AUDIT: {shown}\n".encode()


def _listed(groups: Sequence[str] | None) -> str:
    return ",".join(_quoted(group) for group in groups or ())


def _quoted(text: str) -> str:
    return orjson.dumps(text).decode()
