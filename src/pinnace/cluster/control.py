"""The other end of the supervisor's control socket: how a profile's servers are, now and from now on."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pinnace.cluster.profile import Profile
from pinnace.cluster.supervisor import COMPONENTS


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the supervisor says of one server."""

    component: str  # control-plane, node, hollow
    state: str  # stopped, starting, ready, backoff
    pid: int | None
    restarts: int
    exit_code: int | None


class Control:
    """A connection to a running supervisor."""

    def __init__(self, profile: Profile) -> None:
        """Raises OSError when no supervisor answers."""
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(5)
            self._socket.connect(str(profile.control_socket))
        except OSError:
            self._socket.close()
            raise
        self._buffer = b""
        self.supervisor_pid = int(self._read_fact(time.monotonic() + 5)["supervisor"])

    def events(self, deadline: float) -> Iterator[ServerState]:
        """The state of every server, then every change, until `deadline` on the monotonic clock (TimeoutError).

        Raises ConnectionError when the supervisor ends.
        """
        while True:
            fact = self._read_fact(deadline)
            yield ServerState(fact["component"], fact["state"], fact["pid"], fact["restarts"], fact["exitCode"])

    def close(self) -> None:
        self._socket.close()

    def _read_fact(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)
            received = self._socket.recv(65536)
            if not received:
                raise ConnectionError("the supervisor has ended")
            self._buffer += received
        line, self._buffer = self._buffer.split(b"\n", 1)
        fact: dict[str, Any] = json.loads(line)
        return fact


def connect(profile: Profile) -> Control | None:
    """A connection, or None when no supervisor runs."""
    try:
        return Control(profile)
    except OSError:
        return None


def snapshot(profile: Profile) -> dict[str, ServerState]:
    """How every server is right now; empty when no supervisor runs."""
    control = connect(profile)
    if control is None:
        return {}
    found: dict[str, ServerState] = {}
    try:
        for state in control.events(time.monotonic() + 5):
            found[state.component] = state
            if len(found) == len(COMPONENTS):
                break
    except (OSError, TimeoutError):
        pass
    finally:
        control.close()
    return found


def look_again(profile: Profile) -> None:
    """Have the supervisor see which servers the profile shall have now; it does so by itself when it starts."""
    control = connect(profile)
    if control is not None:
        control.close()
        os.kill(control.supervisor_pid, signal.SIGHUP)


def wait_for_exit(pid: int, timeout: float) -> bool:
    """Wait until a process that need not be our child is gone; False when it outlives `timeout` seconds."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        poller = select.poll()
        poller.register(descriptor, select.POLLIN)
        return bool(poller.poll(timeout * 1000))
    finally:
        os.close(descriptor)
