"""An epoll loop of a few lines: descriptors and what to call when they are ready."""

from __future__ import annotations

import contextlib
import functools
import select
from collections.abc import Callable


class Loop:
    """Handlers by descriptor; they get the epoll events."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self.stopping = False

    def watch(self, fd: int, handler: Callable[[int], None], events: int = select.EPOLLIN) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def watches(self, fd: int) -> bool:
        return fd in self._handlers

    def unwatch(self, fd: int) -> None:
        if self._handlers.pop(fd, None):
            self._epoll.unregister(fd)

    def run(self) -> None:
        while not self.stopping:
            for fd, events in self._epoll.poll():
                handler = self._handlers.get(fd)
                if handler:
                    self.guard(functools.partial(handler, events))

    def guard(self, work: Callable[[], None]) -> None:
        """Whatever goes wrong with one container or client, the others keep their parent."""
        try:
            work()
        except Exception:
            import traceback

            with contextlib.suppress(OSError), open("monitor.err", "a") as file:  # noqa: PTH123
                traceback.print_exc(file=file)
