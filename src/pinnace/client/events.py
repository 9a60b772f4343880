"""Tells people what happened to an object: `Event`s, without flooding the API server.

A repeated event raises the count of the one already there; many alike in a short time are combined into one; an object
that goes on and on is heard less and less. The rules are those of client-go's event correlator. Writing happens in the
background and is given up on errors: an event is a remark, never a reason to fail.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple, TypeVar

import structlog

from pinnace.client.client import Client
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, format_time, utc_now
from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()

_T = TypeVar("_T")

EVENTS = GVR("", "v1", "events")

_REMEMBERED = 4096  # entries of each table, least recently used dropped
_ALIKE_LIMIT = 10  # events that differ in message only, within …
_ALIKE_SECONDS = 600  # … this time, before they are combined
_BURST = 25  # events about one object from one source, then one every …
_REFILL_SECONDS = 300
_QUEUE_LIMIT = 1000  # events waiting to be written; more are dropped
_ATTEMPTS, _LONGEST_PAUSE = 16, 10.0  # an event is written within two minutes, or not at all
_CLOSING_SECONDS = 5.0


def reference_to(obj: Obj, field_path: str = "") -> Obj:
    """The `involvedObject` of an event about `obj`, or about a part of it (`spec.containers{web}`)."""
    metadata = obj["metadata"]
    reference = {
        "apiVersion": obj.get("apiVersion"),
        "kind": obj.get("kind"),
        "namespace": metadata.get("namespace"),
        "name": metadata.get("name"),
        "uid": metadata.get("uid"),
        "resourceVersion": metadata.get("resourceVersion"),
        "fieldPath": field_path,
    }
    return {name: value for name, value in reference.items() if value}


class _Remark(NamedTuple):
    """What somebody had to say."""

    involved: Obj
    type: str
    reason: str
    message: str
    when: datetime
    annotations: Mapping[str, str] | None = None


@dataclass(slots=True)
class _Alike:
    """Events that differ in message only."""

    since: float
    messages: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Written:
    """An event that the API server has."""

    name: str
    namespace: str
    count: int
    first: str


@dataclass(slots=True)
class _Bucket:
    """How much may still be said about an object."""

    tokens: float
    filled: float


class Correlator:
    """Decides what becomes of a remark; pure but for the tables it keeps. Times are seconds of one steady clock."""

    def __init__(self) -> None:
        self._alike: OrderedDict[tuple[str, ...], _Alike] = OrderedDict()
        self._written: OrderedDict[tuple[str, ...], _Written] = OrderedDict()
        self._buckets: OrderedDict[tuple[str, ...], _Bucket] = OrderedDict()

    def allow(self, remark: _Remark, now: float) -> bool:
        """Whether the object may be spoken of once more."""
        key = _object_key(remark)
        bucket = self._buckets.pop(key, None) or _Bucket(_BURST, now)
        bucket.tokens = min(_BURST, bucket.tokens + (now - bucket.filled) / _REFILL_SECONDS)
        bucket.filled = now
        _remember(self._buckets, key, bucket)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def combine(self, remark: _Remark, now: float) -> tuple[_Remark, tuple[str, ...]]:
        """The remark to write and the key under which it is counted: many alike become one."""
        key = (*_object_key(remark), remark.type, remark.reason)
        alike = self._alike.pop(key, None)
        if alike is None or now - alike.since > _ALIKE_SECONDS:
            alike = _Alike(now)
        alike.since = now
        alike.messages.add(remark.message)
        _remember(self._alike, key, alike)
        while next(iter(self._alike.values())).since < now - _ALIKE_SECONDS:  # counts no more
            self._alike.popitem(last=False)
        if len(alike.messages) < _ALIKE_LIMIT:
            return remark, (*key, remark.message)
        alike.messages.pop()
        combined = f"(combined from similar events): {remark.message}"
        return remark._replace(message=combined), key

    def written(self, key: tuple[str, ...]) -> _Written | None:
        return self._written.get(key)

    def remember(self, key: tuple[str, ...], written: _Written) -> None:
        self._written.pop(key, None)
        _remember(self._written, key, written)

    def forget(self, key: tuple[str, ...]) -> None:
        self._written.pop(key, None)


def _object_key(remark: _Remark) -> tuple[str, ...]:
    involved = remark.involved
    return tuple(
        str(involved.get(name, "")) for name in ("kind", "namespace", "name", "uid", "apiVersion", "fieldPath")
    )


def _remember(table: OrderedDict[tuple[str, ...], _T], key: tuple[str, ...], value: _T) -> None:
    table[key] = value
    if len(table) > _REMEMBERED:
        table.popitem(last=False)


class EventRecorder:
    """Writes events in the name of one component; `close` waits for what was said to be written, but not for long."""

    def __init__(self, client: Client, component: str, host: str = "") -> None:
        self._client = client
        self._component = component
        self._host = host
        self._correlator = Correlator()
        self._queue: asyncio.Queue[_Remark] = asyncio.Queue(_QUEUE_LIMIT)
        self._writer: asyncio.Task[None] | None = None

    def event(
        self,
        obj: Obj,
        type: str,  # noqa: A002
        reason: str,
        message: str,
        *,
        field_path: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Say that something happened to `obj`; `type` is Normal or Warning. Never blocks, never raises."""
        self.event_about(reference_to(obj, field_path), type, reason, message, annotations)

    def event_about(
        self,
        involved: Obj,
        type: str,  # noqa: A002
        reason: str,
        message: str,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """The same for an object that is known by reference only."""
        remark = _Remark(involved, type, reason, message, utc_now(), annotations)
        if not self._correlator.allow(remark, time.monotonic()):
            return
        try:
            self._queue.put_nowait(remark)
        except asyncio.QueueFull:
            return
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write_all(), name="event recorder")

    async def close(self) -> None:
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=_CLOSING_SECONDS)
            await end_tasks([self._writer])

    def cancel(self) -> None:
        """Drop what is not written yet."""
        if self._writer is not None:
            self._writer.cancel()

    async def _write_all(self) -> None:
        """Write what is queued, then end: a silent recorder holds no task."""
        while not self._queue.empty():
            remark = self._queue.get_nowait()
            for attempt in range(_ATTEMPTS):
                try:
                    await self._write(remark)
                    break
                except ApiError as error:
                    if error.code < 500:
                        _log.debug("event refused", reason=remark.reason, error=error.message)
                        break
                    await asyncio.sleep(min(0.2 * 2**attempt, _LONGEST_PAUSE))

    async def _write(self, remark: _Remark) -> None:
        remark, key = self._correlator.combine(remark, time.monotonic())
        known = self._correlator.written(key)
        moment = format_time(remark.when)
        if known is not None:
            count = known.count + 1
            patch = {"count": count, "lastTimestamp": moment, "message": remark.message}
            try:
                await self._client.patch(EVENTS, known.name, patch, known.namespace)
            except ApiError as error:
                if not error.is_not_found:
                    raise
                self._correlator.forget(key)
            else:
                self._correlator.remember(key, _Written(known.name, known.namespace, count, known.first))
                return
        made = self._new_event(remark, moment)
        await self._client.create(EVENTS, made)
        name, namespace = made["metadata"]["name"], made["metadata"]["namespace"]
        self._correlator.remember(key, _Written(name, namespace, 1, moment))

    def _new_event(self, remark: _Remark, moment: str) -> Obj:
        source = {"component": self._component}
        if self._host:
            source["host"] = self._host
        metadata: Obj = {
            "name": f"{remark.involved.get('name', '')}.{time.time_ns():x}",
            "namespace": remark.involved.get("namespace") or "default",
        }
        if remark.annotations:
            metadata["annotations"] = dict(remark.annotations)
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": metadata,
            "involvedObject": remark.involved,
            "reason": remark.reason,
            "message": remark.message,
            "source": source,
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
            "type": remark.type,
            "reportingComponent": self._component,
            "reportingInstance": self._host,
        }
