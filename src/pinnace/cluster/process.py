"""What every server process needs: to end on a signal and to log; and, under the supervisor, to die with it, to say
when it is ready and to take over the sockets it opened.

Readiness uses sd_notify's datagrams (https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
from collections.abc import Coroutine, Mapping
from typing import Any

LISTEN_FDS = "PINNACE_LISTEN_FDS"
VERBOSITY = "PINNACE_VERBOSITY"
_PR_SET_PDEATHSIG = 1
Changes = Mapping[str, Mapping[str, Any]]
"""What extra configuration changes: by component, fields of its server's options."""


def die_with_parent() -> None:
    """Be sent SIGTERM when the supervisor ends, however it ends: orphaned servers would keep the guard from acting."""
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


def notify(message: str) -> None:
    """Tell the supervisor (`READY=1`, `STATUS=…`); silent where there is none."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(message.encode(), address)
        except OSError:
            pass  # the supervisor is gone; so is the need


def inherited_sockets() -> list[socket.socket]:
    """The listening sockets that the supervisor keeps open across restarts of this server."""
    numbers = os.environ.get(LISTEN_FDS, "")
    return [socket.socket(fileno=int(number)) for number in numbers.split(",") if number]


def configure_logging(verbosity: int) -> None:
    """One line a fact on standard error: warnings and news, with `-v 2` and above also what helps to debug."""
    from pinnace.wire import verbosity as logs

    logs.configure_logging(verbosity)


def calm_collector() -> None:
    """Keep the garbage collector off what start-up made, and let it run rarely: our data has few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 5, 1000)


async def run_together(parts: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Run all parts until SIGTERM or SIGINT; then cancel them, the last first, and wait for their clean-up.

    A part that ends or fails by itself ends the others, and its error is raised: whoever supervises starts anew.
    """
    import asyncio  # here, for the supervisor uses this module too and has no event loop to pay for

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(coroutine, name=name) for name, coroutine in parts.items()]
    for task in tasks:
        task.add_done_callback(lambda _: stop.set())
    await stop.wait()
    ended = [task for task in tasks if task.done()]
    for task in reversed(tasks):
        task.cancel()
        await asyncio.wait([task])
    for task in ended:
        task.result()
        raise RuntimeError(f"{task.get_name()} ended by itself")
