"""Watches: what has changed since a revision, then every change as it happens, until the time is up.

Catching up and joining the live stream happen without a pause between them, so no event is missed and none comes twice.
https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import TypeVar

import orjson

from pinnace.apiserver import freshness
from pinnace.apiserver.cache import CachedObject, Deliver, Event, Filter, Line, Sent, Watcher
from pinnace.apiserver.call import Call, shown
from pinnace.apiserver.handlers.read import check_revision, filter_of, parse_revision
from pinnace.apiserver.messages import lines, over_websocket
from pinnace.apiserver.negotiate import Format
from pinnace.apiserver.render import JSON_HEADERS, View, warning_headers
from pinnace.machinery import errors
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import Obj
from pinnace.wire.http import AnyResponse, StreamingResponse, Writer, frame_chunk

INITIAL_END = {"k8s.io/initial-events-end": "true"}
FLUSH = 64 << 10  # bytes of initial events in one chunk
LAG = 50_000  # events that may wait for a watcher before it is ended


class Plan:
    """A watch as it was asked for."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.cache = call.cache
        self.which: Filter = filter_of(call)
        self.bookmarks = call.flag("allowWatchBookmarks")
        self.after = parse_revision(call.params.get("resourceVersion", ""))
        self.initial_events = self._initial_events()
        timeout = call.number("timeoutSeconds")
        least = call.api.options.min_request_timeout  # one without a limit ends between this and twice this
        self.seconds = float(timeout) if timeout and timeout > 0 else least * (1 + random.random())

    def _initial_events(self) -> bool:
        """Whether the watch begins with the objects there are. Raises 422 for options that do not go together."""
        params = self.call.params
        match, wanted = params.get("resourceVersionMatch", ""), params.get("sendInitialEvents")
        causes = []
        if wanted is None or wanted == "":
            if match:
                why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
                causes.append(errors.field_forbidden("resourceVersionMatch", why))
        elif not match:
            why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            causes.append(errors.field_forbidden("resourceVersionMatch", why))
        elif match != "NotOlderThan":
            causes.append(errors.not_supported("resourceVersionMatch", match, ["NotOlderThan"]))
        if wanted and not self.call.api.registry.features.enabled("WatchList"):
            why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            causes.append(errors.field_forbidden("sendInitialEvents", why))
        if wanted in ("true", "1") and not self.bookmarks:
            why = "sendInitialEvents requires setting allowWatchBookmarks to true"
            causes.append(errors.field_forbidden("sendInitialEvents", why))
        if causes:
            raise errors.invalid("ListOptions", "", causes, "meta.k8s.io")
        if wanted is None or wanted == "":
            return self.after == 0
        return wanted in ("true", "1")

    @property
    def marks_initial_end(self) -> bool:
        return self.call.params.get("sendInitialEvents") in ("true", "1")

    def check(self) -> None:
        """Raise 410 when the changes since `after` are not all remembered."""
        if self.initial_events or not self.after:
            return
        check_revision(self.call, self.after)
        if self.after < self.cache.oldest:
            raise errors.too_old_resource_version(self.after, self.cache.oldest)

    def initial(self) -> Iterator[CachedObject]:
        """The objects that a watch from nowhere begins with."""
        return self.cache.select(self.which) if self.initial_events else iter(())

    def join(self, deliver: Deliver, end: Callable[[], None]) -> Callable[[], None]:
        """Deliver what came after the asked revision, then what comes; returns the way out. `end` is called when an
        event could not be delivered: the client must not be left with a gap."""
        watcher = Watcher(self.which, deliver, end)
        if not self.initial_events and self.after:
            for event in self.cache.since(self.after):
                changed = event.new or event.old
                assert changed is not None
                if self._is_near(changed):
                    watcher.handle(event)
        return self.cache.watch(watcher)

    def _is_near(self, obj: CachedObject) -> bool:
        which = self.which
        return (not which.namespace or obj.namespace == which.namespace) and (not which.name or obj.name == which.name)


def watch(call: Call, form: Format) -> AnyResponse:
    """A watch over HTTP: one JSON document a line, or a WebSocket message."""
    plan = Plan(call)
    view = View(call.kind, form._replace(pretty=False, yaml=False), call.params.get("includeObject", ""))

    async def run(writer: Writer) -> None:
        await _serve(plan, view, writer)

    content_type = "application/json;stream=watch" if form.variant else "application/json"
    headers = (("Content-Type", content_type), JSON_HEADERS[1], *warning_headers(call.warnings))
    return over_websocket(call.request, StreamingResponse(run, 200, headers), lines)


async def _serve(plan: Plan, view: View, writer: Writer) -> None:
    began = time.perf_counter()
    try:
        await _settled(plan.call)
        plan.check()
    except ApiError as error:
        writer.write(orjson.dumps({"type": "ERROR", "object": error.to_status()}) + b"\n")
        return
    over = asyncio.Event()
    outlet = _Outlet(view, writer, over, plan.cache.sent)
    initial = list(plan.initial())
    end = [view.bookmark(plan.call.api.storage.revision, INITIAL_END)] if plan.marks_initial_end else []
    leave = plan.join(outlet.deliver, over.set)
    writer.on_close(over.set)
    api = plan.call.api
    api.streams.add(over)
    try:
        await outlet.begin(initial, end)
        if end:
            info = plan.call.info
            labels = info.group, info.resource, info.scope, info.version
            api.storage.measures.watch_lists.observe(time.perf_counter() - began, *labels)
        if not api.stopping:
            await _keep(plan, view, writer, over)
    finally:
        leave()
        api.streams.discard(over)


