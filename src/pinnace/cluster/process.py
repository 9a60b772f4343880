"""What a supervised server needs of its parent: to die with it, to say when it is ready, and the sockets it opened.

Readiness uses sd_notify's datagrams (https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html).
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket

LISTEN_FDS = "PINNACE_LISTEN_FDS"
_PR_SET_PDEATHSIG = 1


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
