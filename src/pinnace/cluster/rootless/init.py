"""The first process of a profile's namespaces: furnishes them, starts the supervisor, and starts it again when killed.

Commands are its guests, each by a connection to `namespaces.sock`, where they are told what they find here. It ends
when it has neither guests nor a supervisor, and everything inside ends with it, as it does when a machine is switched
off (pid_namespaces(7)). It imports next to nothing and waits on descriptors alone.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pinnace.cluster import turns
from pinnace.cluster.process import LISTEN_FDS
from pinnace.cluster.profile import Profile
from pinnace.cluster.rootless import furniture

NOT_NEEDED = 3  # the supervisor's exit code when there is one, or none shall be
FIRST_BACKOFF, MAX_BACKOFF = 0.05, 10.0  # seconds
STEADY_AFTER = 30.0  # seconds of life that make its end a first one again
FIRST_GUEST = 30.0  # seconds
ORPHANS_TIMEOUT = 20.0  # seconds that a killed supervisor's servers have to end


def ask_for_supervisor(profile: Profile) -> None:
    """Have the init start the supervisor, and again when it is killed; said from within. Raises OSError."""
    with socket.socket(socket.AF_UNIX) as guest:
        guest.connect(str(profile.namespaces_socket))
        guest.recv(4096)  # the greeting
        guest.send(b"supervise")


class Init:
    """Process 1: `prepare`, then `run`."""

    def __init__(self, profile: Profile, listener: int, lifeline: int, keeper: int) -> None:
        self._profile = profile
        self._listener = listener  # of the API server, on the machine's loopback; -1: none
        self._lifeline = lifeline  # open for as long as this process lives: its end is how others learn of ours
        self._greeting = json.dumps({"listener": listener >= 0, "keeper": keeper}).encode()
        self._selector = selectors.DefaultSelector()
        self._guests = 0
        self._supervisor = 0  # its pid, and the process group that its servers share
        self._orphans = 0  # the group of one that was killed: the next one needs what its servers hold
        self._orphans_until = 0.0  # on the monotonic clock
        self._restart_at = 0.0  # on the monotonic clock; 0: no supervisor is due
        self._backoff = FIRST_BACKOFF
        self._started_at = 0.0
        self._alone_until = time.monotonic() + FIRST_GUEST

    def prepare(self, *, way_out: bool, cgroups: bool) -> None:
        """Furnish the namespaces and be ready for guests. Raises furniture.FurnishError, OSError."""
        furniture.furnish(self._profile, way_out=way_out, cgroups=cgroups)
        self._catch_signals()
        self._door = self._open_door()
        if self._listener >= 0 and self._profile.supervisor_permit.exists():
            self._restart_at = time.monotonic()  # our predecessor was killed, and the supervisor with it

    def run(self) -> int:
        """Until nobody needs the namespaces; the exit status."""
        try:
            while self._is_needed() or time.monotonic() < self._alone_until:
                self._wait()
            self._leave()
        except Exception:
            traceback.print_exc()
            return 1
        return 0

    def _is_needed(self) -> bool:
        return bool(self._guests or self._supervisor or self._orphans or self._restart_at)

    def _wait(self) -> None:
        due = self._restart_at or self._orphans_until or (0.0 if self._is_needed() else self._alone_until)
        for key, _ in self._selector.select(max(0.0, due - time.monotonic()) if due else None):
            handle: Callable[[], None] = key.data
            handle()
        if self._restart_at and self._restart_at <= time.monotonic():
            self._start_supervisor()
        if self._orphans_until and self._orphans_until <= time.monotonic():
            self._orphans_until = 0.0
            with suppress(ProcessLookupError):
                os.killpg(self._orphans, signal.SIGKILL)

    def _catch_signals(self) -> None:
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # a session's end is for the supervisor to hear
        self._wakeup = (reader, writer)
        self._selector.register(reader, selectors.EVENT_READ, self._reap)

    # The supervisor

    def _start_supervisor(self) -> None:
        self._restart_at = 0.0
        if self._supervisor or self._orphans:
            return
        self._started_at = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "pinnace.cluster.supervisor", str(self._profile.directory)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=os.environ | {LISTEN_FDS: str(self._listener)},
            pass_fds=(self._listener,),
        )
        self._supervisor = process.pid
        process.returncode = 0  # `_reap` sees its end

    def _reap(self) -> None:
        """All that ends in these namespaces and has lost its parent is ours."""
        self._wakeup[0].recv(64)
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                if pid == self._supervisor:
                    self._supervisor = 0
                    self._mourn(pid, os.waitstatus_to_exitcode(status))
        if self._orphans and not _has_members(self._orphans):
            self._orphans, self._orphans_until = 0, 0.0
            self._restart_at = time.monotonic() + self._backoff
            self._backoff = min(self._backoff * 2, MAX_BACKOFF)

    def _mourn(self, pid: int, code: int) -> None:
        """A supervisor that was told to end, or was not needed, has ended for good; else another one shall follow."""
        if code in (0, NOT_NEEDED) or not self._profile.supervisor_permit.exists():
            self._backoff = FIRST_BACKOFF
            return
        if time.monotonic() - self._started_at > STEADY_AFTER:
            self._backoff = FIRST_BACKOFF
        self._orphans, self._orphans_until = pid, time.monotonic() + ORPHANS_TIMEOUT

    # Guests

    def _open_door(self) -> socket.socket:
        path = self._profile.namespaces_socket
        path.unlink(missing_ok=True)
        door = socket.socket(socket.AF_UNIX)
        door.bind(str(path))
        path.chmod(0o600)
        door.listen(16)
        door.setblocking(False)
        self._inode = path.stat().st_ino
        self._selector.register(door, selectors.EVENT_READ, self._welcome)
        return door

    def _welcome(self) -> None:
        with suppress(BlockingIOError):
            guest, _ = self._door.accept()
            guest.setblocking(False)
            with suppress(OSError):
                guest.send(self._greeting)
            self._guests += 1
            self._alone_until = 0.0
            self._selector.register(guest, selectors.EVENT_READ, lambda: self._hear(guest))

    def _hear(self, guest: socket.socket) -> None:
        with suppress(BlockingIOError, ConnectionError):
            if guest.recv(64):
                self._start_supervisor()
                return
        self._selector.unregister(guest)  # it has left
        guest.close()
        self._guests -= 1

    def _leave(self) -> None:
        """Let no more guests in, and take away what was for this life only, unless a successor is at work already."""
        self._door.close()
        run_dir, path = self._profile.run_dir, self._profile.namespaces_socket
        furniture.unmount(self._profile)
        with turns.entering(self._profile):
            if path.exists() and path.stat().st_ino != self._inode:
                return
            shutil.rmtree(run_dir, ignore_errors=True)
        for parent in (run_dir.parent, self._profile.home):
            with suppress(OSError):
                Path(parent).rmdir()  # others may live there


def _has_members(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