async def _settled(call: Call) -> None:
    """Wait until the objects are as new as asked for, and can be read in the call's version. Raises ApiError where
    they cannot be had."""
    await freshness.settle(call)
    waiting = call.kind.settle("") if call.kind.settle is not None else None
    if waiting is not None:
        await waiting


class _Outlet:
    """What a watch sends. It may begin with more than its client takes at once: then what happens meanwhile waits."""

    def __init__(self, view: View, writer: Writer, over: asyncio.Event, sent: Sent) -> None:
        self._view = view
        self._sent = sent
        self._writer = writer
        self._over = over
        self._waiting: deque[tuple[str, CachedObject, Event]] | None = deque()  # None once the beginning is sent

    def deliver(self, kind: str, obj: CachedObject, event: Event) -> None:
        if self._waiting is None:
            view = self._view
            line = event.lines.get((kind, view.key))
            if line is None:
                text = view.event(kind, obj)
                line = event.lines[kind, view.key] = Line(frame_chunk(text), len(text))
            line.watchers += 1
            self._writer.write_framed(line.chunk)
            return
        self._waiting.append((kind, obj, event))
        if len(self._waiting) > LAG:
            self._over.set()

    async def begin(self, initial: Iterable[CachedObject], end: Iterable[bytes]) -> None:
        """Send the objects there are, `end`, and what has waited, at the pace of the client."""
        view, waiting = self._view, self._waiting
        assert waiting is not None
        await self._send(view.event("ADDED", obj) for obj in initial)
        await self._send(end)
        while waiting and not self._over.is_set():
            await self._send(view.event(kind, obj) for kind, obj, _ in _taken(waiting))
        self._waiting = None

    async def _send(self, lines_of_events: Iterable[bytes]) -> None:
        found: list[bytes] = []
        size = 0
        sent = self._sent
        for line in lines_of_events:
            sent.add(len(line))
            found.append(line)
            size += len(line)
            if size > FLUSH:
                self._writer.write(b"".join(found))
                found.clear()
                size = 0
                await self._writer.drain()
                await asyncio.sleep(0)  # a client that takes it all must not keep the others waiting
                if self._over.is_set():
                    return
        if found:
            self._writer.write(b"".join(found))


T = TypeVar("T")


def _taken(waiting: deque[T]) -> Iterator[T]:
    """Everything of a queue, also what is added meanwhile."""
    while waiting:
        yield waiting.popleft()


async def _keep(plan: Plan, view: View, writer: Writer, over: asyncio.Event) -> None:
    """Wait for the end, with bookmarks in between."""
    loop = asyncio.get_running_loop()
    end = loop.time() + plan.seconds
    interval = plan.call.api.options.bookmark_interval
    while not over.is_set():
        left = end - loop.time()
        if left <= 0:
            return
        pause = min(left, interval * (0.75 + random.random() / 2)) if plan.bookmarks else left
        try:
            async with asyncio.timeout(pause):
                await over.wait()
        except TimeoutError:
            if plan.bookmarks and not writer.closed:
                bookmark = view.bookmark(plan.call.api.storage.revision)
                plan.cache.sent.add(len(bookmark))
                writer.write(bookmark)


async def loopback_watch(call: Call) -> AsyncIterator[Obj]:
    """A watch of this process: events as objects, shared and read-only. Raises ApiError where HTTP sends ERROR."""
    plan = Plan(call)
    await _settled(call)
    plan.check()
    kind, api = call.kind, call.api
    waiting: deque[Obj] = deque()
    wake = asyncio.Event()

    def deliver(what: str, obj: CachedObject, _: Event) -> None:
        waiting.append({"type": what, "object": shown(kind, obj)})
        wake.set()

    view = View(kind, Format())
    for obj in plan.initial():
        waiting.append({"type": "ADDED", "object": shown(kind, obj)})
    if plan.marks_initial_end:
        waiting.append({"type": "BOOKMARK", "object": view.bookmark_object(api.storage.revision, INITIAL_END)})
    broken = asyncio.Event()

    def break_off() -> None:
        broken.set()
        wake.set()

    leave = plan.join(deliver, break_off)
    api.streams.add(wake)
    loop = asyncio.get_running_loop()
    end = loop.time() + plan.seconds
    try:
        while not api.stopping:
            while waiting:
                yield waiting.popleft()
            if broken.is_set():
                return
            left = end - loop.time()
            if left <= 0:
                return
            wake.clear()
            pause = min(left, api.options.bookmark_interval) if plan.bookmarks else left
            try:
                async with asyncio.timeout(pause):
                    await wake.wait()
            except TimeoutError:
                if plan.bookmarks:
                    waiting.append({"type": "BOOKMARK", "object": view.bookmark_object(api.storage.revision)})
            if len(waiting) > LAG:
                return
    finally:
        leave()
        api.streams.discard(wake)
