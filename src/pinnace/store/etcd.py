"""The store in an etcd v3 cluster, which several API servers may share.

One watch from the first read on hands every change to subscribers, our own writes included; a write returns when it has
come back through that watch. Values are what the embedded store keeps, keys are the same below `prefix`. Relies on
etcd's transactions, its linearizable reads and its ordered watches: https://etcd.io/docs/latest/learning/api_guarantees/.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio
import structlog

from pinnace.store import etcd_messages as messages
from pinnace.store.contract import (
    ROOT,
    Change,
    Compacted,
    Gap,
    KeyValue,
    RevisionConflict,
    StoreError,
    Subscriber,
    Write,
    no_gap,
)
from pinnace.store.etcd_client import EtcdClient, TlsFiles
from pinnace.wire.tasks import end_tasks

log = structlog.get_logger()
T = TypeVar("T")

PAGE = 1000  # keys in one response
HISTORY_CHANGES = 1000  # kept in memory for subscribers that come late
HANDED_SECONDS = 30.0  # until a write that is through but does not come back by the watch is given up
NUDGE_AFTER = 0.02  # seconds to wait for the watch before it is nudged
WATCH_BACKOFF = 0.1  # seconds before a broken watch is opened again
COMPACT_KEY = b"compact_rev_key"  # where kube-apiservers agree on who compacts, and so do we with them
_NUDGE = "pinnace-nudge"  # the key that is written to make the watch move


class EtcdStore:
    """`pinnace.store.contract.Store` on etcd; made by `EtcdStore.open` in a running loop."""

    is_shared = True

    def __init__(self, client: EtcdClient, prefix: str) -> None:
        self._client = client
        self._root = prefix.rstrip("/") + "/"  # in etcd, of what is below ROOT here
        self._loop = asyncio.get_running_loop()
        # What subscribers have been handed.
        self._revision = 0
        self._oldest = 0  # every change after this revision is in _history
        self._known: dict[str, int] = {}  # every key's mod_revision: finds what a gap has hidden
        self._history: deque[Change] = deque()
        self._subscribers: dict[int, tuple[str, Subscriber, Gap]] = {}
        self._next_subscriber = 0
        # What is on its way.
        self._initial: list[KeyValue] | None = None  # what was found at the start, for the first who asks
        self._writing: dict[str, bytes] = {}
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []  # a heap: who waits for which revision
        self._order = itertools.count()
        self._current_read = _Shared(self._read_revision)
        self._nudging = _Shared(self._nudge)
        self._compact_version = 0  # of COMPACT_KEY, as last seen
        self._following: asyncio.Task[None] | None = None
        self._closed = False

    @classmethod
    async def open(
        cls, endpoints: Sequence[str], *, prefix: str = "/registry", tls: TlsFiles | None = None
    ) -> EtcdStore:
        """Connect and read everything below `prefix`. Raises StoreError when no endpoint answers."""
        store = cls(EtcdClient(endpoints, tls or TlsFiles()), prefix)
        try:
            found, store._revision = await store._read(ROOT)
            seen = await store._call("Range", messages.RangeRequest(key=COMPACT_KEY))
        except BaseException:
            await store.close()
            raise
        store._oldest = store._revision
        store._compact_version = seen.kvs[0].version if seen.kvs else 0
        store._known = {item.key: item.mod_revision for item in found}
        store._initial = found
        store._following = asyncio.create_task(store._follow(), name="etcd-watch")
        return store

    # The contract: reads.

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def size(self) -> None:
        return None

    @property
    def oldest(self) -> int:
        return self._oldest

    async def get(self, key: str) -> KeyValue | None:
        response = await self._call("Range", messages.RangeRequest(key=self._outer(key)))
        return self._key_value(response.kvs[0]) if response.kvs else None

    async def range(self, prefix: str) -> tuple[list[KeyValue], int]:
        initial, self._initial = self._initial, None
        if initial is not None and prefix == ROOT and not self._history:
            return initial, self._revision
        found, revision = await self._read(prefix)
        await self._passed(revision)
        return found, revision

    async def catch_up(self) -> None:
        await self._passed(await self._current_read.result())

    async def reach(self, revision: int) -> None:
        if revision > self._revision:
            await self.catch_up()
        await self._handed(revision, None)

    async def _read(self, prefix: str) -> tuple[list[KeyValue], int]:
        """Everything below `prefix` at one revision, in pages."""
        key, end = self._outer(prefix), _after(self._outer(prefix))
        found: list[KeyValue] = []
        revision = 0
        while True:
            request = messages.RangeRequest(key=key, range_end=end, limit=PAGE, revision=revision)
            response = await self._call("Range", request)
            revision = revision or response.header.revision
            found += [self._key_value(item) for item in response.kvs if item.key != self._nudge_key]
            if not response.more:
                return found, revision
            key = response.kvs[-1].key + b"\0"

    async def _read_revision(self) -> int:
        response = await self._call("Range", messages.RangeRequest(key=COMPACT_KEY, keys_only=True))
        return int(response.header.revision)

    # The contract: writes.

    async def put(self, key: str, value: bytes, expected: int) -> int:
        return (await self.write([Write(key, value, expected)]))[0]

    async def delete(self, key: str, expected: int) -> int:
        return (await self.write([Write(key, None, expected)]))[0]

    async def write(self, writes: Sequence[Write]) -> list[int]:
        for write in writes:
            if write.value is not None:
                self._writing[write.key] = write.value
            elif not write.expected:
                there = await self.get(write.key)
                raise RevisionConflict(write.key, 0, there.mod_revision if there is not None else 0)
        try:
            return [await self._transact(writes)] * len(writes)
        finally:
            for write in writes:
                if self._writing.get(write.key) is write.value:
                    self._writing.pop(write.key, None)

    async def _transact(self, writes: Sequence[Write]) -> int:
        """Carry out the writes if every key is as expected. Raises RevisionConflict when subscribers know why."""
        request = messages.TxnRequest()
        for write in writes:
            outer = self._outer(write.key)
            request.compare.add(key=outer, target=messages.TARGET_MOD, mod_revision=write.expected)
            request.success.append(_operation(outer, write.value))
            request.failure.add(request_range=messages.RangeRequest(key=outer))
        response, repeated = await self._call_again("Txn", request)
        revision = int(response.header.revision)
        if response.succeeded:
            await self._handed(revision)
            return revision
        looked = [answer.response_range.kvs for answer in response.responses]
        found = [self._key_value(kvs[0]) if kvs else None for kvs in looked]
        if None in found:
            await self.catch_up()
        await self._handed(max((there.mod_revision for there in found if there is not None), default=0))
        if repeated and [there.value if there is not None else None for there in found] == [w.value for w in writes]:
            return max((there.mod_revision for there in found if there is not None), default=revision)
        for write, there in zip(writes, found, strict=True):
            current = there.mod_revision if there is not None else 0
            if current != write.expected:
                raise RevisionConflict(write.key, write.expected, current)
        raise StoreError("etcd refused a transaction whose conditions hold")

    # The contract: subscriptions.

    def subscribe(self, prefix: str, after: int, subscriber: Subscriber, gap: Gap = no_gap) -> Callable[[], None]:
        if after < self._oldest:
            raise Compacted(after, self._oldest)
        missed = [change for change in self._history if change.revision > after and change.key.startswith(prefix)]
        if missed:
            subscriber(missed)
        number = self._next_subscriber = self._next_subscriber + 1
        self._subscribers[number] = (prefix, subscriber, gap)
        return lambda: self._subscribers.pop(number, None) and None

    # The contract: compaction and closing.

    async def check(self) -> None:
        await self._read_revision()

    async def compact(self, revision: int) -> None:
        """Compact, unless another server has since this one last looked: once an interval is enough for all."""
        mine = messages.Compare(key=COMPACT_KEY, target=messages.TARGET_VERSION, version=self._compact_version)
        put = messages.RequestOp(request_put=messages.PutRequest(key=COMPACT_KEY, value=b"%d" % revision))
        look = messages.RequestOp(request_range=messages.RangeRequest(key=COMPACT_KEY))
        if revision > self._revision:
            raise StoreError(f"cannot compact to revision {revision}, which is after the newest, {self._revision}")
        response = await self._call("Txn", messages.TxnRequest(compare=[mine], success=[put], failure=[look]))
        if not response.succeeded:
            seen = response.responses[0].response_range.kvs
            self._compact_version = seen[0].version if seen else 0
            return
        self._compact_version += 1
        try:
            await self._call("Compact", messages.CompactionRequest(revision=revision))
        except StoreError as error:
            if "has been compacted" not in str(error):
                raise
        while self._history and self._history[0].revision <= revision:
            self._history.popleft()
        self._oldest = max(self._oldest, revision)

    async def close(self) -> None:
        self._closed = True
        if self._following is not None:
            await end_tasks([self._following])
        while self._waiting:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_exception(StoreError("the store is closed"))
        await self._client.close()

    # The watch.

    async def _follow(self) -> None:
        """Keep a watch open for as long as the store is."""
        while True:
            endpoint = self._client.endpoint
            try:
                await self._watch()
                continue
            except (grpc.aio.AioRpcError, StoreError) as error:
                what = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
                log.warning("the watch of etcd broke off", endpoint=endpoint, error=what)
            except Exception as error:
                log.error("the watch of etcd broke off", endpoint=endpoint, exc_info=error)
            self._client.next_member(endpoint)
            await asyncio.sleep(WATCH_BACKOFF)

    async def _watch(self) -> None:
        """Hand over what comes after the newest change handed over, until the stream ends."""
        stream = self._client.watch()
        try:
            root = self._outer(ROOT)
            create = messages.WatchCreateRequest(
                key=root, range_end=_after(root), start_revision=self._revision + 1, progress_notify=True
            )
            await stream.write(messages.WatchRequest(create_request=create))
            while (response := await stream.read()) is not grpc.aio.EOF:
                if response.compact_revision:
                    await self._bridge_gap()
                    return
                if response.canceled:
                    raise StoreError(response.cancel_reason or "canceled")
                if response.events:
                    self._take(response.events)
                elif not response.created:  # progress: nothing more came up to here
                    self._advance(response.header.revision)
            raise StoreError("the stream ended")
        finally:
            stream.cancel()

    def _take(self, events: Iterable[Any]) -> None:
        changes: list[Change] = []
        newest = self._revision
        for event in events:
            item = event.kv
            if item.mod_revision <= self._revision:
                continue  # seen before the watch was opened again
            newest = item.mod_revision
            if item.key == self._nudge_key:
                continue
            key = self._inner(item.key)
            if event.type == messages.EVENT_DELETE:
                self._known.pop(key, None)
                changes.append(Change(key, None, newest))
            else:
                self._known[key] = newest
                changes.append(Change(key, self._own(key, item.value), newest))
        self._hand_over(changes, newest)

    def _own(self, key: str, value: bytes) -> bytes:
        """The bytes that a writer here gave, where these are they: who knows them by identity finds them again."""
        written = self._writing.get(key)
        return written if written == value else value

    def _hand_over(self, changes: list[Change], revision: int) -> None:
        history = self._history
        history.extend(changes)
        while len(history) > HISTORY_CHANGES:
            self._oldest = max(self._oldest, history.popleft().revision)
        self._tell(changes, revision)

    def _tell(self, changes: list[Change], revision: int) -> None:
        self._revision = max(self._revision, revision)
        for prefix, subscriber, _ in list(self._subscribers.values()):
            matching = [change for change in changes if change.key.startswith(prefix)]
            if matching:
                subscriber(matching)
        self._advance(revision)

    def _advance(self, revision: int) -> None:
        """Wake those who wait for what has been handed over by now."""
        self._revision = max(self._revision, revision)
        waiting = self._waiting
        while waiting and waiting[0][0] <= self._revision:
            _, _, future = heapq.heappop(waiting)
            if not future.done():
                future.set_result(None)

    async def _bridge_gap(self) -> None:
        """The history since we last heard has been compacted: find out what has changed from how things stand."""
        found, revision = await self._read(ROOT)
        log.warning("changes were compacted before they were seen", after=self._revision, now=revision)
        there = {item.key for item in found}
        changes = [
            Change(item.key, item.value, item.mod_revision)
            for item in found
            if self._known.get(item.key) != item.mod_revision
        ]
        changes.sort(key=lambda change: change.revision)
        changes += [Change(key, None, revision) for key in self._known if key not in there]
        self._known = {item.key: item.mod_revision for item in found}
        self._oldest = revision
        self._history.clear()
        for _, _, gap in list(self._subscribers.values()):
            gap(revision)
        self._tell(changes, revision)

    # Waiting for the watch.

    async def _handed(self, revision: int, limit: float | None = HANDED_SECONDS) -> None:
        """Return when subscribers have been handed everything up to `revision`."""
        if self._revision >= revision:
            return
        if self._closed:
            raise StoreError("the store is closed")
        future: asyncio.Future[None] = self._loop.create_future()
        heapq.heappush(self._waiting, (revision, next(self._order), future))
        try:
            async with asyncio.timeout(limit):
                await future
        except TimeoutError:
            raise StoreError(f"{self._client.endpoint}: no watch has come up to revision {revision}") from None

    async def _passed(self, revision: int) -> None:
        """As `_handed`, where the write of that revision may be of a key that is not ours to watch."""
        if self._revision >= revision:
            return
        try:
            async with asyncio.timeout(NUDGE_AFTER):
                await self._handed(revision)
        except TimeoutError:
            # The watch may be silent about it for minutes, and asking it for its progress will not do: the answer
            # overtakes events in etcd before 3.4.25 and 3.5.8. A write of our own moves it.
            await self._nudging.result()
            await self._handed(revision)

    async def _nudge(self) -> None:
        await self._call("Put", messages.PutRequest(key=self._nudge_key))

    # Calls.

    async def _call(self, method: str, request: Any) -> Any:
        return (await self._call_again(method, request))[0]

    async def _call_again(self, method: str, request: Any) -> tuple[Any, bool]:
        if self._closed:
            raise StoreError("the store is closed")
        return await self._client.call(method, request)

    @property
    def _nudge_key(self) -> bytes:
        return (self._root + _NUDGE).encode()

    def _outer(self, key: str) -> bytes:
        """The name in etcd of a key of the contract."""
        return (self._root + key[len(ROOT) :]).encode()

    def _inner(self, key: bytes) -> str:
        return ROOT + key.decode()[len(self._root) :]

    def _key_value(self, item: Any) -> KeyValue:
        return KeyValue(self._inner(item.key), item.value, item.create_revision, item.mod_revision)


def _operation(key: bytes, value: bytes | None) -> Any:
    if value is None:
        return messages.RequestOp(request_delete_range=messages.DeleteRangeRequest(key=key))
    return messages.RequestOp(request_put=messages.PutRequest(key=key, value=value))


class _Shared(Generic[T]):
    """One call for all who ask at the same time: each is served by a call that began after it asked."""

    def __init__(self, call: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._make = call
        self._next: asyncio.Future[T] | None = None
        self._running: asyncio.Task[None] | None = None

    async def result(self) -> T:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            self._next.add_done_callback(_seen)
            if self._running is None:
                self._running = asyncio.create_task(self._run())
        return await asyncio.shield(self._next)

    async def _run(self) -> None:
        while (future := self._next) is not None:
            self._next = None
            try:
                future.set_result(await self._make())
            except Exception as error:
                future.set_exception(error)
        self._running = None


def _seen(future: asyncio.Future[Any]) -> None:
    """An error that nobody waits for any more is no news."""
    if not future.cancelled():
        future.exception()


def _after(prefix: bytes) -> bytes:
    """The first key after all that start with `prefix`, which ends in a character below 0xff."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
