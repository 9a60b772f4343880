"""The shape that all controllers share: informers feed a queue of keys, workers reconcile one key at a time.

A controller says in `setup` what it watches and which keys an object concerns, and in `reconcile` what to do about a
key. It keeps no state but what the API holds, so a key may be reconciled at any time, any number of times. All have a
client, the shared informers, a queue and a recorder of events; one that needs to know more is given it by keyword.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Generator, Iterable
from functools import partial
from typing import Any, cast

import structlog

from pinnace.client.client import Client
from pinnace.client.events import EventRecorder
from pinnace.client.informer import Informer, InformerFactory
from pinnace.client.workqueue import WorkQueue
from pinnace.machinery.errors import ApiError
from pinnace.machinery.meta import GVR, Obj, controller_of, key_of, namespace_of
from pinnace.wire.tasks import end_tasks

_log = structlog.get_logger()

REST = 9.0  # times what a decision took: one key takes a tenth of the loop at most
LEAST_REST, LONGEST_REST = 0.005, 0.25  # seconds

KeysOf = Callable[[Obj], Iterable[str]]
"""The keys to reconcile when this object comes, changes or goes."""


def itself(obj: Obj) -> Iterable[str]:
    """The object's own key."""
    return (key_of(obj),)


def its_controller(kind: str) -> KeysOf:
    """The key of the `kind` that controls the object, if one does."""

    def keys(obj: Obj) -> Iterable[str]:
        owner = controller_of(obj)
        if owner is None or owner["kind"] != kind:
            return ()
        namespace = namespace_of(obj)
        return (f"{namespace}/{owner['name']}" if namespace else owner["name"],)

    return keys


class _Deciding:
    """Awaits a reconciliation, and knows how many `seconds` it computed before it first had to wait for anything."""

    def __init__(self, work: Coroutine[Any, Any, float | None]) -> None:
        self._work = work
        self.seconds = 0.0

    def __await__(self) -> Generator[Any, Any, float | None]:
        steps = self._work.__await__()
        go_on: Callable[[], Any] = partial(next, steps)
        began = time.perf_counter()
        while True:
            try:
                awaited = go_on()
            except StopIteration as done:
                return cast("float | None", done.value)
            finally:
                self.seconds = self.seconds or time.perf_counter() - began
            try:
                yield awaited
            except BaseException as error:
                go_on = partial(steps.throw, error)
            else:
                go_on = partial(next, steps)


class Controller:
    """One control loop; subclasses give `name`, `setup` and `reconcile`."""

    name = "controller"
    component = ""  # who events are from, where that is not `name`
    workers = 5  # keys reconciled at the same time

    def __init__(self, client: Client, informers: InformerFactory) -> None:
        self.client = client
        self.informers = informers
        self.recorder = EventRecorder(client, self.component or self.name)
        self.queue = WorkQueue(self.name.removesuffix("-controller"))
        self._watched: list[Informer] = []
        self.setup()

    # For subclasses.

    def setup(self) -> None:
        """Declare what to watch; called once, before anything runs."""
        raise NotImplementedError

    async def reconcile(self, key: str) -> float | None:
        """Bring the world one step closer to what `key` asks; seconds after which to look again, if not None.

        Any exception brings the key back after a growing pause.
        """
        raise NotImplementedError

    def watch(
        self, resource: GVR, keys_of: KeysOf = itself, *, namespace: str = "", field_selector: str = ""
    ) -> Informer:
        """Reconcile `keys_of(obj)` whenever an object of the resource comes, changes or goes."""
        informer = self.use(resource, namespace=namespace, field_selector=field_selector)

        def one(obj: Obj) -> None:
            for key in keys_of(obj):
                self.queue.add(key)

        def both(old: Obj, new: Obj) -> None:
            one(old)
            one(new)

        informer.add_handler(one, both, one)
        return informer

    def use(self, resource: GVR, *, namespace: str = "", field_selector: str = "") -> Informer:
        """The shared informer of a resource that is looked up but causes nothing by itself."""
        informer = self.informers.informer(resource, namespace, field_selector=field_selector)
        self._watched.append(informer)
        return informer

    # Running.

    async def run(self) -> None:
        """Work until cancelled; the informers must be running."""
        await asyncio.gather(*(informer.wait_synced() for informer in self._watched))
        tasks = [asyncio.create_task(self._work(), name=f"{self.name} {n}") for n in range(self.workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            await end_tasks(tasks)
            self.queue.close()
            self.recorder.cancel()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            work = _Deciding(self.reconcile(key))
            try:
                again = await work
            except ApiError as error:
                # A conflict or a name already taken means that the cache is behind: the next look will see it.
                level = "debug" if error.is_conflict or error.is_already_exists else "warning"
                getattr(_log, level)("reconcile failed", controller=self.name, key=key, error=error.message)
                self.queue.add_rate_limited(key)
            except Exception:
                _log.exception("reconcile failed", controller=self.name, key=key)
                self.queue.add_rate_limited(key)
            else:
                self.queue.forget(key)
                if again is not None:
                    self.queue.add_after(key, again)
            finally:
                self._rest(key, work.seconds)

    def _rest(self, key: str, decided_in: float) -> None:
        """Let go of a key. One that takes long to decide on is kept a while, so that what happens meanwhile counts
        once: a set of thousands of pods would else be looked at anew for each of them."""
        pause = min(decided_in * REST, LONGEST_REST)
        if pause < LEAST_REST:
            self.queue.done(key)
        else:
            asyncio.get_running_loop().call_later(pause, self.queue.done, key)
